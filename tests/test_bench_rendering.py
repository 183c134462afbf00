"""The rendering benchmark: honest rows, taken in turns, and clear errors."""

import json
import os
from functools import partial

import gymnasium as gym
import numpy as np
import pytest

from robovae.bench import rendering, turns
from robovae.bench.rendering import BARE, FAST, FULL, GYMNASIUM, RenderingCase, RenderingConfig, run
from robovae.errors import RobovaeError
from tests.toy_env import make_toy

QUICK = RenderingConfig(seconds=0.02, rounds=2)


class Drawn(gym.Wrapper):
    """Adds to a toy what the benchmark asks of the ways: its own render, and frames without steps."""

    def render(self):
        return self.frame()

    def frame(self):
        return np.zeros((8, 8, 3), np.uint8)


def drawn():
    return Drawn(make_toy(max_steps=5))


def broken():
    raise OSError("no such toy")


def dying():
    os._exit(3)


def test_every_way_gets_a_row_beside_gymnasiums():
    said = []
    found = run([RenderingCase("toy", drawn, drawn, drawn)], QUICK, said.append)
    assert json.loads(json.dumps(found)) == found
    assert [row["way"] for row in found["rows"]] == [GYMNASIUM, FULL, FAST, BARE]
    for row in found["rows"]:
        assert 0 < row["low"] <= row["frames_per_s"] <= row["high"]
    assert found["rows"][0]["times_gymnasium"] == 1.0
    assert said == ["drawing toy"]


def test_rows_compare_round_by_round():
    row = rendering._row("toy", FAST, [10.0, 40.0, 90.0], [1.0, 2.0, 3.0])
    assert (row["frames_per_s"], row["low"], row["high"]) == (40.0, 10.0, 90.0)
    assert row["times_gymnasium"] == 20.0


def test_gymnasium_keeps_mesas_own_threads(monkeypatch):
    monkeypatch.setenv("LP_NUM_THREADS", "0")
    with turns._environment({}):
        assert "LP_NUM_THREADS" not in os.environ
    with turns._environment(rendering.OURS):
        assert os.environ["LP_NUM_THREADS"] == "0"
    assert os.environ["LP_NUM_THREADS"] == "0"


@pytest.mark.parametrize(
    ("make", "message"), [(broken, "cannot be measured: OSError: no such toy"), (dying, "died while drawing")]
)
def test_a_way_that_fails_is_named(make, message):
    with pytest.raises(RobovaeError, match=rf"toy \(full\).*{message}"):
        run([RenderingCase("toy", drawn, make, drawn)], QUICK)


@pytest.mark.parametrize("values", [{"seconds": 0.0}, {"rounds": 0}, {"seconds": float("nan")}])
def test_no_time_to_measure_is_refused(values):
    with pytest.raises(RobovaeError, match="expected seconds above 0 and at least one round"):
        RenderingConfig(**values)


@pytest.mark.gl
@pytest.mark.slow
def test_fast_frames_come_many_times_as_fast_as_gymnasiums():
    from robovae_envs.camera import RenderSpec, make

    name = "HalfCheetah-v5"
    case = RenderingCase(
        name,
        partial(gym.make, name, render_mode="rgb_array", width=64, height=64),
        partial(make, name, RenderSpec.full(name)),
        partial(make, name, RenderSpec.fast(name)),
    )
    rows = {row["way"]: row for row in run([case], RenderingConfig(seconds=0.5, rounds=3))["rows"]}
    assert rows[FAST]["times_gymnasium"] > 20  # the target, 40, is for a machine that does nothing else
    assert rows[FAST]["frames_per_s"] > 0.5 * rows[BARE]["frames_per_s"]
