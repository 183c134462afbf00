"""Stable-Baselines3's algorithms: made from a config, and the network that acts taken out of them."""

from typing import Any

import gymnasium as gym
import numpy as np
import stable_baselines3 as sb3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.vec_env import VecEnv
from torch import nn

from robovae.device import usable_device
from robovae.policy.asymmetric import parted
from robovae.policy.config import OFF_POLICY, PolicyConfig, PolicyError
from robovae.policy.dagger import Dagger
from robovae.policy.network import Activation, Actor, Head, check_space

TRAIN_SEEDS = 9000
"""Seeds of environments in training lie below this, in the range of the train split."""


def make_learner(
    config: PolicyConfig, venv: VecEnv, steps: int = 0, teacher: Actor | None = None
) -> BaseAlgorithm:
    """A fresh learner; resumed at `steps`, it draws other numbers than at the start.

    Where observations are images, Stable-Baselines3's own convolutional network reads them; where they are
    Dicts, actor and critics see what is theirs.

    Args:
        config: how it learns.
        venv: what it learns in.
        steps: that were done before.
        teacher: of dagger.

    Raises:
        PolicyError: sb3-contrib is missing for tqc, or the actions do not suit the algorithm.
    """
    check_space(venv.action_space, box_only=config.algo in OFF_POLICY)
    config = config.filled()
    common: dict[str, Any] = {
        "policy": _policy(config, venv.observation_space),
        "env": venv,
        "learning_rate": config.learning_rate,
        "batch_size": config.batch,
        "gamma": config.gamma,
        "seed": (config.seed + steps) % TRAIN_SEEDS,
        "device": usable_device(config.device),
        # One kernel for all weights: an eighth less time an update than Adam by single operations.
        "policy_kwargs": {"net_arch": list(config.hidden or ()), "optimizer_kwargs": {"fused": True}},
    }
    if config.algo == "ppo":
        return sb3.PPO(n_steps=config.train_freq or 1, n_epochs=config.gradient_steps or 1, **common)
    if teacher is not None:
        common["teacher"] = teacher
    learner: BaseAlgorithm = _soft(config.algo)(
        train_freq=config.train_freq,
        gradient_steps=config.gradient_steps,
        learning_starts=config.learning_starts,
        buffer_size=config.buffer,
        **common,
    )
    return learner


def extract_actor(learner: BaseAlgorithm) -> Actor:
    """A copy of the network that acts.

    Raises:
        PolicyError: its weights are not finite.
    """
    policy: Any = learner.policy
    space = check_space(learner.action_space)
    head: Head
    activation: Activation
    if isinstance(learner, sb3.PPO):
        modules = [*policy.mlp_extractor.policy_net, policy.action_net]
        head, activation = ("clipped" if isinstance(space, gym.spaces.Box) else "argmax"), "tanh"
    else:
        modules = [*policy.actor.latent_pi, policy.actor.mu]
        head, activation = "squashed", "relu"
    layers = [module for module in modules if isinstance(module, nn.Linear)]
    return Actor(tuple((_copy(one.weight), _copy(one.bias)) for one in layers), activation, head, space)


def _policy(config: PolicyConfig, space: gym.Space[Any]) -> Any:
    if isinstance(space, gym.spaces.Dict):
        return parted(_soft(config.algo).policy_aliases["MultiInputPolicy"])
    return "CnnPolicy" if is_image_space(space) else "MlpPolicy"


def _copy(tensor: Any) -> Any:
    return np.array(tensor.detach().cpu().numpy(), np.float32)


def _soft(algo: str) -> Any:
    if algo == "sac":
        return sb3.SAC
    if algo == "dagger":
        return Dagger
    try:
        from sb3_contrib import TQC
    except ImportError as missing:
        raise PolicyError(
            'algo tqc: expected sb3-contrib, received none; pip install "robovae[rl]"'
        ) from missing
    return TQC
