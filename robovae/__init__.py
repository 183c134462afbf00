"""robovae: probabilistic eyes for robots. Camera frames in, beliefs (mu, sigma) out.

perceiver = robovae.load("runs/reacher")
belief = perceiver(frames)  # (B, H, W, 3) uint8 -> mu, sigma (B, D)
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robovae.belief import Belief as Belief
    from robovae.belief import Perceiver as Perceiver
    from robovae.control import BeliefFeatures as BeliefFeatures
    from robovae.control import BeliefObservation as BeliefObservation
    from robovae.control import BeliefVecEnv as BeliefVecEnv
    from robovae.control import Guard as Guard
    from robovae.dreaming import dream as dream
    from robovae.filter import BeliefFilter as BeliefFilter
    from robovae.monitor import Verdict as Verdict
    from robovae.policy import BeliefPolicy as BeliefPolicy
    from robovae.uncertainty import FrameMonitor as FrameMonitor
    from robovae.uncertainty import NotCalibratedError as NotCalibratedError

    load = Perceiver.load
    load_filter = BeliefFilter.load
    load_monitor = FrameMonitor.load
    load_policy = BeliefPolicy.load

try:
    __version__ = version("robovae")
except PackageNotFoundError:  # a bare checkout on sys.path, never installed
    __version__ = "0.0.0+checkout"

_LAZY = {
    "Belief": "robovae.belief",
    "BeliefFeatures": "robovae.control",
    "BeliefFilter": "robovae.filter",
    "BeliefObservation": "robovae.control",
    "BeliefPolicy": "robovae.policy",
    "BeliefVecEnv": "robovae.control",
    "FrameMonitor": "robovae.uncertainty",
    "Guard": "robovae.control",
    "NotCalibratedError": "robovae.uncertainty",
    "Perceiver": "robovae.belief",
    "Verdict": "robovae.monitor",
    "dream": "robovae.dreaming",
}
"""Where public names come from; only the first use imports torch, which takes seconds."""

_LOADERS = {
    "load": "Perceiver",
    "load_filter": "BeliefFilter",
    "load_monitor": "FrameMonitor",
    "load_policy": "BeliefPolicy",
}
"""Functions that read a run directory, and the classes they give."""


def __getattr__(name: str) -> Any:
    if name in _LOADERS:
        return __getattr__(_LOADERS[name]).load
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY, *_LOADERS])
