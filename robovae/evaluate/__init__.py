"""The measurements: what a model sees, what can be read off it, how predictable it is, its holes."""

from robovae.evaluate.codes import Codes, EvaluateError, encode
from robovae.evaluate.holes import HolesConfig, compare_holes
from robovae.evaluate.measure import EvaluateConfig, evaluate, evaluate_run, held_out
from robovae.evaluate.probe import Probe, ProbeConfig, joint_targets
from robovae.evaluate.smoothness import SmoothnessConfig, smoothness

__all__ = [
    "Codes",
    "EvaluateConfig",
    "EvaluateError",
    "HolesConfig",
    "Probe",
    "ProbeConfig",
    "SmoothnessConfig",
    "compare_holes",
    "encode",
    "evaluate",
    "evaluate_run",
    "held_out",
    "joint_targets",
    "smoothness",
]
