"""What the two phases minimise: minus the bound, in nats a frame."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from robovae.dynamics import TemporalPrior
from robovae.elbo import free_bits, optimal_log_likelihood
from robovae.gaussian import Gaussian, kl
from robovae.train.config import TrainConfig
from robovae.train.foresight import Foresight
from robovae.train.reward import RewardPrediction
from robovae.vae import VAE


class Loss(NamedTuple):
    """One update's objective and what progress shows of it."""

    total: Tensor
    """Scalar, nats a frame; this is differentiated."""
    by_frame: Tensor
    """(B,) finite where the frame is sound: tells which frame broke the loss."""
    shown: dict[str, Tensor]
    """Scalars for the progress line."""


class LocalObjective(nn.Module):
    """-E[log p(x|grid)] + KL(q(grid|x) || N(0, I)) on single frames.

    Args:
        model: its local level is trained; the global level must not require gradients.
        floor: free bits.
    """

    def __init__(self, model: VAE, floor: float) -> None:
        super().__init__()
        self.model = model
        self.floor = floor

    def forward(self, images: Tensor, noise: Tensor, weight: float) -> Loss:
        """Images (B, 3, H, W), noise (B, c, h, w), weight of the KL -> Loss."""
        model = self.model
        local = model.encode_local(images)
        if model.config.deterministic:
            grid, nats = local.mu, torch.zeros_like(local.mu)
        else:
            grid, nats = local.sample(noise), kl(local, Gaussian.standard(local.mu))
        decoded = model.decode_grid(grid)
        likelihood = optimal_log_likelihood(images, decoded)
        error = (images - decoded).detach().square().flatten(1).mean(1)
        shown = {"mse": error.mean(), "local_kl": nats.detach().flatten(1).sum(1).mean()}
        return Loss(
            weight * free_bits(nats, self.floor) - likelihood, error + nats.detach().flatten(1).sum(1), shown
        )


class GlobalObjective(nn.Module):
    """KL(q(grid|x) || p(grid|z)) + KL(q(z|.) || p(z_t | z_<t, a_<t)) on windows, the local level as it is.

    Args:
        model: its global level is trained; the local level must not require gradients.
        dynamics: the temporal prior, trained along.
        config: its weights and floors.
        rewards: mean and standard deviation of the training data's.
    """

    def __init__(
        self, model: VAE, dynamics: TemporalPrior, config: TrainConfig, rewards: tuple[float, float]
    ) -> None:
        super().__init__()
        self.model, self.dynamics, self.config = model, dynamics, config
        self.foresight: Foresight | None = None
        self.reward: RewardPrediction | None = None
        sizes = model.config.latent_dim, dynamics.action_scale.numel()
        with torch.random.fork_rng():  # the same first weights, whatever was drawn before
            torch.manual_seed(config.seed)
            if config.foresight and not model.config.deterministic:
                self.foresight = Foresight(*sizes, model.config.dynamics_hidden)
            if config.reward and rewards[1] > 0:
                self.reward = RewardPrediction(*sizes, *rewards)

    def forward(
        self,
        local: Gaussian,
        action: Tensor,
        reward: Tensor,
        mask: Tensor,
        noise: Tensor,
        weight: float,
    ) -> Loss:
        """Score windows.

        Args:
            local: q(grid | x), (B * L, c, h, w).
            action: (B, L, A).
            reward: (B, L).
            mask: (B, L), 1 where there is a frame.
            noise: standard normal draws, (B, L, D).
            weight: of the global KL.
        """
        model, (batch, length) = self.model, mask.shape
        belief = model.encode_global(local.mu)
        lone = belief.map(lambda part: part.view(batch, length, -1))
        if model.config.deterministic:
            z, nats = belief.mu, torch.zeros_like(belief.mu)
            local_nats = deterministic_misfit(model, z, local.mu)
        else:
            rollout = self.dynamics.rollout(lone, action, noise)
            z, nats = rollout.z.flatten(0, 1), kl(rollout.posterior, rollout.prior).flatten(0, 1)
            local_nats = kl(local, model.predict_grid(z))
        local_nats = local_nats.flatten(1).sum(1)
        here = mask.flatten() > 0
        by_frame = torch.where(here, local_nats.detach() + nats.detach().sum(1), torch.zeros(()))
        local_kl = local_nats[here].mean()
        total = local_kl + weight * free_bits(nats[here], self.config.free_bits)
        forces = action / self.dynamics.action_scale
        if self.foresight is not None:
            total = total + self.config.foresight * self.foresight(lone, forces, mask)
        if self.reward is not None:
            told = self.reward(z.view(batch, length, -1), forces, reward, mask)
            total = total + self.config.reward * told
        shown = {"local_kl": local_kl.detach(), "global_kl": nats.detach()[here].sum(1).mean()}
        return Loss(total, by_frame, shown)


def deterministic_misfit(model: VAE, z: Tensor, grid: Tensor) -> Tensor:
    """Half the squared error of the grid in units of its deviation, (B, c, h, w), for a plain autoencoder.

    Its grid carries no sigma, so a likelihood with a learnt one would chase the cells that never change.
    """
    return 0.5 * ((model.predict_grid(z).mu - grid) / model.grid_std).square()


def ramp(step: int, steps: int, share: float) -> float:
    """Weight of the KL: from near 0 to 1 over the first `share` of the steps."""
    return min(1.0, (step + 1) / (share * steps)) if share > 0 else 1.0


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up over 100 updates (or a tenth of a short run), then a cosine to 2 % of the peak."""
    warm = min(1.0, (step + 1) / max(1, min(100, steps // 10)))
    return peak * warm * (0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * step / steps)))
