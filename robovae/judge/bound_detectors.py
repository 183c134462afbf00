"""Baselines on the bound of log p(x): the ELBO of a frame, and its likelihood regret."""

import numpy as np
import torch
from torch import Tensor

from robovae.belief import Belief, Perceiver
from robovae.elbo import log_likelihood
from robovae.frames import BATCH, to_tensor
from robovae.gaussian import Gaussian, kl
from robovae.judge.detector import Detector, Once, Sees
from robovae.judge.errors import JudgeError
from robovae.judge.footage import Doubles, Frames
from robovae.vae import VAE


class _OnBound(Detector):
    """Scores with one draw of the noise for every frame alike: a score does not depend on its batch.

    Args:
        perceiver: whose model, without calibration.
        seed: of the noise.
        sees: gives the same beliefs, where others share them.
    """

    def __init__(self, perceiver: Perceiver, seed: int = 0, sees: Sees | None = None) -> None:
        self.perceiver, self.seed, self.sees = perceiver, seed, sees or perceiver
        self._said = Once(self._score)  # an ensemble asks what the table asked

    @property
    def vae(self) -> VAE:
        return self.perceiver.model.vae

    def noise(self, like: Tensor, stream: int) -> Tensor:
        """(1, ...) of the shape of a row of `like`, the same in every call."""
        generator = torch.Generator().manual_seed(2 * self.seed + stream)
        return torch.randn(1, *like.shape[1:], generator=generator).to(like.device)

    def score(self, frames: Frames) -> Doubles:
        """Frames (B, H, W, 3) -> (B,)."""
        return self._said(frames)

    def _score(self, frames: Frames) -> Doubles:
        belief, device = self.sees(frames), self.perceiver.device
        parts = []
        for first in range(0, len(frames), BATCH):
            rows = slice(first, first + BATCH)
            local, lone = _gaussians(belief[rows], device)
            parts.append(self.nats(to_tensor(frames[rows], device), local, lone))
        scores: Doubles = torch.cat(parts).double().cpu().numpy()
        return scores

    def nats(self, images: Tensor, local: Gaussian, belief: Gaussian) -> Tensor:
        """Images (B, 3, H, W) in [0, 1], their grids and their lone beliefs -> (B,)."""
        raise NotImplementedError


class NegativeElbo(_OnBound):
    """Minus the bound of a lone frame, nats; see `robovae.elbo`."""

    name = "elbo"

    @torch.no_grad()
    def nats(self, images: Tensor, local: Gaussian, belief: Gaussian) -> Tensor:
        """Images (B, 3, H, W) in [0, 1], their grids and their lone beliefs -> (B,)."""
        prior = self.vae.predict_grid(belief.sample(self.noise(belief.mu, 1)))
        bound = grid_bound(self.vae, images, local, prior, self.noise(local.mu, 0))
        out: Tensor = kl(belief, Gaussian.standard(belief.mu)).sum(1) - bound
        return out


class LikelihoodRegret(_OnBound):
    """How many nats the bound of a frame gains when its posterior of the grid is fitted to it alone.

    Xiao et al., 2003.02977, eq. 4, with the prior p(grid | z) held at the mean of the encoder's belief.
    Frames are fitted side by side and do not touch each other. A step costs a backward pass of the decoder.

    Args:
        perceiver: whose model, without calibration.
        steps: of Adam.
        lr: in units of the grid's deviation for its mean, of nats for log sigma.
        seed: of the noise.

    Raises:
        JudgeError: fewer than 1 step.
    """

    name = "likelihood_regret"

    def __init__(self, perceiver: Perceiver, steps: int = 20, lr: float = 0.02, seed: int = 0) -> None:
        if steps < 1:
            raise JudgeError(f"likelihood_regret: expected at least 1 step, received {steps}")
        super().__init__(perceiver, seed)
        self.steps, self.lr = steps, lr

    def nats(self, images: Tensor, local: Gaussian, belief: Gaussian) -> Tensor:
        """Images (B, 3, H, W) in [0, 1], their grids and their lone beliefs -> (B,), >= 0."""
        with torch.no_grad():
            prior = self.vae.predict_grid(belief.mu)
        noise = self.noise(local.mu, 0)
        moves = [torch.zeros_like(local.mu, requires_grad=True) for _ in local]
        optimiser = torch.optim.Adam(moves, self.lr)
        bounds = []
        for _ in range(self.steps + 1):
            moved = Gaussian(local.mu + self.vae.grid_std * moves[0], local.log_sigma + moves[1])
            bound = grid_bound(self.vae, images, moved, prior, noise)
            bounds.append(bound.detach())
            slopes = torch.autograd.grad(-bound.sum(), moves)
            for move, slope in zip(moves, slopes, strict=True):
                move.grad = slope
            optimiser.step()
        return torch.stack(bounds).amax(0) - bounds[0]


def _gaussians(belief: Belief, device: torch.device) -> tuple[Gaussian, Gaussian]:
    """The grids and the lone beliefs of frames."""
    assert belief.local is not None, "a perceiver's belief has the grid"
    local, lone = (
        Gaussian(*(torch.from_numpy(part).to(device) for part in (one.mu, np.log(one.sigma))))
        for one in (belief.local, belief)
    )
    return local, lone


def grid_bound(vae: VAE, images: Tensor, local: Gaussian, prior: Gaussian, noise: Tensor) -> Tensor:
    """Log p(x | grid) less KL(q(grid) || prior) with one draw of the grid, (B,) nats."""
    decoded = vae.decode_grid(local.sample(noise))
    out: Tensor = log_likelihood(images, decoded, vae.pixel_std) - kl(local, prior).flatten(1).sum(1)
    return out
