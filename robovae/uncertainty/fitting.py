"""Learn what nominal frames look like, and how much the message of a frame that does not is worth."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robovae.episodes import EpisodeStore
from robovae.frames import BATCH, to_tensor
from robovae.gaussian import Gaussian
from robovae.run.directory import RunModel
from robovae.uncertainty.config import CalibrateConfig, CalibrateEvent, OnCalibrate
from robovae.uncertainty.corruptions import corrupt
from robovae.uncertainty.look import look
from robovae.uncertainty.model import Uncertainty
from robovae.uncertainty.noise import HEADS, MeasurementNoise, describe, misfit, widen
from robovae.uncertainty.scores import Strangeness
from robovae.vae import VAE

_CLIP = 100.0


@dataclass(frozen=True)
class _Seen:
    """What looks at N frames tell."""

    lone: Gaussian
    """The encoder's belief, (N, D)."""
    surprise: Tensor
    """(N, h, w)."""
    statistics: Tensor
    """(N, S')."""
    spectrum: Tensor
    """(N, P)."""

    def features(self, strangeness: Strangeness) -> Tensor:
        """What the noise is read from, (N, S)."""
        distance = strangeness.statistics(self.statistics)
        return describe(self.statistics, self.spectrum, self.surprise, self.lone, distance)


class _Message(NamedTuple):
    """Beliefs of N frames, and what their noise is read from."""

    features: Tensor
    """(N, S)."""
    lone: Gaussian
    """(N, D)."""


def fit_uncertainty(
    model: RunModel, train: EpisodeStore, config: CalibrateConfig, tell: OnCalibrate
) -> Uncertainty:
    """Fit the measurement noise and the scores on training episodes.

    Args:
        model: whose sigma is to become true.
        train: nominal episodes.
        config: how much.
        tell: told of progress.
    """
    vae, rng = model.vae, np.random.default_rng(config.seed)
    generator = torch.Generator().manual_seed(config.seed)
    nominal_numbers = rng.choice(train.num_frames, min(config.nominal, train.num_frames), replace=False)
    numbers = rng.integers(train.num_frames, size=config.corrupted)
    total = len(nominal_numbers) + 2 * len(numbers)

    def corrupted(chosen: NDArray[np.int64]) -> Tensor:
        others = to_tensor(train.frames(rng.integers(train.num_frames, size=len(chosen))))
        return corrupt(to_tensor(train.frames(chosen)), others, generator)

    def clean(chosen: NDArray[np.int64]) -> Tensor:
        return to_tensor(train.frames(chosen))

    def told(done: int) -> Callable[[int], None]:
        return lambda more: tell(CalibrateEvent("encode", done + more, total))

    nominal = _see(vae, nominal_numbers, clean, told(0))
    broken = _see(vae, numbers, corrupted, told(len(nominal_numbers)))
    truth = _see(vae, numbers, clean, told(len(nominal_numbers) + len(numbers))).lone
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        uncertainty = Uncertainty(vae)
    uncertainty.strangeness.fit(nominal.surprise, nominal.statistics, nominal.spectrum)
    whole, torn = (_Message(seen.features(uncertainty.strangeness), seen.lone) for seen in (nominal, broken))
    uncertainty.noise.standardise(whole.features)
    _fit_noise(uncertainty.noise, whole, torn, truth, config, tell)
    uncertainty.requires_grad_(False)
    return uncertainty.eval()


def _see(
    vae: VAE,
    numbers: NDArray[np.int64],
    images: Callable[[NDArray[np.int64]], Tensor],
    tell: Callable[[int], None],
) -> _Seen:
    """Look at many frames, keeping what is needed of each."""
    parts: list[tuple[Tensor, ...]] = []
    with torch.no_grad():
        for first in range(0, len(numbers), BATCH):
            seen = look(vae, images(numbers[first : first + BATCH]))
            parts.append((*seen.lone, seen.surprise, seen.statistics, seen.spectrum))
            tell(min(first + BATCH, len(numbers)))
    mu, log_sigma, *rest = (torch.cat(column) for column in zip(*parts, strict=True))
    return _Seen(Gaussian(mu, log_sigma), *rest)


def _fit_noise(
    noise: MeasurementNoise,
    nominal: _Message,
    broken: _Message,
    truth: Gaussian,
    config: CalibrateConfig,
    tell: OnCalibrate,
) -> None:
    """Make the widened belief of a corrupted frame the likeliest to hold what the clean frame says.

    The loss is a proper scoring rule, so that the width is that of the error; half of each batch is nominal,
    where the belief is right as it is and any noise costs. The halves count for as often as frames are taken
    to fail: where a frame might be either, its width is the mixture's.
    """
    counts = 2.0 * torch.tensor([1.0 - config.failing, config.failing]).repeat_interleave(config.batch)
    optimizer = torch.optim.AdamW(noise.parameters(), config.lr, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr, total_steps=config.steps)
    generator = torch.Generator().manual_seed(config.seed)
    for step, (features, lone, goal) in enumerate(_batches(nominal, broken, truth, config, generator)):
        heads = noise.each(features)
        # Each head by itself, or they would agree on one answer and have nothing to disagree about.
        each = (counts * misfit(goal, widen(lone, head.exp())) for head in heads)
        loss = sum((costs.mean() for costs in each), torch.zeros(())) / HEADS
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(noise.parameters(), _CLIP)
        optimizer.step()
        schedule.step()
        tell(CalibrateEvent("noise", step + 1, config.steps))


def _batches(
    nominal: _Message, broken: _Message, truth: Gaussian, config: CalibrateConfig, generator: torch.Generator
) -> Iterator[tuple[Tensor, Gaussian, Gaussian]]:
    """Features, belief and the belief about the clean frame: half nominal, half corrupted."""
    for _ in range(config.steps):
        a = torch.randint(len(nominal.features), (config.batch,), generator=generator)
        b = torch.randint(len(broken.features), (config.batch,), generator=generator)
        own = _rows(nominal.lone, a)
        yield (
            torch.cat([nominal.features[a], broken.features[b]]),
            _joined(own, _rows(broken.lone, b)),
            _joined(own, _rows(truth, b)),
        )


def _rows(belief: Gaussian, rows: Tensor) -> Gaussian:
    return Gaussian(belief.mu[rows], belief.log_sigma[rows])


def _joined(a: Gaussian, b: Gaussian) -> Gaussian:
    return Gaussian(torch.cat([a.mu, b.mu]), torch.cat([a.log_sigma, b.log_sigma]))
