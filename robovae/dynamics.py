"""p(z_t | z_<t, a_<t): the temporal prior, and how it meets what each frame says.

A frame's message has precision 1/sigma^2 - 1 (its lone belief less the prior N(0, I) that is in it). Within a
sequence the posterior is the temporal prior times the message: precisions add, as in a Kalman update.
A frame that says nothing (sigma = 1) has precision 0 and leaves the prior as it is.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from robovae.gaussian import Gaussian


def fuse(prior: Gaussian, lone: Gaussian) -> Gaussian:
    """Multiply a prior with the message of a frame.

    Args:
        prior: p(z_t | ...), (B, D).
        lone: the frame's belief under N(0, I), (B, D), sigma < 1.

    Returns:
        The normalised product prior * lone / N(0, I); equal to `lone` where the prior is N(0, I).
    """
    prior_precision = torch.exp(-2.0 * prior.log_sigma)
    lone_precision = torch.exp(-2.0 * lone.log_sigma)
    precision = prior_precision + lone_precision - 1.0
    mu = (prior_precision * prior.mu + lone_precision * lone.mu) / precision
    return Gaussian(mu, -0.5 * precision.log())


class Rollout(NamedTuple):
    """A batch of sequences, each of (B, L, D)."""

    z: Tensor
    """Drawn from the posterior."""
    posterior: Gaussian
    """q(z_t | x_<=t, a_<t)."""
    prior: Gaussian
    """p(z_t | z_<t, a_<t); N(0, I) at the first step."""


class TemporalPrior(nn.Module):
    """A GRU over (z, action) that predicts the next z as a step from the last one.

    Args:
        latent_dim: D.
        action_dim: A; 0 for a robot that is only watched.
        hidden: units.
    """

    action_scale: Tensor

    def __init__(self, latent_dim: int, action_dim: int, hidden: int) -> None:
        super().__init__()
        self.cell = nn.GRUCell(latent_dim + action_dim, hidden)
        self.head = nn.Linear(hidden, 2 * latent_dim)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.register_buffer("action_scale", torch.ones(action_dim))

    def step(self, z: Tensor, action: Tensor, memory: Tensor) -> tuple[Gaussian, Tensor]:
        """Z (B, D), action (B, A), memory (B, hidden) -> p(z' | ...), memory'."""
        memory = self.cell(torch.cat([z, action / self.action_scale], dim=-1), memory)
        change, log_sigma = self.head(memory).chunk(2, dim=-1)
        # The prior can never be wider than N(0, I), else a silent frame could widen the belief past it.
        return Gaussian(z + change, (log_sigma - 1.0).clamp(-5.0, 0.0)), memory

    def rollout(self, lone: Gaussian, action: Tensor, noise: Tensor) -> Rollout:
        """Fuse the messages of L frames, one after the other.

        Args:
            lone: beliefs of the frames under N(0, I), (B, L, D).
            action: (B, L, A); action[:, t] leads from frame t to frame t + 1.
            noise: standard normal draws, (B, L, D).
        """
        batch, length, _ = noise.shape
        memory = noise.new_zeros(batch, self.cell.hidden_size)
        prior = Gaussian.standard(noise[:, 0])
        drawn, posteriors, priors = [], [], []
        for t in range(length):
            posterior = fuse(prior, Gaussian(lone.mu[:, t], lone.log_sigma[:, t]))
            z = posterior.sample(noise[:, t])
            drawn.append(z)
            posteriors.append(posterior)
            priors.append(prior)
            prior, memory = self.step(z, action[:, t], memory)
        return Rollout(torch.stack(drawn, 1), _stack(posteriors), _stack(priors))


def _stack(steps: list[Gaussian]) -> Gaussian:
    return Gaussian(torch.stack([g.mu for g in steps], 1), torch.stack([g.log_sigma for g in steps], 1))
