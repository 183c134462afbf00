"""The two phases of training: what a batch is, what is minimised, and how held-out episodes judge it."""

from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robovae.elbo import log_likelihood
from robovae.episodes import EpisodeStore
from robovae.frames import to_tensor
from robovae.gaussian import ACTIVE_NATS, Gaussian, kl, kl_parts
from robovae.run.directory import RunModel
from robovae.train.config import TrainConfig
from robovae.train.data import Sequences, grid_source
from robovae.train.device import Hardware
from robovae.train.objectives import GlobalObjective, LocalObjective, Loss, deterministic_misfit, ramp
from robovae.vae import MIN_PIXEL_STD

Metrics = dict[str, Any]
_JUDGED_FRAMES = 1024
_JUDGED_EPISODES, _JUDGED_LENGTH = 64, 32


class Phase(Protocol):
    """What the loop needs of a phase."""

    name: str
    steps: int
    peak_lr: float
    clip: float

    @property
    def objective(self) -> nn.Module:
        """What is trained; the loop may wrap it."""
        ...

    def loss(self, objective: nn.Module, step: int) -> tuple[Loss, NDArray[np.int64]]:
        """The loss of update `step`, and the frame numbers behind its rows."""
        ...

    def judge(self) -> Metrics:
        """Figures on held-out episodes, "elbo" among them."""
        ...


class Draws:
    """Randomness as a function of seed, phase, process and step: nothing to save, nothing to restore."""

    def __init__(self, seed: int, phase: int, rank: int, device: torch.device) -> None:
        self._key, self._device = (seed, phase, rank), device

    def choice(self, step: int) -> np.random.Generator:
        """For the choice of a batch."""
        return np.random.default_rng((*self._key, step, 0))

    def generator(self, step: int) -> torch.Generator:
        """For the noise of an update."""
        seed = np.random.SeedSequence((*self._key, step, 1)).generate_state(1, np.uint64)[0]
        return torch.Generator().manual_seed(int(seed))

    def normal(self, generator: torch.Generator, *shape: int) -> Tensor:
        """Standard normal draws."""
        return torch.randn(shape, generator=generator).to(self._device)


class LocalPhase:
    """Single frames: pixels and grid."""

    name = "local"
    clip = 500.0

    def __init__(
        self, model: RunModel, data: EpisodeStore, held_out: EpisodeStore, config: TrainConfig, hw: Hardware
    ) -> None:
        self.vae, self.data, self.config, self.hw = model.vae, data, config, hw
        self.steps, self.peak_lr = config.local_steps, config.local_lr
        _train_only(model, self.vae.local_encoder, self.vae.local_decoder)
        self.objective = LocalObjective(self.vae, config.free_bits)
        self._draws = Draws(config.seed, 0, hw.rank, hw.device)
        self._held_out = held_out.frames(_spread(held_out.num_frames, _JUDGED_FRAMES))

    def loss(self, objective: nn.Module, step: int) -> tuple[Loss, NDArray[np.int64]]:
        """See `Phase`."""
        config = self.config
        numbers = self._draws.choice(step).integers(self.data.num_frames, size=config.local_batch)
        images = to_tensor(self.data.frames(numbers), self.hw.device)
        noise = self._draws.normal(self._draws.generator(step), len(numbers), *self.vae.grid_shape)
        weight = config.beta * ramp(step, self.steps, config.kl_warmup)
        return objective(images, noise, weight), numbers

    def judge(self) -> Metrics:
        """EV and the bound under N(0, I); sets pixel_std to what these frames deviate by."""
        vae, total, drawn_error, mean_error, nats = self.vae, 0.0, 0.0, 0.0, 0.0
        generator = self._draws.generator(1 << 32)
        with torch.no_grad(), self.hw.autocast():
            for first in range(0, len(self._held_out), 256):
                images = to_tensor(self._held_out[first : first + 256], self.hw.device)
                local = vae.encode_local(images)
                noise = self._draws.normal(generator, *local.mu.shape)
                grid = local.mu if vae.config.deterministic else local.sample(noise)
                total += float((images - vae.mean_frame).square().sum())
                drawn_error += float((images - vae.decode_grid(grid)).square().sum())
                mean_error += float((images - vae.decode_grid(local.mu)).square().sum())
                nats += float(kl(local, Gaussian.standard(local.mu)).sum())
        count, pixels = len(self._held_out), vae.mean_frame.numel()
        variance = max(drawn_error / (count * pixels), MIN_PIXEL_STD**2)
        vae.pixel_std.fill_(variance**0.5)
        reconstruction = (
            -0.5 * pixels * (np.log(2.0 * np.pi * variance) + drawn_error / count / pixels / variance)
        )
        local_kl = 0.0 if vae.config.deterministic else nats / count
        return {
            "ev": 1.0 - mean_error / max(total, 1e-12),
            "elbo": float(reconstruction) - local_kl,
            "reconstruction": float(reconstruction),
            "local_kl": local_kl,
            "pixel_std": variance**0.5,
        }


class GlobalPhase:
    """Windows of sequences: grid, belief and temporal prior; the local level stays as it is."""

    name = "global"
    clip = 100.0

    def __init__(
        self, model: RunModel, data: EpisodeStore, held_out: EpisodeStore, config: TrainConfig, hw: Hardware
    ) -> None:
        self.vae, self.dynamics, self.config, self.hw = model.vae, model.dynamics, config, hw
        self.steps, self.peak_lr = config.global_steps, config.global_lr
        # Each process draws from episodes of its own, so that each remembers only their grids.
        self._mine = np.arange(hw.rank, max(len(data), hw.rank + 1), hw.world) % len(data)
        part = data.select(self._mine.tolist())
        self._grid, self._sequences = grid_source(self.vae, part, hw), Sequences(part)
        self._draws = Draws(config.seed, 1, hw.rank, hw.device)
        self._first = np.cumsum(data.lengths) - data.lengths
        self._part = part
        self._standardise(part.num_frames)
        _train_only(model, self.vae.global_encoder, self.vae.grid_prior, self.dynamics)
        rewards = self._sequences.reward_scale()
        self.objective = GlobalObjective(self.vae, self.dynamics, config, rewards).to(hw.device)
        self._prepare_judging(held_out)

    def _standardise(self, frames: int) -> None:
        """Fix the scale of the grid that the global level sees; the same in every process."""
        if self.hw.rank == 0:
            local = self._grid(_spread(frames, 8192))
            self.vae.grid_mean.copy_(local.mu.mean(0))
            spread = (local.mu - self.vae.grid_mean).square().mean() + local.sigma.square().mean()
            self.vae.grid_std.fill_(float(spread.sqrt()))
        self.hw.share(self.vae.grid_mean)
        self.hw.share(self.vae.grid_std)

    def loss(self, objective: nn.Module, step: int) -> tuple[Loss, NDArray[np.int64]]:
        """See `Phase`."""
        config = self.config
        windows = self._sequences.draw(config.window, config.global_batch, self._draws.choice(step))
        numbers = windows.numbers.ravel()
        generator = self._draws.generator(step)
        batch, length = windows.numbers.shape
        noise = self._draws.normal(generator, batch, length, self.vae.config.latent_dim)
        weight = config.global_beta * ramp(step, self.steps, config.kl_warmup)
        here = (each.to(self.hw.device) for each in (windows.action, windows.reward, windows.mask))
        loss = objective(self._grid(numbers), *here, noise, weight)
        episodes, times = self._part.locate(numbers)
        return loss, self._first[self._mine[episodes]] + times

    def _prepare_judging(self, held_out: EpisodeStore) -> None:
        """Remember the grids of held-out sequences and how well they reconstruct: both are fixed by now."""
        sequences = Sequences(held_out)
        windows = sequences.whole(_JUDGED_EPISODES, min(_JUDGED_LENGTH, int(held_out.lengths.max())))
        numbers, self._judged = windows.numbers.ravel(), windows
        noise, vae = self._draws.generator(1 << 32), self.vae
        reconstruction, grids, error, total = [], [], 0.0, 0.0
        with torch.no_grad(), self.hw.autocast():
            for first in range(0, len(numbers), 256):
                images = to_tensor(held_out.frames(numbers[first : first + 256]), self.hw.device)
                local = vae.encode_local(images)
                grid = local.sample(self._draws.normal(noise, *local.mu.shape))
                decoded = vae.decode_grid(local.mu if vae.config.deterministic else grid)
                reconstruction.append(log_likelihood(images, decoded, vae.pixel_std))
                error += float((images - vae.decode_grid(local.mu)).square().sum())
                total += float((images - vae.mean_frame).square().sum())
                grids.append(local)
        self._judged_grid = Gaussian(
            torch.cat([g.mu for g in grids]), torch.cat([g.log_sigma for g in grids])
        )
        self._reconstruction, self._ev = torch.cat(reconstruction), 1.0 - error / max(total, 1e-12)

    def judge(self) -> Metrics:
        """The bound of held-out sequences, and what the belief carries."""
        vae, windows, here = self.vae, self._judged, self._judged.mask.flatten() > 0
        batch, length = windows.mask.shape
        generator = self._draws.generator(2 << 32)
        noise = self._draws.normal(generator, batch, length, vae.config.latent_dim)
        with torch.no_grad(), self.hw.autocast():
            belief = vae.encode_global(self._judged_grid.mu)
            if vae.config.deterministic:
                local_nats = (
                    deterministic_misfit(vae, belief.mu, self._judged_grid.mu).flatten(1).sum(1)[here]
                )
                return {
                    "ev": self._ev,
                    "elbo": -float(local_nats.mean()),
                    "local_kl": float(local_nats.mean()),
                }
            lone = belief.map(lambda part: part.view(batch, length, -1))
            rollout = self.dynamics.rollout(lone, windows.action.to(noise.device), noise)
            grid = vae.predict_grid(rollout.z.flatten(0, 1))
            local_nats = kl(self._judged_grid, grid).flatten(1).sum(1)[here]
            nats = kl(rollout.posterior, rollout.prior).flatten(0, 1)[here].sum(1)
            told = self._reward_told(rollout.z)
        spring, capacity = (part[here].mean(0) for part in kl_parts(belief))
        information = spring + capacity
        pair = (windows.mask[:, 1:] > 0).to(noise.device)
        move = (rollout.z[:, 1:] - rollout.z[:, :-1])[pair].square().mean().sqrt()
        miss = (rollout.z - rollout.prior.mu)[:, 1:][pair].square().mean().sqrt()
        return {
            "ev": self._ev,
            "elbo": float((self._reconstruction[here] - local_nats - nats).mean()),
            "reconstruction": float(self._reconstruction[here].mean()),
            "local_kl": float(local_nats.mean()),
            "global_kl": float(nats.mean()),
            "information": float(information.sum()),
            "active_dims": int((information > ACTIVE_NATS).sum()),
            "prediction_ratio": float(miss / move.clamp_min(1e-9)),
            "reward_r2": told,
            "spring": [round(float(v), 5) for v in spring],
            "capacity": [round(float(v), 5) for v in capacity],
        }

    def _reward_told(self, z: Tensor) -> float | None:
        """R² of the held-out rewards, in the training data's variance; None where they are not learnt."""
        head, windows = self.objective.reward, self._judged
        if head is None:
            return None
        parts = windows.action / self.dynamics.action_scale.cpu(), windows.reward, windows.mask
        return 1.0 - float(head.missed(z, *(each.to(z.device) for each in parts)))


def _train_only(model: RunModel, *parts: nn.Module) -> None:
    """Gradients for these parts alone."""
    model.vae.requires_grad_(False)
    model.dynamics.requires_grad_(False)
    for part in parts:
        part.requires_grad_(True)


def _spread(count: int, most: int) -> NDArray[np.int64]:
    """At most `most` evenly spread numbers below `count`."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).astype(np.int64))
