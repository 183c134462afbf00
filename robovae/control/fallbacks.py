"""Who may say what a robot does: policies and fallbacks, and checks of the actions that they give."""

from collections.abc import Callable
from typing import Any, cast

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from robovae.collect.policies import rest_action
from robovae.config import nearest
from robovae.control.errors import ControlError

Floats = NDArray[np.float32]
Action = Any
"""An array of the shape of a Box, or an int of a Discrete space."""
Actor = Callable[[Floats], Action]
"""Features (F,) -> action."""

_LOUDEST = 1e6
"""Their networks saturate long before; much further on, they overflow."""

FALLBACKS = ("hold", "zero")
"""Fallbacks by name: go on with the last action, or rest."""


class Actions:
    """What a robot can be told.

    Args:
        space: Box of floats, or Discrete.

    Raises:
        ControlError: another kind of space.
    """

    def __init__(self, space: gym.Space[Any]) -> None:
        floats = isinstance(space, gym.spaces.Box) and np.issubdtype(space.dtype, np.floating)
        if not floats and not isinstance(space, gym.spaces.Discrete):
            raise ControlError(
                f"action_space: expected a Box of floats or a Discrete space, received {space}; "
                "pass action_space=env.action_space"
            )
        self.space = space
        self.rest = rest_action(space)
        """The action that asks for nothing."""
        if isinstance(space, gym.spaces.Box):  # without bounds, still finite in its own dtype
            widest = min(np.finfo(cast(Any, space.dtype)).max, np.finfo(np.float32).max)
            self._bounds = np.maximum(space.low, -widest), np.minimum(space.high, widest)

    @property
    def size(self) -> int:
        """A, numbers in `row`."""
        return int(np.prod(self.space.shape or ()))

    def row(self, action: Action) -> Floats:
        """An action as filters and monitors take it, (1, A)."""
        return np.array(action, np.float32).reshape(1, -1).clip(-_LOUDEST, _LOUDEST)

    def check(self, action: Any) -> tuple[Action | None, str]:
        """An action that the robot can be told, clipped to its bounds; or None, and what is wrong with it."""
        try:
            numbers = np.asarray(action, np.float64)
        except (TypeError, ValueError, RuntimeError, OverflowError):
            return None, f"expected numbers, received {type(action).__name__}"
        if isinstance(self.space, gym.spaces.Discrete):
            return self._choice(numbers, self.space)
        if numbers.shape != self.space.shape:
            return None, f"expected the shape {self.space.shape}, received {numbers.shape}"
        if not np.isfinite(numbers).all():
            return None, f"expected finite numbers, received {numbers.tolist()}"
        return numbers.clip(*self._bounds).astype(self.space.dtype), ""

    @staticmethod
    def _choice(numbers: NDArray[np.float64], space: gym.spaces.Discrete[Any]) -> tuple[int | None, str]:
        low, high = int(space.start), int(space.start + space.n) - 1
        if numbers.size != 1 or not low <= numbers.item() <= high or numbers.item() % 1:
            return None, f"expected a whole number from {low} to {high}, received {numbers.tolist()}"
        return int(numbers.item()), ""


def actor_of(policy: Any, name: str = "policy") -> Actor:
    """One way to ask any policy for its action.

    Args:
        policy: `.act(features (1, F)) -> (1, A)` as `BeliefPolicy` has it, Stable-Baselines3's
            `.predict(features (F,), deterministic=True)`, or a callable features (F,) -> action.
        name: what to call it in an error.

    Raises:
        ControlError: it is none of these.
    """
    if hasattr(policy, "act"):
        return lambda features: policy.act(features[None])[0]
    if hasattr(policy, "predict"):
        return lambda features: policy.predict(features, deterministic=True)[0]
    if not callable(policy):
        raise ControlError(
            f"{name}: expected .act, .predict or a callable of features, received {type(policy).__name__}"
        )
    actor: Actor = policy
    return actor


def fallback_of(fallback: Any, actions: Actions) -> Callable[[Floats, Action | None], Action]:
    """What acts when the policy must not: (features, the last action if there was one) -> action.

    Args:
        fallback: one of `FALLBACKS`, or a policy as `actor_of` takes it.
        actions: of the robot.

    Raises:
        ControlError: it is neither.
    """
    if isinstance(fallback, str):
        if fallback not in FALLBACKS:
            raise ControlError(
                f"fallback: expected {', '.join(FALLBACKS)}, a callable or a policy, received {fallback!r}; "
                f"{nearest(fallback, FALLBACKS)}"
            )
        hold = fallback == "hold"
        return lambda features, last: last if hold and last is not None else actions.rest
    actor = actor_of(fallback, "fallback")
    return lambda features, last: actor(features)
