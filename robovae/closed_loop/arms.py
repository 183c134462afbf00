"""Arms: who acts. Each takes observations {"image", "state"} and gives actions, and says how it did so."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any, Literal, Protocol

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from robovae.belief import Belief
from robovae.collect.policies import rest_action

Floats = NDArray[np.float32]
Frames = NDArray[np.uint8]
Observation = Mapping[str, Any]
Mode = Literal["policy", "coast", "fallback"]
BLIND = ("state", "zero", "random", "fallback")
"""Names of the arms that look at no frame, so that no fault can change what they do."""


class Sees(Protocol):
    """A policy, as `robovae.policy.BeliefPolicy` is."""

    def reset(self) -> None:
        """An episode begins."""

    def __call__(self, seen: Any, /) -> Any:
        """A frame (H, W, 3), its `Belief`, or a state (S,) -> an action."""


class Judges(Protocol):
    """What the guard says of a frame."""

    @property
    def alarm(self) -> bool:
        """Whether the alarm stands."""


class Guards(Protocol):
    """A guard around a policy, as `robovae.control.Guard` is."""

    @property
    def mode(self) -> str:
        """How the last action came about: a `Mode`."""

    def reset(self) -> None:
        """An episode begins."""

    def act(self, frame: Frames, trusted: bool | None = None) -> tuple[Any, Judges]:
        """A frame -> an action and a verdict; `trusted`, where it is given, stands in for the gate's."""


class Arm(ABC):
    """Who acts.

    Attributes:
        mode: how the last action came about.
        alarm: whether the arm's alarm stands.
    """

    mode: str = "policy"
    alarm: bool = False

    @abstractmethod
    def reset(self, seed: int) -> None:
        """An episode of this seed begins."""

    @abstractmethod
    def act(self, observation: Observation, flag: bool) -> Any:
        """The next action; `flag` is the truth about this frame, and only the oracle may look at it."""


class Reflex(Arm):
    """A policy that acts on whatever it is shown.

    Args:
        policy: owns whatever memory it needs.
        look: what it is shown of an observation.
    """

    def __init__(self, policy: Sees, look: Callable[[Observation], Any] = itemgetter("image")) -> None:
        self._policy, self._look = policy, look

    def reset(self, seed: int) -> None:
        """An episode begins."""
        self._policy.reset()

    def act(self, observation: Observation, flag: bool) -> Any:
        """What the policy says."""
        return self._policy(self._look(observation))


class Guarded(Arm):
    """A policy under the guard.

    Args:
        guard: around the policy.
        oracle: whether the truth about a fault takes the place of the gate.
    """

    def __init__(self, guard: Guards, *, oracle: bool = False) -> None:
        self._guard, self._oracle = guard, oracle

    def reset(self, seed: int) -> None:
        """An episode begins."""
        self._guard.reset()
        self.mode, self.alarm = "policy", False

    def act(self, observation: Observation, flag: bool) -> Any:
        """What the guard makes of it."""
        action, verdict = self._guard.act(observation["image"], trusted=not flag if self._oracle else None)
        self.mode, self.alarm = self._guard.mode, bool(verdict.alarm)
        return action


class Still(Arm):
    """No action; under `mode` "fallback" it is a guard that never trusted: nothing to hold but rest."""

    def __init__(self, space: gym.Space[Any], mode: Mode = "policy") -> None:
        self._action, self.mode = rest_action(space), mode

    def reset(self, seed: int) -> None:
        """Nothing to prepare."""

    def act(self, observation: Observation, flag: bool) -> Any:
        """Rest."""
        return self._action


class Random(Arm):
    """Any action, afresh each step, as likely as any other."""

    def __init__(self, space: gym.Space[Any]) -> None:
        self._space = space

    def reset(self, seed: int) -> None:
        """Start afresh from the seed of the episode."""
        self._space.seed(seed)

    def act(self, observation: Observation, flag: bool) -> Any:
        """One of the actions."""
        return self._space.sample()


def constant_sigma(perceive: Callable[[Frames], Belief], sigma: Floats) -> Callable[[Observation], Belief]:
    """Beliefs of frames with the same sigma (D,) always, so that all frames count alike.

    Args:
        perceive: frames to beliefs, whose means are taken.
        sigma: (D,).
    """

    def look(observation: Observation) -> Belief:
        mu = perceive(observation["image"][None]).mu
        return Belief(mu, np.broadcast_to(sigma, mu.shape))

    return look
