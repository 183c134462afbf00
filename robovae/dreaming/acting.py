"""Who acts in a dream: recorded actions, a policy of this project, or any callable."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robovae.belief import Belief
from robovae.control import FEATURES, BeliefFeatures
from robovae.control.features import RecentActions, filtered_features
from robovae.dreaming.errors import DreamError

Floats = NDArray[np.float32]


@runtime_checkable
class ActsOnFeatures(Protocol):
    """What is needed of a `BeliefPolicy`."""

    features: str
    stack: int

    def act(self, x: Floats) -> NDArray[Any]:
        """Features (B, F) -> actions (B, A)."""


Policy = ActsOnFeatures | Callable[[Floats], ArrayLike] | NDArray[Any]
"""A `BeliefPolicy`; a callable, features (F,) -> action (A,); or the actions themselves, (steps, A)."""


class Actor(Protocol):
    """Follows beliefs, and acts on the last one."""

    def follow(
        self, belief: Belief, memory: Floats, action: Floats | None = None, frame: Belief | None = None
    ) -> None:
        """Take in the next belief, (1, D), and what the dynamics remember with it, (1, M).

        Args:
            belief: filtered, or dreamt.
            memory: of the dynamics.
            action: what led there, (A,); nothing leads to the first belief.
            frame: what the frame says on its own, where there is one.
        """

    def act(self) -> Floats:
        """The action (A,) at the last belief."""


class Replay:
    """Acts as was written down, whatever it sees."""

    def __init__(self, actions: Floats) -> None:
        self._rows = iter(actions)

    def follow(
        self, belief: Belief, memory: Floats, action: Floats | None = None, frame: Belief | None = None
    ) -> None:
        """Nothing to see."""

    def act(self) -> Floats:
        """The next action."""
        return next(self._rows)


class Responder:
    """Asks a policy, and shows it the features that it knows.

    Args:
        policy: features (F,) -> action (A,).
        features: one of `robovae.control.FEATURES`.
        stack: how many beliefs it sees at once.
        action_scale: usual size of each action that is expected, (A,).
    """

    def __init__(
        self, policy: Callable[[Floats], ArrayLike], features: str, stack: int, action_scale: Floats
    ) -> None:
        self._policy, self._features, self._stack = policy, features, stack
        self._action_dim, self._actions = len(action_scale), RecentActions(action_scale)
        self._seen: BeliefFeatures | None = None
        self._shown = np.zeros(0, np.float32)

    def follow(
        self, belief: Belief, memory: Floats, action: Floats | None = None, frame: Belief | None = None
    ) -> None:
        """See what a loop would show: "filtered" the belief, which is filtered, others the frame's own."""
        filtered = self._features == "filtered"
        seen = belief if filtered or frame is None else frame
        if self._seen is None:
            kind, depth = ("mu", max(self._stack, 2)) if filtered else (self._features, self._stack)
            self._seen = BeliefFeatures(seen.mu.shape[1], kind, depth)
            shown = self._seen.begin(seen)
            self._actions.begin(1)
        else:
            shown = self._seen.update(seen)
        if action is not None:
            self._actions.add(action[None])
        if filtered:
            means = shown.reshape(1, self._seen.stack, -1)
            shown = filtered_features(means, memory if self._stack == 1 else None, self._actions.seen)
        self._shown = shown[0]

    def act(self) -> Floats:
        """Ask.

        Raises:
            DreamError: an action of another width, or not finite.
        """
        return checked(
            np.atleast_1d(np.asarray(self._policy(self._shown), np.float32)), (self._action_dim,), "policy"
        )


def actor(policy: Policy, steps: int, action_scale: Floats, features: str, stack: int) -> Actor:
    """Who acts for a policy in any of its forms.

    Args:
        policy: see `Policy`.
        steps: how many actions it will be asked for.
        action_scale: usual size of each action, (A,).
        features: what a bare callable sees; a `BeliefPolicy` knows its own.
        stack: the same of the number of beliefs.

    Raises:
        DreamError: actions of another number or width, or not finite; no policy at all; unknown features, or
            a stack of none.
    """
    if isinstance(policy, ActsOnFeatures):
        act = policy.act
        return actor(lambda x: act(x[None])[0], steps, action_scale, policy.features, policy.stack)
    if callable(policy):
        if features not in FEATURES:
            raise DreamError(
                f"features: expected one of {', '.join(FEATURES)}, received {features!r}; "
                "give a policy that acts on beliefs"
            )
        if stack < 1:
            raise DreamError(f"stack: expected 1 or more, received {stack}")
        return Responder(policy, features, stack, action_scale)
    if not isinstance(policy, np.ndarray):
        raise DreamError(
            f"policy: expected a BeliefPolicy, a callable or an array of actions, received "
            f"{type(policy).__name__}; pass robovae.load_policy(run)"
        )
    return Replay(checked(policy, (steps, len(action_scale)), "actions"))


def checked(actions: NDArray[Any], shape: tuple[int, ...], what: str) -> Floats:
    """Actions as float32.

    Raises:
        DreamError: another shape, or not finite.
    """
    if actions.shape != shape:
        raise DreamError(
            f"{what}: expected actions {shape}, received {actions.shape}; give those of the run's robot"
        )
    if not np.isfinite(actions).all():
        raise DreamError(f"{what}: expected finite actions, received NaN or infinity; mend what made them")
    return actions.astype(np.float32)
