"""The collecting benchmark measures what it says, pairs ratios by round, and fails in one line."""

import json
from functools import partial
from types import MappingProxyType

import gymnasium as gym
import pytest

from robovae.bench import collecting
from robovae.bench.collecting import CollectingCase, CollectingConfig, run
from robovae.errors import RobovaeError
from tests.toy_env import ToyEnv, make_toy

QUICK = CollectingConfig(seconds=0.1, rounds=1, workers=1)


class PlainToy(ToyEnv):
    """The toy as Gymnasium users have it: a vector observation and an `rgb_array` render."""

    metadata = MappingProxyType({"render_modes": ["rgb_array"], "render_fps": 30})
    render_mode = "rgb_array"

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.observation_space = self.observation_space["state"]

    def _observation(self):
        return super()._observation()["state"]


class FrameToy(gym.Wrapper):
    def frames_of(self, qpos):
        frames = []
        for self.env.position in qpos:
            frames.append(self.env.render())
        return frames


def make_plain(**kwargs):
    return PlainToy(**kwargs)


def make_ours(**kwargs):
    return FrameToy(make_toy(**kwargs))


@pytest.mark.slow
def test_measures_three_ways(tmp_path):
    case = CollectingCase("Toy-v0", make_plain, make_ours, target=0.001)
    said = []
    found = run([case], QUICK, workdir=tmp_path, on_event=said.append)
    assert [row["way"] for row in found["rows"]] == ["gymnasium", "collect", "bare"]
    assert all(row["frames_per_s"] > 10 for row in found["rows"])
    assert found["ratios"]["Toy-v0"]["target_bare"] == 0.7
    assert said == ["collecting Toy-v0"]
    json.dumps(found)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_slow_steps_show_in_stepping_and_not_in_drawing(tmp_path):
    slow = {"step_seconds": 0.01}
    case = CollectingCase("Toy-v0", partial(make_plain, **slow), partial(make_ours, **slow))
    rates = {row["way"]: row["frames_per_s"] for row in run([case], QUICK, workdir=tmp_path)["rows"]}
    assert rates["gymnasium"] < 100
    assert rates["collect"] < 106
    assert rates["bare"] > 1000


def test_ratios_are_paired_by_round():
    rates = {"gymnasium": [1.0, 10.0, 5.0], "collect": [40.0, 400.0, 200.0], "bare": [50.0, 500.0, 400.0]}
    assert collecting._ratios(rates, 40.0) == {
        "gymnasium": 40.0,
        "bare": 0.8,
        "target": 40.0,
        "target_bare": 0.7,
        "met": True,
    }
    assert not collecting._ratios(rates, 41.0)["met"]
    assert not collecting._ratios({**rates, "bare": [100.0, 1000.0, 500.0]}, 40.0)["met"]
    assert "met" not in collecting._ratios(rates, None)


def test_failure_is_one_line(tmp_path):
    case = CollectingCase("Toy-v0", partial(make_plain, fault="raise", fault_step=0), make_ours)
    with pytest.raises(RobovaeError, match="Toy-v0 cannot be measured: ") as caught:
        run([case], QUICK, workdir=tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("changes", [{"seconds": 0.0}, {"rounds": 0}, {"workers": 0}])
def test_bad_config_is_refused(changes):
    with pytest.raises(RobovaeError, match="expected seconds above 0"):
        CollectingConfig(**changes)
