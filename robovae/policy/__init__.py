"""Policies on beliefs: trained with Stable-Baselines3, kept in the run, and acting without it."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robovae.policy.belief_policy import BeliefPolicy as BeliefPolicy
    from robovae.policy.config import PolicyConfig as PolicyConfig
    from robovae.policy.config import PolicyError as PolicyError
    from robovae.policy.config import PolicyEvent as PolicyEvent
    from robovae.policy.training import train_policy as train_policy

_LAZY = {
    "BeliefPolicy": "belief_policy",
    "PolicyConfig": "config",
    "PolicyError": "config",
    "PolicyEvent": "config",
    "train_policy": "training",
}
"""Where public names come from: a config does without torch, and only training needs Stable-Baselines3."""


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
