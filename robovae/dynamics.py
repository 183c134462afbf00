"""p(z_t | z_<t, a_<t): the temporal prior, that of the filter, and how they meet what each frame says.

A frame's message has precision 1/sigma^2 - 1 (its lone belief less the prior N(0, I) that is in it). Within a
sequence the posterior is the temporal prior times the message: precisions add, as in a Kalman update.
A frame that says nothing (sigma = 1) has precision 0 and leaves the prior as it is. The filter's dynamics
know besides what no message tells: that they err themselves (`fade`), and that strange frames err alike
(`heard`).
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


def widen(belief: Gaussian, noise: Tensor) -> Gaussian:
    """Add measurement noise to the message in a belief.

    Args:
        belief: N(0, I) times a message, (B, D), sigma < 1.
        noise: R, (B, D), >= 0; 0 leaves the belief as it is.

    Returns:
        N(0, I) times the noisier message: nearer to 0 and wider, sigma < 1.
    """
    variance = torch.exp(2.0 * belief.log_sigma)
    # With v = variance / (1 - variance): mu' = mu (1 + v) / (1 + v + R), sigma'^2 = (v + R) / (1 + v + R).
    silence = 1.0 - variance
    whole = 1.0 + noise * silence
    return Gaussian(belief.mu / whole, 0.5 * torch.log((variance + noise * silence) / whole))


def message_variance(lone: Gaussian) -> Tensor:
    """Of the messages in beliefs (..., D) under N(0, I): 1 / precision, sigma^2 / (1 - sigma^2)."""
    variance = torch.exp(2.0 * lone.log_sigma)
    return variance / (1.0 - variance).clamp_min(_LEAST_SILENCE)


_LEAST_SILENCE = 1e-12
"""1 - sigma^2 at least: short of a division by nothing."""
_STRETCH_RANGE = (-10.0, 4.0)
"""Of the log of g: from a step that forgets what it starts from to one that throws it far."""


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

    def step(self, last: Gaussian, action: Tensor, memory: Tensor) -> tuple[Gaussian, Tensor]:
        """Predict the next z.

        Args:
            last: z, (B, D), as its mu; how wide it is does not count: here it is a draw.
            action: (B, A).
            memory: (B, hidden).

        Returns:
            p(z' | ...), (B, D), and the next memory.
        """
        memory = self.cell(torch.cat([last.mu, action / self.action_scale], dim=-1), memory)
        change, log_sigma = self.head(memory).chunk(2, dim=-1)
        # The prior can never be wider than N(0, I), else a silent frame could widen the belief past it.
        return Gaussian(last.mu + change, (log_sigma - 1.0).clamp(-5.0, 0.0)), memory

    def rollout(self, lone: Gaussian, action: Tensor, noise: Tensor) -> Rollout:
        """Fuse the messages of L frames, one after the other.

        Args:
            lone: beliefs of the frames under N(0, I), (B, L, D).
            action: (B, L, A); action[:, t] leads from frame t to frame t + 1.
            noise: standard normal draws, (B, L, D); zeros go on from posterior means.
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
            prior, memory = self.step(Gaussian(z, posterior.log_sigma), action[:, t], memory)
        return Rollout(torch.stack(drawn, 1), Gaussian.stacked(posteriors), Gaussian.stacked(priors))


class FilterDynamics(TemporalPrior):
    """A temporal prior that goes on from beliefs, not from draws: predictions of wide ones are wider.

    v' = q + g v, latent by latent, with q the variance of the step itself and g how much it stretches what
    it starts from, both read off the memory: as a Kalman filter predicts whose transition is diagonal
    (Kalman 1960). So a belief that coasts knows less with every step, and believes the next frame the sooner.

    Args:
        latent_dim: D.
        action_dim: A; 0 for a robot that is only watched.
        hidden: units.
    """

    fading: Tensor
    """How many times as wide a belief is gone on from after a frame that says all; 1 is a Kalman filter."""
    persistence: Tensor
    """Frames through which what a strange frame gets wrong stays the same; 1 where every frame errs anew."""
    usual: Tensor
    """Median variance of nominal frames' messages, (D,): what is above is taken to come of strangeness."""

    def __init__(self, latent_dim: int, action_dim: int, hidden: int) -> None:
        super().__init__(latent_dim, action_dim, hidden)
        self.register_buffer("fading", torch.ones(()))
        self.register_buffer("persistence", torch.ones(()))
        self.register_buffer("usual", torch.zeros(latent_dim))
        self.stretch = nn.Linear(hidden, latent_dim)
        nn.init.zeros_(self.stretch.weight)
        nn.init.zeros_(self.stretch.bias)

    @classmethod
    def of(cls, prior: TemporalPrior) -> "FilterDynamics":
        """Begin from a temporal prior: its weights, copied, and steps that stretch nothing."""
        found = cls(prior.head.out_features // 2, prior.action_scale.numel(), prior.cell.hidden_size)
        found.load_state_dict({**found.state_dict(), **prior.state_dict()})
        return found

    def step(self, last: Gaussian, action: Tensor, memory: Tensor) -> tuple[Gaussian, Tensor]:
        """See `TemporalPrior.step`; `last` is the belief, and its width counts."""
        known, memory = super().step(last, action, memory)
        stretch = self.stretch(memory).clamp(*_STRETCH_RANGE)
        variance = torch.exp(2.0 * known.log_sigma) + torch.exp(stretch + 2.0 * last.log_sigma)
        return Gaussian(known.mu, 0.5 * variance.log().clamp_max(0.0)), memory

    def heard(self, lone: Gaussian) -> Gaussian:
        """What a frame adds to those around it, which err alike where a camera fails.

        A filter takes the errors of frames for independent, and would be sure of what a stained lens shows
        after ten frames. An error that stays for n frames could be tracked beside the state (Bryson &
        Johansen 1965, coloured noise); to count each of them for 1/n costs nothing and needs no model of it.

        Args:
            lone: the frame's belief under N(0, I), (B, D), sigma <= 1.

        Returns:
            (B, D), its message of variance v + (persistence - 1) max(v - usual, 0): what a nominal frame
            leaves uncertain is another error in each.
        """
        excess = (message_variance(lone) - self.usual).clamp_min(0.0)
        return widen(lone, (self.persistence - 1.0) * excess)

    def fade(self, posterior: Gaussian, lone: Gaussian) -> Gaussian:
        """What a belief is gone on from: wider than it is, as far as the frame said something.

        A network errs where it was not trained, and does not know that it does: a filter that is sure of its
        predictions then hardly looks at the frames and drifts off. A fading memory (Sorenson & Sacks 1971)
        keeps it looking. It fades only as much as is learnt (directional forgetting, Kulhavy 1987): through
        frames that say nothing a belief widens by its dynamics alone.

        Args:
            posterior: after the frame, (B, D).
            lone: the frame's belief under N(0, I), (B, D).

        Returns:
            (B, D), sigma times fading^(1 - lone sigma^2), at most 1.
        """
        said = 1.0 - torch.exp(2.0 * lone.log_sigma)
        return Gaussian(posterior.mu, (posterior.log_sigma + said * self.fading.log()).clamp_max(0.0))
