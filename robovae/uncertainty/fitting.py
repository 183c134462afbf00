"""Learn what nominal frames look like, what corrupted ones leave of a belief, and how far to trust either."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robovae.episodes import EpisodeStore
from robovae.frames import BATCH, to_frames, to_tensor
from robovae.gaussian import Gaussian
from robovae.run.directory import RunModel
from robovae.uncertainty.config import CalibrateConfig, CalibrateEvent, OnCalibrate
from robovae.uncertainty.corruptions import NEW, SEEN_THROUGH, Kind, corrupt
from robovae.uncertainty.denoising import Batch, fit_denoising
from robovae.uncertainty.look import look
from robovae.uncertainty.model import Uncertainty
from robovae.uncertainty.trust import Trust, misfit, trusted
from robovae.vae import VAE

Numbers = NDArray[np.int64]
_CLIP = 100.0
_WHOLE, _TORN = 32, 64
"""Nominal and corrupted frames in a batch of the denoising encoder."""
_KNOWN = 12_000
"""Such frames that tell what features it has learnt from; of a small pool three times as many as it has."""


class _Beliefs(NamedTuple):
    """What two encoders say of N frames, and how strange those are."""

    scores: Tensor
    """What trust is read from, (N, S)."""
    lone: Gaussian
    """The VAE's encoder, (N, D)."""
    denoised: Gaussian
    """The denoising one, (N, D)."""


@dataclass(frozen=True)
class _Source:
    """Training frames, as they are and corrupted."""

    train: EpisodeStore
    rng: np.random.Generator
    generator: torch.Generator

    def drawn(self, count: int) -> Numbers:
        """Numbers of so many frames."""
        return self.rng.integers(self.train.num_frames, size=count)

    def clean(self, numbers: Numbers) -> Tensor:
        """(B, 3, H, W)."""
        return to_tensor(self.train.frames(numbers))

    def corrupted(self, numbers: Numbers, kinds: Sequence[Kind]) -> Tensor:
        """The same frames, each corrupted in one of these ways; in another one the next time."""
        return corrupt(self.clean(numbers), self.clean(self.drawn(len(numbers))), self.generator, kinds)


def fit_uncertainty(
    model: RunModel, train: EpisodeStore, config: CalibrateConfig, tell: OnCalibrate
) -> Uncertainty:
    """Fit denoising encoder, trust and scores on training episodes.

    Trust is fitted on other kinds of corruption than the encoder was, since the faults to come are of other
    kinds: on its own ones it is surer than it may be elsewhere.

    Args:
        model: whose sigma is to become true.
        train: nominal episodes.
        config: how much.
        tell: told of progress.
    """
    vae, rng = model.vae, np.random.default_rng(config.seed)
    source = _Source(train, rng, torch.Generator().manual_seed(config.seed))
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        uncertainty = Uncertainty(vae)
    nominal = rng.choice(train.num_frames, min(config.nominal, train.num_frames), replace=False)
    _fit_scores(uncertainty, vae, source, nominal, tell)
    _fit_encoder(uncertainty, vae, source, config, tell)
    torn = source.drawn(config.corrupted)
    whole = _believed(uncertainty, vae, nominal, source.clean, _told(tell, "encode"))
    broken = _believed(
        uncertainty, vae, torn, partial(source.corrupted, kinds=NEW), _told(tell, "encode corrupted")
    )
    truth = _lone(vae, torn, source.clean, _told(tell, "encode clean"))
    uncertainty.trust.standardise(whole.scores)
    _fit_trust(uncertainty.trust, whole, broken, truth, config, tell)
    uncertainty.requires_grad_(False)
    return uncertainty.eval()


def _told(tell: OnCalibrate, part: str) -> Callable[[int, int], None]:
    return lambda done, total: tell(CalibrateEvent(part, done, total))


def _by_batch(
    numbers: Numbers, compute: Callable[[Numbers], tuple[Tensor, ...]], tell: Callable[[int, int], None]
) -> tuple[Tensor, ...]:
    """What is computed of many frames, some at a time."""
    parts = []
    with torch.no_grad():
        for first in range(0, len(numbers), BATCH):
            parts.append(compute(numbers[first : first + BATCH]))
            tell(min(first + BATCH, len(numbers)), len(numbers))
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))


def _fit_scores(
    uncertainty: Uncertainty, vae: VAE, source: _Source, nominal: Numbers, tell: OnCalibrate
) -> None:
    """Learn what nominal frames look like."""

    def seen(numbers: Numbers) -> tuple[Tensor, ...]:
        found = look(vae, source.clean(numbers))
        return found.surprise, found.statistics, found.spectrum

    uncertainty.strangeness.fit(*_by_batch(nominal, seen, _told(tell, "scores of frames")))


def _fit_encoder(
    uncertainty: Uncertainty, vae: VAE, source: _Source, config: CalibrateConfig, tell: OnCalibrate
) -> None:
    """Fit the denoising encoder on a pool of corrupted frames and their clean twins."""
    numbers = source.drawn(config.corrupted)

    def pooled(chosen: Numbers) -> tuple[Tensor, ...]:
        torn = torch.from_numpy(to_frames(source.corrupted(chosen, SEEN_THROUGH)))  # bytes: there are many
        return torn, *vae(source.clean(chosen))[1]

    def shown(rows: Numbers) -> Tensor:
        """Frames of the pool, a third of them as they are."""
        whole = len(rows) * _WHOLE // (_WHOLE + _TORN)
        return torch.cat([source.clean(numbers[rows[:whole]]), to_tensor(torn[rows[whole:]].numpy())])

    torn, *truth = _by_batch(numbers, pooled, _told(tell, "corrupt"))
    goals = Gaussian(*truth)

    def batch() -> Batch:
        rows = source.rng.integers(len(numbers), size=_WHOLE + _TORN)
        return shown(rows), goals.rows(torch.from_numpy(rows))

    encoder, steps, told = uncertainty.denoising, config.denoising_steps, _told(tell, "denoising")
    fit_denoising(encoder, vae, batch, steps, lambda done: told(done, steps))
    rows = source.rng.integers(len(numbers), size=min(_KNOWN, 3 * len(numbers)))
    features = _by_batch(rows, lambda some: (encoder.features(vae, shown(some)),), _told(tell, "features"))
    encoder.learnt.fit(*features)


def _believed(
    uncertainty: Uncertainty,
    vae: VAE,
    numbers: Numbers,
    images: Callable[[Numbers], Tensor],
    tell: Callable[[int, int], None],
) -> _Beliefs:
    """What both encoders say of many frames."""

    def compute(chosen: Numbers) -> tuple[Tensor, ...]:
        frames = images(chosen)
        seen = look(vae, frames)
        denoised, strange = uncertainty.evidence(vae, frames, seen)
        return strange, *seen.lone, *denoised

    scores, a, b, c, d = _by_batch(numbers, compute, tell)
    return _Beliefs(scores, Gaussian(a, b), Gaussian(c, d))


def _lone(
    vae: VAE, numbers: Numbers, images: Callable[[Numbers], Tensor], tell: Callable[[int, int], None]
) -> Gaussian:
    """What the VAE's encoder says of many frames."""
    return Gaussian(*_by_batch(numbers, lambda chosen: tuple(vae(images(chosen))[1]), tell))


def _fit_trust(
    trust: Trust,
    nominal: _Beliefs,
    broken: _Beliefs,
    truth: Gaussian,
    config: CalibrateConfig,
    tell: OnCalibrate,
) -> None:
    """Make the calibrated belief of a corrupted frame the likeliest to hold what the clean frame says.

    Half of a batch is corrupted, for how the network learns; it counts for `failing` of the loss, as frames
    are taken to fail: where a frame might be either, its width is the mixture's.
    """
    counts = 2.0 * torch.tensor([1.0 - config.failing, config.failing]).repeat_interleave(config.batch)
    optimizer = torch.optim.AdamW(trust.parameters(), config.lr, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr, total_steps=config.steps)
    generator = torch.Generator().manual_seed(config.seed)
    for step, (seen, goal) in enumerate(_batches(nominal, broken, truth, config, generator)):
        share, noise = trust(seen.scores)
        loss = (counts * misfit(goal, trusted(seen.lone, seen.denoised, share, noise))).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trust.parameters(), _CLIP)
        optimizer.step()
        schedule.step()
        tell(CalibrateEvent("trust", step + 1, config.steps))


def _batches(
    nominal: _Beliefs, broken: _Beliefs, truth: Gaussian, config: CalibrateConfig, generator: torch.Generator
) -> Iterator[tuple[_Beliefs, Gaussian]]:
    """Beliefs, and the belief about the clean frame: half nominal, half corrupted."""
    for _ in range(config.steps):
        a = torch.randint(len(nominal.scores), (config.batch,), generator=generator)
        b = torch.randint(len(broken.scores), (config.batch,), generator=generator)
        seen = _Beliefs(
            torch.cat([nominal.scores[a], broken.scores[b]]),
            Gaussian.joined((nominal.lone.rows(a), broken.lone.rows(b))),
            Gaussian.joined((nominal.denoised.rows(a), broken.denoised.rows(b))),
        )
        yield seen, Gaussian.joined((nominal.lone.rows(a), truth.rows(b)))
