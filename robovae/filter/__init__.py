"""The belief filter: a belief that is carried through time, and a frame that counts for what it says."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robovae.filter.belief_filter import BeliefFilter as BeliefFilter
    from robovae.filter.config import FilterConfig as FilterConfig
    from robovae.filter.model import FILE as FILE
    from robovae.filter.model import FORM as FORM
    from robovae.filter.model import load_dynamics as load_dynamics
    from robovae.filter.model import save_dynamics as save_dynamics

_LAZY = {
    "FILE": "model",
    "FORM": "model",
    "BeliefFilter": "belief_filter",
    "FilterConfig": "config",
    "load_dynamics": "model",
    "save_dynamics": "model",
}
"""Where public names come from: calibration needs the config, and the filter what calibration makes."""


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
