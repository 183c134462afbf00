"""Actors that see beliefs and critics that see the state, for SAC and TQC of Stable-Baselines3.

Pinto et al., "Asymmetric actor critic for image-based robot learning" (RSS 2018): a critic serves training
alone, so in a simulator it may see what no camera shows.
"""

from typing import Any

import gymnasium as gym
import torch
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.sac.policies import SACPolicy

from robovae.control.vec_env import BELIEF

ACTOR, CRITIC = BELIEF, "state"
"""What each of them sees, as keys of the observation."""


class Only(BaseFeaturesExtractor):
    """One vector of a Dict observation."""

    def __init__(self, space: gym.spaces.Dict, key: str) -> None:
        super().__init__(space, gym.spaces.utils.flatdim(space[key]))
        self.key = key

    def forward(self, observations: dict[str, torch.Tensor]) -> torch.Tensor:
        """(B, F) of it."""
        return observations[self.key]


def parted(policy: type[SACPolicy]) -> type[SACPolicy]:
    """The same policy, whose actor sees `ACTOR` and whose critics see `CRITIC`."""

    class Parted(policy):  # type: ignore[valid-type, misc]
        def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> Any:
            return super().make_actor(Only(self.observation_space, ACTOR))

        def make_critic(self, features_extractor: BaseFeaturesExtractor | None = None) -> Any:
            return super().make_critic(Only(self.observation_space, CRITIC))

    return Parted
