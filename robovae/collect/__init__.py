"""Run a policy in environments, in parallel, into an episode store."""

from robovae.collect.config import (
    CollectConfig,
    CollectError,
    CollectEvent,
    CollectInterruptedError,
    CollectSummary,
)
from robovae.collect.driver import collect

__all__ = [
    "CollectConfig",
    "CollectError",
    "CollectEvent",
    "CollectInterruptedError",
    "CollectSummary",
    "collect",
]
