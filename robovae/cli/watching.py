"""The monitor of a calibrated run at work: false alarms, detection, and pictures that are no robot."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from robovae.cli.console import progress
from robovae.cli.trial import Trial, photograph_crops
from robovae.cli.verdicts import NOMINAL
from robovae.judge import Footage
from robovae.judge.battery import BatteryConfig, battery
from robovae.judge.cells import FaultFacts
from robovae.judge.sanity import made_up_pictures, sanity

NOMINAL_EPISODES = 20
"""Whose frames stand beside the pictures."""
PICTURES = 200
"""Of white noise and of photographs."""


def watched(trial: Trial, faults: Mapping[str, FaultFacts], config: BatteryConfig) -> dict[str, Any]:
    """What `battery` returns, with progress; episodes no longer than those of the calibration."""
    config = replace(config, steps=min(config.steps, trial.steps))
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
