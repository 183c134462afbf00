"""A pupil that sees beliefs, taught by a policy that sees the state: dataset aggregation.

Ross, Gordon, Bagnell, "A reduction of imitation learning and structured prediction to no-regret online
learning" (AISTATS 2011): the pupil acts, so it meets its own mistakes, and in every state it learns what the
teacher would have done there. Replay buffer, networks and rollouts are those of SAC; critics learn nothing.
"""

from typing import Any

import numpy as np
import stable_baselines3 as sb3
import torch
from stable_baselines3.common.noise import ActionNoise, NormalActionNoise
from torch.nn import functional

from robovae.policy.asymmetric import CRITIC
from robovae.policy.network import Actor

_NOISE = 0.05
"""Deviation of what is added to actions, for actions in [-1, 1]: one path alone teaches little."""


class Dagger(sb3.SAC):
    """SAC whose actor is taught.

    Args:
        teacher: states in, actions out; it acts until `learning_starts`, and says what is right ever after.
        settings: of SAC, for observations {"belief", "state"}.
    """

    def __init__(self, teacher: Actor, **settings: Any) -> None:
        size = int(np.prod(teacher.space.shape or ()))
        noise = NormalActionNoise(np.zeros(size), np.full(size, _NOISE))
        super().__init__(action_noise=noise, **settings)
        self.teacher = teacher

    def train(self, gradient_steps: int, batch_size: int = 64) -> None:
        """Nearer to the teacher, by the mean square between their actions in [-1, 1]."""
        assert self.replay_buffer is not None
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.actor.optimizer)
        for _ in range(gradient_steps):
            seen: Any = self.replay_buffer.sample(batch_size).observations
            wanted = torch.from_numpy(self.policy.scale_action(self.teacher(seen[CRITIC].cpu().numpy())))
            mean, _, _ = self.actor.get_action_dist_params(seen)
            loss = functional.mse_loss(torch.tanh(mean), wanted.to(mean))
            self.actor.optimizer.zero_grad()
            loss.backward()
            self.actor.optimizer.step()
        self._n_updates += gradient_steps

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        seen: Any = self._last_obs
        if self.num_timesteps < learning_starts:
            action = self.teacher(seen[CRITIC])
        else:
            action, _ = self.predict(seen, deterministic=True)
        scaled = self.policy.scale_action(action)
        if action_noise is not None:
            scaled = np.clip(scaled + action_noise(), -1.0, 1.0).astype(scaled.dtype)
        return self.policy.unscale_action(scaled), scaled

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "teacher"]
