"""BeliefPolicy: a trained policy of a run acts on frames; without Stable-Baselines3, without pickle."""

from os import PathLike
from pathlib import Path
from typing import Any, Self

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from robovae.belief import Belief, Perceiver
from robovae.control.features import BeliefFeatures
from robovae.filter import BeliefFilter
from robovae.frames import FrameError
from robovae.policy.config import PolicyError
from robovae.policy.network import Actor, Floats, Space
from robovae.policy.saving import fingerprints, load_policy, policy_dir


class BeliefPolicy:
    """Acts on what a camera sees: `policy.reset()`, then `action = policy(frame)` once a step.

    Args:
        actor: features in, actions out.
        perceiver: of the run; None for a policy on the environment's own state.
        features: what the actor sees of beliefs; see `BeliefFeatures`.
        stack: how many beliefs at once.
        belief_filter: of the run, for "filtered".

    Raises:
        PolicyError: the actor takes features of another width.
    """

    def __init__(
        self,
        actor: Actor,
        perceiver: Perceiver | None = None,
        features: str = "filtered",
        stack: int = 1,
        belief_filter: BeliefFilter | None = None,
    ) -> None:
        self.actor, self.perceiver, self.belief_filter = actor, perceiver, belief_filter
        self.features, self.stack = features if perceiver else "state", stack
        self._seen: BeliefFeatures | None = None
        if perceiver is not None:
            self._seen = BeliefFeatures(perceiver.latent_dim, features, stack, belief_filter)
            if self._seen.size != actor.size:
                raise PolicyError(
                    f"policy: expected {self._seen.size} features ({features}), received a network of "
                    f"{actor.size}; train it again with `robovae policy`"
                )
        self.reset()

    @classmethod
    def load(cls, run: str | PathLike[str], name: str = "") -> Self:
        """Read a policy of a run directory.

        Args:
            run: the directory.
            name: of the policy; "" is the unnamed one.

        Raises:
            PolicyError: there is no such policy, or it learnt on other weights or with another filter.
            RunError: the run has no model, or a file is damaged.
            NotCalibratedError: the run has lost its calibration or its filter.
        """
        path = Path(run)
        where = policy_dir(path, name)
        actor, record = load_policy(where)
        if record["observation"] == "state":
            return cls(actor)
        features, stack = record["features"], record["stack"]
        perceiver = Perceiver.load(path)
        belief_filter = BeliefFilter.load(path) if features == "filtered" else None
        for part, now in fingerprints(path, features).items():
            if record.get(part) != now:
                raise PolicyError(
                    f"{where}: expected a policy that learnt with the {_PARTS[part]} of this run, received "
                    f"one of another; train it again with `robovae policy {path}`"
                )
        return cls(actor, perceiver, features, stack, belief_filter)

    def __repr__(self) -> str:
        return f"BeliefPolicy({self.features}, {self.actor!r})"

    @property
    def action_space(self) -> Space:
        """Box, or Discrete."""
        return self.actor.space

    def check_action_space(self, space: gym.Space[Any]) -> None:
        """Refuse an environment with other actions.

        Raises:
            PolicyError: its action space is not the one that the policy learnt in.
        """
        if space != self.action_space:
            raise PolicyError(
                f"action space: expected {self.action_space}, which the policy learnt in, received {space}; "
                "use the environment that it was trained on"
            )

    def act(self, x: Floats) -> NDArray[Any]:
        """Deterministic actions for features (B, F): (B, A) of a Box, (B,) of a Discrete space.

        Raises:
            PolicyError: features of another width.
        """
        return self.actor(x)

    def reset(self) -> None:
        """A new episode begins."""
        self._last: NDArray[Any] | None = None
        if self._seen is not None:
            self._seen.reset()

    def __call__(self, seen: NDArray[Any] | Belief) -> Any:
        """The action for what is seen now: (A,) of a Box, an integer of a Discrete space.

        Args:
            seen: a frame (H, W, 3) uint8 or its belief, mu (1, D); of a policy on the state, the state (S,).

        Raises:
            FrameError: a frame of another shape or dtype than the run was trained on.
            PolicyError: a state of another width.
        """
        self._last = self.act(self._features_of(seen))
        action = self._last[0]
        return int(action) if isinstance(self.action_space, gym.spaces.Discrete) else action

    def acted(self, action: Any) -> None:
        """Tell that another action was taken than it said, for its filter predicts from what was done.

        Args:
            action: (A,) of a Box, an integer of a Discrete space.
        """
        self._last = np.asarray(action)[None]

    def _features_of(self, seen: NDArray[Any] | Belief) -> Floats:
        if self._seen is None or self.perceiver is None:
            return np.asarray(seen, np.float32).reshape(1, -1)
        if not isinstance(seen, Belief):
            if not isinstance(seen, np.ndarray) or seen.ndim != 3:
                raise FrameError(
                    f"expected one frame (H, W, 3), received {np.shape(seen)}; pass frames one by one"
                )
            seen = self.perceiver(seen[None])
        return self._seen.begin(seen) if self._last is None else self._seen.update(seen, self._last)


_PARTS = {"model": "weights", "filter": "filter", "calibrated": "calibration"}
"""Names of fingerprints, for people."""
