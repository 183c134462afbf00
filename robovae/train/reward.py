"""Reward prediction: latents that tell what a step was worth.

A frame's likelihood hardly cares where a target of three pixels lies exactly, but a policy does. The rewards
that were collected beside the frames tell it, so the global phase explains them too, as world models do
(Gelada et al. 2019, DeepMDP, section 3; Hafner et al. 2019, PlaNet, equation 3).
"""

import torch
from torch import Tensor, nn

_HIDDEN = 64
_LEAST = 1e-4
"""Of the variance: more of a reward need not be told."""


class RewardPrediction(nn.Module):
    """A small network that tells rewards from latents and actions; it serves training only.

    Args:
        latent_dim: D.
        action_dim: A.
        mean: of the rewards of the training data.
        std: their standard deviation, more than 0.
    """

    def __init__(self, latent_dim: int, action_dim: int, mean: float, std: float) -> None:
        super().__init__()
        self.mean, self.std = mean, std
        self.told = nn.Sequential(
            nn.Linear(2 * latent_dim + action_dim, _HIDDEN),
            nn.ReLU(),
            nn.Linear(_HIDDEN, _HIDDEN),
            nn.ReLU(),
            nn.Linear(_HIDDEN, 1),
        )

    def missed(self, z: Tensor, action: Tensor, reward: Tensor, mask: Tensor) -> Tensor:
        """Share of the rewards' variance that is not told; nothing is missed where no step is.

        Args:
            z: latents, (B, L, D).
            action: in units of its own deviation, (B, L, A); action[:, t] leads from frame t on.
            reward: of that step, (B, L).
            mask: 1 where there is a frame, (B, L).
        """
        step = mask[:, 1:] > 0
        if not step.any():
            return z.new_zeros(())
        known = torch.cat([z[:, :-1], z[:, 1:] - z[:, :-1], action[:, :-1]], dim=-1)[step]
        wanted = (reward[:, :-1][step] - self.mean) / self.std
        told: Tensor = self.told(known)
        return (wanted - told[:, 0]).square().mean()

    def forward(self, z: Tensor, action: Tensor, reward: Tensor, mask: Tensor) -> Tensor:
        """0.5 log of `missed`: minus the nats a step that a Gaussian of the error's width saves."""
        return 0.5 * torch.log(self.missed(z, action, reward, mask) + _LEAST)
