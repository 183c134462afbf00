"""Train the dynamics of the filter on what it will be given: calibrated beliefs, with bursts of bad ones.

The VAE's temporal prior was trained to predict draws from its own sharp posterior. The filter's dynamics
start from posterior means, coast for many steps, and must say how far they can be trusted then.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import isfinite
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robovae.control.bursts import Bursts
from robovae.dynamics import FilterDynamics, Rollout, message_variance
from robovae.episodes import EpisodeStore
from robovae.evaluate.codes import spread
from robovae.filter.config import FilterConfig
from robovae.frames import BATCH, to_tensor
from robovae.gaussian import Gaussian
from robovae.monitor import CalibrationError
from robovae.run.directory import RunModel
from robovae.tracker import innovations
from robovae.train.data import Sequences
from robovae.train.muon import Muon
from robovae.train.objectives import learning_rate
from robovae.uncertainty.config import CalibrateEvent, OnCalibrate
from robovae.uncertainty.corruptions import corrupt
from robovae.uncertainty.model import Uncertainty

PART = "filter"
"""What the events of this part are called."""
MOST = -1e-6
"""Log sigma of a frame that says nothing: short of 0, so that every precision stays positive."""
_CLIP = 100.0
_LEAST_SCALE = 1e-3
"""Deviation of a latent at least: one that never moves is not to be predicted to the last digit."""
_FOLDS, _JUDGED = 5, 6
"""One in so many episodes is held out; batches of its windows by which widths are judged."""
_WIDER = tuple(0.1 * number for number in range(16))
"""By how much the log deviation of a step may have to grow."""
_ATTEMPTS = 3
"""At half of the learning rate each, should the one before have diverged."""
_LOST = 4.0
"""Squared error of a prediction, a latent: two draws from the prior N(0, I) are off by 2."""

ImagesOf = Callable[[NDArray[np.int64]], Tensor]


@dataclass(frozen=True)
class _Frames:
    """What is known of N frames."""

    raw: Gaussian
    """The encoder's beliefs, (N, D): what is to be predicted."""
    total: Gaussian
    """The calibrated ones, which the filter takes in."""
    broken: Gaussian
    """Those of the same frames corrupted; silent where that was not computed."""


class _Batch(NamedTuple):
    """Windows, (B, L, ...)."""

    seen: Gaussian
    """What the filter takes in, bursts included."""
    truth: Gaussian
    """The encoder's beliefs of the clean frames."""
    action: Tensor
    mask: Tensor
    """1 where there is a frame that something leads to."""


def fit_dynamics(
    model: RunModel, uncertainty: Uncertainty, train: EpisodeStore, config: FilterConfig, tell: OnCalibrate
) -> FilterDynamics:
    """Fit p(z_t | z_<t, a_<t) for the belief filter.

    Args:
        model: whose beliefs are filtered.
        uncertainty: its calibration.
        train: nominal episodes.
        config: how.
        tell: told of progress.

    Raises:
        CalibrationError: the training diverged.
    """
    part = spread(train, config.nominal)
    seen, rate = _perceive(model, uncertainty, part, config, tell), config.lr
    (frames, fitted_on), held_out = _parted(seen, part)
    for _ in range(_ATTEMPTS):
        dynamics, error = _fitted(_begin(model, config), frames, fitted_on, replace(config, lr=rate), tell)
        if error <= _LOST:  # NaN is no error that is small enough
            dynamics.requires_grad_(False)
            _widen(dynamics, *held_out, config)
            # What a rollout knows nothing of: it is fitted without, on all that each frame says.
            dynamics.fading.fill_(config.fading)
            dynamics.persistence.fill_(config.persistence)
            dynamics.usual.copy_(message_variance(seen.total).median(0).values)
            return dynamics.eval()
        rate /= 2.0
    raise CalibrationError(
        f"filter: expected predictions of latents with a squared error of at most {_LOST:g}, received "
        f"{error:.3g}: the training diverged, {_ATTEMPTS} times; take a lower --filter-lr than {2.0 * rate:g}"
    )


def _fitted(
    dynamics: FilterDynamics, frames: _Frames, part: EpisodeStore, config: FilterConfig, tell: OnCalibrate
) -> tuple[FilterDynamics, float]:
    """The dynamics, fitted, and their squared error on the last windows; stopped where it is not finite."""
    scale = frames.raw.mu.std(0).clamp_min(_LEAST_SCALE)
    optimizer = Muon(dynamics.parameters(), config.lr)
    for step, batch in enumerate(_batches(frames, part, config)):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, config.steps, config.lr)
        rollout = _filtered(dynamics, batch)
        # No limit on the way: the VAE's own prior, which this starts from, may be lost in a burst.
        if not isfinite(error := _error(rollout, batch)):
            break
        loss = _loss(rollout, batch, scale, config)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(dynamics.parameters(), _CLIP)
        optimizer.step()
        tell(CalibrateEvent(PART, step + 1, config.steps))
    return dynamics, error


def _filtered(dynamics: FilterDynamics, batch: _Batch) -> Rollout:
    """What a filter makes of windows: it goes on from posterior means, so there is no noise."""
    return dynamics.rollout(batch.seen, batch.action, torch.zeros_like(batch.seen.mu))


def _parted(frames: _Frames, part: EpisodeStore) -> list[tuple[_Frames, EpisodeStore]]:
    """Episodes to fit on, and every fifth one, which is not fitted on; of fewer than five all are both."""
    every = np.arange(len(part))
    held_out = every % _FOLDS == _FOLDS - 1
    found = []
    for chosen in (~held_out, held_out) if held_out.any() else (every >= 0,) * 2:
        rows = np.repeat(chosen, part.lengths)
        some = (belief.rows(torch.from_numpy(rows)) for belief in vars(frames).values())
        found.append((_Frames(*some), part.select(np.flatnonzero(chosen).tolist())))
    return found


@torch.no_grad()
def _widen(dynamics: FilterDynamics, frames: _Frames, part: EpisodeStore, config: FilterConfig) -> None:
    """Widen the steps as far as episodes demand that the dynamics were not fitted on.

    Of few episodes they know more by heart than they know, and a filter that is too sure of its predictions
    hardly looks at what the frames say.
    """
    batches = list(_batches(frames, part, replace(config, steps=_JUDGED, seed=config.seed + 1)))
    own = dynamics.head.bias.clone()

    def cost(more: float) -> float:
        dynamics.head.bias[len(own) // 2 :] = own[len(own) // 2 :] + more
        found = 0.0
        for batch in batches:
            found += float((nats(_filtered(dynamics, batch).prior, batch.truth) * batch.mask).sum())
        return found

    cost(min(_WIDER, key=cost))


def silenced(belief: Gaussian, rows: Tensor) -> Gaussian:
    """Beliefs (..., D) that say nothing in some rows (...,), and little more than nothing at most."""
    gone = rows[..., None]
    return Gaussian(
        belief.mu.masked_fill(gone, 0.0), belief.log_sigma.masked_fill(gone, MOST).clamp_max(MOST)
    )


def _begin(model: RunModel, config: FilterConfig) -> FilterDynamics:
    """The VAE's own temporal prior if it has the size, else a fresh one that holds the last latent."""
    own = model.dynamics
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        if own.cell.hidden_size == config.hidden:
            return FilterDynamics.of(own).train()
        dynamics = FilterDynamics(model.vae.config.latent_dim, model.facts.action_dim, config.hidden)
    dynamics.action_scale.copy_(own.action_scale)
    return dynamics.train()


def _perceive(
    model: RunModel, uncertainty: Uncertainty, part: EpisodeStore, config: FilterConfig, tell: OnCalibrate
) -> _Frames:
    """Encode every frame once, and some of them once more when they are corrupted."""
    rng, generator = np.random.default_rng(config.seed), torch.Generator().manual_seed(config.seed)
    count = part.num_frames
    chosen = np.sort(rng.choice(count, min(config.corrupted, count), replace=False))

    def clean(numbers: NDArray[np.int64]) -> Tensor:
        return to_tensor(part.frames(numbers))

    def corrupted(numbers: NDArray[np.int64]) -> Tensor:
        return corrupt(clean(numbers), clean(rng.integers(count, size=len(numbers))), generator)

    def encoded(numbers: NDArray[np.int64], images: ImagesOf, before: int) -> tuple[Gaussian, Gaussian]:
        found = []
        for first in range(0, len(numbers), BATCH):
            with torch.no_grad():
                seen = uncertainty(model.vae, images(numbers[first : first + BATCH]))
            found.append((*seen.look.lone, *seen.total))
            done = before + min(first + BATCH, len(numbers))
            tell(CalibrateEvent(f"{PART}, encode", done, count + len(chosen)))
        mu, log_sigma, *total = (torch.cat(column) for column in zip(*found, strict=True))
        return Gaussian(mu, log_sigma), Gaussian(*total)

    raw, total = encoded(np.arange(count), clean, 0)
    broken = silenced(total, torch.ones(count, dtype=torch.bool))
    for whole, some in zip(broken, encoded(chosen, corrupted, count)[1], strict=True):
        whole[torch.from_numpy(chosen)] = some
    return _Frames(raw, total, broken)


def _batches(frames: _Frames, part: EpisodeStore, config: FilterConfig) -> Iterator[_Batch]:
    """Windows in which bursts of frames are silent, or corrupted as far as that was computed."""
    rng = np.random.default_rng((config.seed, 1))
    sequences, bursts = Sequences(part), Bursts(config.share, config.longest)
    length = min(config.window, int(part.lengths.max()))
    for _ in range(config.steps):
        windows = sequences.draw(length, config.batch, rng)
        numbers = torch.from_numpy(windows.numbers)
        lost = np.stack([bursts.draw(length, rng) for _ in range(config.batch)])
        silent = torch.from_numpy(lost & _alike(lost, config.silent, rng))
        seen = Gaussian.where(
            torch.from_numpy(lost)[..., None], frames.broken.rows(numbers), frames.total.rows(numbers)
        )
        mask = windows.mask.clone()
        mask[:, 0] = 0.0  # nothing leads to it
        yield _Batch(silenced(seen, silent), frames.raw.rows(numbers), windows.action, mask)


def _alike(lost: NDArray[np.bool_], share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Draws (B, L) that are true with a probability, and the same throughout a burst."""
    onsets = np.diff(lost, axis=1, prepend=False) & lost
    burst = onsets.cumsum(axis=1)
    drawn = rng.random((len(lost), int(burst.max()) + 1)) < share
    chosen: NDArray[np.bool_] = np.take_along_axis(drawn, burst, axis=1)
    return chosen


def _loss(rollout: Rollout, batch: _Batch, scale: Tensor, config: FilterConfig) -> Tensor:
    """Nats of the clean frames' messages under the prediction, and the squared error of its mean.

    The error stands beside the likelihood because that cares least for means that it has already given up on
    as wide (Seitzer et al., 2203.09168).
    """
    error = ((rollout.prior.mu - batch.truth.mu) / scale).square().sum(2)
    costs = nats(rollout.prior, batch.truth) + config.mean_weight * error
    return (costs * batch.mask).sum() / batch.mask.sum().clamp_min(1.0)


def _error(rollout: Rollout, batch: _Batch) -> float:
    """Mean squared error of the predicted means, a latent."""
    squares = (rollout.prior.mu.detach() - batch.truth.mu).square().mean(2) * batch.mask
    return float(squares.sum() / batch.mask.sum().clamp_min(1.0))


def nats(prior: Gaussian, lone: Gaussian) -> Tensor:
    """Minus the log density of frames' messages under what was predicted, less constants: (..., D) -> (...,).

    It is the likelihood by which a Kalman filter is fitted (Shumway & Stoffer 1982, section 2): a message has
    a variance of its own, so that where a frame says little the prediction need not be wide to hold it.
    """
    squared, width = innovations(prior, lone)
    return 0.5 * (squared + width.log()).sum(-1)
