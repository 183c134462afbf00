"""Diagonal Gaussians, and what is done with them: sample, compare, take some, join several."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

LOG_SIGMA_RANGE = (-7.0, 3.0)
"""The one clamp of log_sigma: wide enough never to bind in a healthy run, narrow enough for float32."""
ACTIVE_NATS = 0.1
"""A dimension is active if it carries at least this much information, on average over frames."""


class Gaussian(NamedTuple):
    """N(mu, diag exp(log_sigma)^2), element by element."""

    mu: Tensor
    """Any shape."""
    log_sigma: Tensor
    """Log of the standard deviation, the same shape."""

    @classmethod
    def of(cls, mu: Tensor, log_sigma: Tensor) -> "Gaussian":
        """From a network's raw output: float32, log_sigma clamped."""
        return cls(mu.float(), log_sigma.float().clamp(*LOG_SIGMA_RANGE))

    @classmethod
    def standard(cls, like: Tensor) -> "Gaussian":
        """N(0, I) of the shape of `like`."""
        return cls(torch.zeros_like(like), torch.zeros_like(like))

    @classmethod
    def joined(cls, parts: Iterable["Gaussian"]) -> "Gaussian":
        """One after the other along the first axis."""
        mus, log_sigmas = zip(*parts, strict=True)
        return cls(torch.cat(mus), torch.cat(log_sigmas))

    @classmethod
    def stacked(cls, steps: Iterable["Gaussian"]) -> "Gaussian":
        """Steps of a sequence, (B, ...) each, side by side: (B, L, ...)."""
        mus, log_sigmas = zip(*steps, strict=True)
        return cls(torch.stack(mus, 1), torch.stack(log_sigmas, 1))

    @classmethod
    def where(cls, condition: Tensor, yes: "Gaussian", no: "Gaussian") -> "Gaussian":
        """Element by element one or the other; the condition is broadcast."""
        return cls(torch.where(condition, yes.mu, no.mu), torch.where(condition, yes.log_sigma, no.log_sigma))

    def rows(self, chosen: Tensor) -> "Gaussian":
        """Some of the first axis, by number or by a mask."""
        return self.map(lambda part: part[chosen])

    def map(self, change: Callable[[Tensor], Tensor]) -> "Gaussian":
        """The same done to mu and to log_sigma: some rows, another shape."""
        return Gaussian(change(self.mu), change(self.log_sigma))

    @property
    def sigma(self) -> Tensor:
        """Standard deviation, > 0."""
        return self.log_sigma.exp()

    def sample(self, noise: Tensor) -> Tensor:
        """Mu + sigma * noise: the reparameterised draw (Kingma & Welling, 1312.6114, eq. 4)."""
        return self.mu + self.sigma * noise

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of `value` in nats, element by element."""
        scaled = (value - self.mu) * torch.exp(-self.log_sigma)
        return -0.5 * scaled.square() - self.log_sigma - 0.9189385332046727  # log(2 pi) / 2


def kl(q: Gaussian, p: Gaussian) -> Tensor:
    """KL(q || p) in nats, element by element, >= 0."""
    ratio = 2.0 * (q.log_sigma - p.log_sigma)
    distance = ((q.mu - p.mu) * torch.exp(-p.log_sigma)).square()
    return 0.5 * (distance + torch.exp(ratio) - 1.0 - ratio)


def kl_parts(q: Gaussian) -> tuple[Tensor, Tensor]:
    """KL(q || N(0, I)) as its spring mu^2 / 2 and its capacity (sigma^2 - log sigma^2 - 1) / 2.

    The spring pulls every mu to the origin; the capacity charges for every sigma that is not 1.
    Both are in nats, element by element, >= 0, and add up to `kl(q, N(0, I))`.
    """
    log_variance = 2.0 * q.log_sigma
    return 0.5 * q.mu.square(), 0.5 * (log_variance.exp() - log_variance - 1.0)
