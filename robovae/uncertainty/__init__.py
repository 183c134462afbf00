"""Sigma that is true, and scores of strangeness: what `robovae calibrate` adds to a trained run."""

from robovae.uncertainty.calibrate import FORMATS, calibrate_run
from robovae.uncertainty.config import CalibrateConfig, CalibrateEvent
from robovae.uncertainty.following import TEMPORAL
from robovae.uncertainty.frame_monitor import FrameMonitor
from robovae.uncertainty.model import Uncertainty, load_uncertainty
from robovae.uncertainty.part import NotCalibratedError
from robovae.uncertainty.scores import SCORES
from robovae.uncertainty.scoring import Scorer

__all__ = [
    "FORMATS",
    "SCORES",
    "TEMPORAL",
    "CalibrateConfig",
    "CalibrateEvent",
    "FrameMonitor",
    "NotCalibratedError",
    "Scorer",
    "Uncertainty",
    "calibrate_run",
    "load_uncertainty",
]
