"""Frames spoilt on purpose: when, in how many ways, and that nothing else changes."""

import numpy as np
import pytest

from robovae.control.bursts import Bursts
from robovae.control.corrupter import Corrupter, corrupted

N, SIDE, STEPS = 3, 16, 400


@pytest.fixture
def frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (N, SIDE, SIDE, 3), dtype=np.uint8)


def rngs(seed: int) -> list[np.random.Generator]:
    return np.random.default_rng(seed).spawn(N)


def spoilt(bursts: Bursts, frames: np.ndarray, seed: int = 0) -> np.ndarray:
    corrupter = Corrupter(bursts, rngs(seed))
    return np.stack([corrupter(frames) for _ in range(STEPS)])


def test_frames_fail_when_the_bursts_say_so_and_keep_one_way_for_as_long(frames) -> None:
    found = spoilt(Bursts(0.4, 8), frames)
    # The ways are drawn between the steps of the bursts, so only their law can be compared.
    failing = (found != frames).any((2, 3, 4))
    assert failing[1:].mean() == pytest.approx(0.4, abs=0.08)
    assert not failing[0].any()
    same = (found[1:] == found[:-1]).all((2, 3, 4))[failing[1:] & failing[:-1]]
    assert same.all()
    ways = {found[step, row].tobytes() for step in range(STEPS) for row in range(N) if failing[step, row]}
    assert len(ways) > 50  # negative control of the line before: the next burst looks otherwise


def test_the_seed_decides_and_the_frames_stay_as_they_were(frames) -> None:
    before = frames.copy()
    assert (spoilt(Bursts(0.4, 8), frames) == spoilt(Bursts(0.4, 8), frames)).all()
    assert (spoilt(Bursts(0.4, 8), frames) != spoilt(Bursts(0.4, 8), frames, seed=1)).any()
    assert (frames == before).all()


def test_without_bursts_nothing_fails(frames) -> None:
    assert (spoilt(Bursts(0.0, 8), frames) == frames).all()


def test_a_way_is_a_function_of_its_seed(frames) -> None:
    mine, other = frames[:2]
    assert (corrupted(mine, other, 5) == corrupted(mine, other, 5)).all()
    assert len({corrupted(mine, other, way).tobytes() for way in range(8)}) > 4
