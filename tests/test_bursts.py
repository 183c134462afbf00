"""Bursts: the share that was asked for, whole bursts with gaps between them, and never step 0."""

from itertools import groupby, islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robovae.control import Bursts, ControlError


def runs(failing: np.ndarray) -> list[tuple[bool, int]]:
    return [(bool(value), len(list(group))) for value, group in groupby(failing.tolist())]


def long_draw(bursts: Bursts, steps: int = 100_000) -> np.ndarray:
    return bursts.draw(steps, np.random.default_rng(0))


@st.composite
def valid_bursts(draw) -> Bursts:
    longest = draw(st.integers(1, 30))
    most = (1 + longest) / (3 + longest)
    return Bursts(draw(st.floats(0.0, most)), longest)


@given(valid_bursts(), st.integers(0, 200), st.integers(0, 2**32))
def test_step_0_never_fails_and_no_burst_is_too_long(bursts: Bursts, steps: int, seed: int) -> None:
    drawn = bursts.draw(steps, np.random.default_rng(seed))
    assert drawn.shape == (steps,)
    assert drawn.dtype == np.bool_
    assert not drawn[:1].any()
    assert all(length <= bursts.longest for failing, length in runs(drawn) if failing)


@settings(max_examples=20)
@given(valid_bursts(), st.integers(0, 2**32))
def test_a_draw_is_the_beginning_of_the_stream(bursts: Bursts, seed: int) -> None:
    drawn = bursts.draw(60, np.random.default_rng(seed))
    assert drawn.tolist() == list(islice(bursts.stream(np.random.default_rng(seed)), 60))


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.9])
def test_a_long_run_fails_for_the_share_asked_for(share: float) -> None:
    assert long_draw(Bursts(share, 20)).mean() == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_short_episodes_fail_as_often_from_their_second_step_on(share: float) -> None:
    rng = np.random.default_rng(0)
    drawn = np.stack([Bursts(share, 20).draw(30, rng) for _ in range(4000)])
    by_step = drawn[:, 1:].mean(0)
    assert np.abs(by_step - share).max() < 0.035  # over four standard errors of a step's mean


def test_lengths_of_bursts_are_uniform_and_gaps_geometric() -> None:
    found = runs(long_draw(Bursts(0.25, 4), 200_000))[1:-1]
    bursts = np.array([length for failing, length in found if failing])
    np.testing.assert_allclose(np.bincount(bursts)[1:] / len(bursts), 0.25, atol=0.01)
    gaps = np.array([length for failing, length in found if not failing])
    mean = 2.5 * 0.75 / 0.25
    assert gaps.mean() == pytest.approx(mean, rel=0.03)
    assert (gaps == 1).mean() == pytest.approx(1 / mean, abs=0.01)


def test_nothing_fails_at_share_0_and_every_other_step_at_the_densest_single_ones() -> None:
    assert not long_draw(Bursts(0.0), 500).any()
    assert long_draw(Bursts(0.5, 1), 500).sum() in (249, 250)


@pytest.mark.parametrize("longest", range(1, 60))
def test_the_least_and_the_largest_share_can_be_drawn(longest: int) -> None:
    most = (1 + longest) / 2 / ((1 + longest) / 2 + 1.0)
    for share in (5e-324, most):
        assert abs(long_draw(Bursts(share, longest), 3000).mean() - share) < 0.06


@pytest.mark.parametrize(
    ("share", "longest", "message"),
    [
        (-0.1, 20, "share: expected 0 to 0.913 with bursts of 1 to 20 steps, received -0.1"),
        (0.92, 20, "received 0.92; lower it or allow longer bursts"),
        (float("nan"), 20, "received nan"),
        (0.6, 1, "share: expected 0 to 0.5"),
        (0.25, 0, "longest: expected 1 step or more, received 0"),
    ],
)
def test_what_cannot_be_drawn_is_refused(share: float, longest: int, message: str) -> None:
    with pytest.raises(ControlError, match=message):
        Bursts(share, longest)
