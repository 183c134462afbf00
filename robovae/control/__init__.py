"""Beliefs in the loop: what a policy sees of them, and the guard that acts when frames go bad."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robovae.control.bursts import Bursts as Bursts
    from robovae.control.errors import ControlError as ControlError
    from robovae.control.features import FEATURES as FEATURES
    from robovae.control.features import BeliefFeatures as BeliefFeatures
    from robovae.control.guard import Guard as Guard
    from robovae.control.observation import BeliefObservation as BeliefObservation
    from robovae.control.vec_env import BeliefVecEnv as BeliefVecEnv

_LAZY = {
    "FEATURES": "features",
    "BeliefFeatures": "features",
    "BeliefObservation": "observation",
    "BeliefVecEnv": "vec_env",
    "Bursts": "bursts",
    "ControlError": "errors",
    "Guard": "guard",
}
"""Where public names come from: bursts do without torch, and only `BeliefVecEnv` needs Stable-Baselines3."""


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
