"""The monitor of a calibrated run at work: false alarms, detection, and pictures that are no robot."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import cv2
import numpy as np

from robovae.cli.console import progress
from robovae.cli.trial import Trial
from robovae.cli.verdicts import NOMINAL
from robovae.judge import Footage
from robovae.judge.battery import BatteryConfig, battery
from robovae.judge.cells import FaultFacts
from robovae.judge.footage import Frames
from robovae.judge.sanity import made_up_pictures, sanity

NOMINAL_EPISODES = 20
"""Whose frames stand beside the pictures."""
PICTURES = 200
"""Of white noise and of photographs."""


def watched(trial: Trial, faults: Mapping[str, FaultFacts], config: BatteryConfig) -> dict[str, Any]:
    """What `battery` returns, with progress: episodes no longer than the calibration's, its policy first."""
    policies = tuple(dict.fromkeys((trial.policy, *config.policies)))
    config = replace(config, steps=min(config.steps, trial.steps), policies=policies)
    cache = trial.run / "judge" / "traces"
    with progress("watching") as update:
        return battery(trial.monitor, trial.make_env, faults, trial.step_seconds, config, update, cache)


def pictures(trial: Trial) -> list[dict[str, Any]]:
    """Sanity rows, see `sanity`, nominal frames first."""
    rng, shape = np.random.default_rng(0), trial.total.frame_shape
    shown = {NOMINAL: usual(trial).frames[:PICTURES], **made_up_pictures(shape, PICTURES, rng)}
    photographs = photograph_crops(shape, PICTURES, rng)
    if photographs is not None:
        shown["photographs"] = photographs
    return sanity(trial.monitor, trial.total, shown)


def usual(trial: Trial) -> Footage:
    """Some nominal episodes of the test split."""
    return trial.footage("test", NOMINAL_EPISODES, trial.steps)


def photograph_crops(shape: tuple[int, int, int], count: int, rng: np.random.Generator) -> Frames | None:
    """Random squares of real photographs, (count, H, W, 3); None where no package carries any.

    They are photographs and no robot frames; the texture fault shows the same ones.
    """
    from robovae_envs.faults import FaultError
    from robovae_envs.faults.photographs import photographs

    try:
        found = photographs()
    except FaultError:
        return None
    crops = []
    for number in range(count):
        picture = found[number % len(found)]
        side = int(rng.integers(min(picture.shape[:2]) // 4, min(picture.shape[:2]) + 1))
        top, left = (int(rng.integers(size - side + 1)) for size in picture.shape[:2])
        crop = picture[top : top + side, left : left + side]
        crops.append(cv2.resize(crop, shape[1::-1], interpolation=cv2.INTER_AREA))
    return np.stack(crops)
