"""A trained policy as one that `robovae collect` can run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
from numpy.typing import NDArray

from robovae.policy.belief_policy import BeliefPolicy
from robovae.policy.senses import check_camera


class RunPolicy:
    """The trained policy of a run, on what its camera shows; deterministic.

    Args:
        where: RUN/policy or RUN/policy-NAME.
        env: with the camera of the run.

    Raises:
        PolicyError: it is of another run, another action space or another camera.
        RunError: it is damaged.
    """

    looks = True

    def __init__(self, where: Path, env: gym.Env[Any, Any]) -> None:
        self.policy = BeliefPolicy.load(where.parent, where.name.removeprefix("policy").removeprefix("-"))
        self.policy.check_action_space(env.action_space)
        self.sees = "state" if self.policy.perceiver is None else "image"
        if self.policy.perceiver is not None:
            check_camera(env, self.policy.perceiver)

    def reset(self, seed: int) -> None:
        """A new episode begins; nothing is random."""
        self.policy.reset()

    def __call__(self, observation: Mapping[str, NDArray[Any]]) -> Any:
        """The action for the present frame."""
        return self.policy(observation[self.sees])

    def acted(self, action: Any) -> None:
        """Another action was taken in its place; see `BeliefPolicy.acted`."""
        self.policy.acted(action)
