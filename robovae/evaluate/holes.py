"""Has the latent space holes? Decode between and around the codes of real frames: does it look real?

A plain autoencoder is told where frames are, never what lies between them. The VAE beside it is trained on
the same data. Realism of a decoded frame is its distance to the nearest training frame: a frame without a
robot, with half a robot or with two of them is far from all of them. The controls say what the numbers mean:
held-out frames are as near as anything can be; two frames faded into each other, the mean frame, a frame
with its pixels shuffled, and noise are not real.

And is a point between two codes understood? Its frame is drawn and encoded again, and a probe reads the
joints off both: off the point itself, and off what the encoder makes of its frame. Where there is a hole, the
decoder draws one thing and the point meant another.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robovae.belief import Perceiver
from robovae.episodes import EpisodeStore
from robovae.evaluate.codes import Doubles, EvaluateError, Floats, check_apart, encode, spread, spread_frames
from robovae.evaluate.intervals import paired_interval
from robovae.evaluate.probe import Probe, ProbeConfig, Target, joint_targets

Frames = NDArray[np.uint8]
Numbers = NDArray[np.int64]
Units = Mapping[str, Numbers]
"""Numbers of the episodes behind each value, (P, k), by what was measured; without any, each is its own."""

WALK = (0.25, 0.5, 0.75)
"""Places along the straight line between two codes."""
_MIDDLE = "walk 0.5"
_BLOCK = 2048
"""Real frames that are compared at a time."""


@dataclass(frozen=True)
class HolesConfig:
    """How much is compared.

    Raises:
        EvaluateError: a number is below 2.
    """

    pairs: int = 128
    """Pairs of held-out frames of different episodes; as many samples are drawn."""
    pool: int = 10_000
    """Training frames at most, evenly spread, among which the nearest is looked for and which probes fit."""
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    """Of the probes that read the joints."""
    seed: int = 0
    """Of the pairs and the samples."""

    def __post_init__(self) -> None:
        if min(self.pairs, self.pool) < 2:
            raise EvaluateError(f"expected at least 2 pairs and 2 frames, received {self}; raise them")


class Realism:
    """Distance to the nearest of a pool of real frames."""

    def __init__(self, pool: Frames) -> None:
        rows = pool.reshape(len(pool), -1)
        self._centre = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
        self._rows = rows

    def __call__(self, frames: Frames) -> Doubles:
        """Pixel RMSE of each frame (B, H, W, 3) to the nearest real one, (B,), in units of [0, 1] pixels."""
        own = self._centred(frames.reshape(len(frames), -1))
        size = own.square().sum(1)
        nearest = torch.full((len(own),), torch.inf)
        for first in range(0, len(self._rows), _BLOCK):
            real = self._centred(self._rows[first : first + _BLOCK])
            squares = size[:, None] + real.square().sum(1) - 2.0 * own @ real.T
            nearest = torch.minimum(nearest, squares.min(1).values)
        rmse: Doubles = (nearest.clamp_min(0.0) / own.shape[1]).sqrt().double().numpy()
        return rmse

    def _centred(self, rows: NDArray[np.uint8]) -> torch.Tensor:
        return torch.from_numpy((rows - self._centre) / np.float32(255.0))


class Reader:
    """The joints read off codes (N, D) of a model, after a probe fitted on codes whose joints are known."""

    def __init__(self, codes: Floats, joints: list[Target], config: ProbeConfig) -> None:
        values = [joint.values for joint in joints if joint.values is not None]
        # A joint counts as one, however many columns it has: its columns share the variance of all of them.
        widths = [np.sqrt(len(values) * one.var(axis=0).sum()) for one in values]
        self._scale = np.repeat(widths, [one.shape[1] for one in values])
        self._probe = Probe(codes, np.concatenate(values, axis=1), config)

    def distance(self, one: Floats, other: Floats) -> Doubles:
        """RMS over the joints, in standard deviations of each, between two readings: (B, D) -> (B,)."""
        apart = (self._probe(one) - self._probe(other)) / self._scale
        rms: Doubles = np.sqrt(np.square(apart).sum(axis=1))
        return rms


def compare_holes(
    vae: Perceiver,
    plain: Perceiver,
    store: EpisodeStore,
    train_store: EpisodeStore,
    config: HolesConfig | None = None,
) -> dict[str, Any]:
    """Compare a VAE with a plain autoencoder of the same body, trained on the same data.

    Args:
        vae: the VAE.
        plain: the autoencoder (`ModelConfig.deterministic`).
        store: held-out episodes, at least two; the ends of the walks are frames of it.
        train_store: training episodes; realism is nearness to their frames.
        config: how much is compared.

    Returns:
        JSON-able; each distance is {"rmse", "low", "high"} with a 95 % bootstrap interval, smaller is more
        real. "controls" by name; "vae" and "plain": "ends" (decoded codes of real frames), "walk" (a list,
        with "share"), "prior" (decoded draws of N(0, I)), "fitted" (draws of the Gaussian fitted to the
        model's training codes). "margins": how much farther from real the plain autoencoder's are, as
        {"rmse", "low", "high"}: "middle" of the walks, pair by pair; "prior", and "fitted" against the VAE's
        prior. A margin with low > 0 is a win of the VAE. "reading", None where no joints are described: how
        far the joints read off a point are from those read off its frame, encoded again, in standard
        deviations of the joints; for "vae" and "plain" the "ends", the "walk" and, as a control of a probe
        that reads nothing, "stranger" (the middle against the frame of another pair's middle); "margin", of
        the middles, pair by pair.

    Raises:
        EvaluateError: `plain` is no plain autoencoder or `vae` is one, there are fewer than two episodes, or
            the two stores share one.
    """
    config = config or HolesConfig()
    _check(vae, plain, store)
    check_apart(store, train_store)
    rng = np.random.default_rng(config.seed)
    episodes, ends = _pairs(store, config.pairs, rng)
    units = _units(*episodes)
    pool, known = spread_frames(train_store, config.pool), spread(train_store, config.pool)
    realism = Realism(pool)
    joints = [joint for joint in joint_targets(known) if joint.values is not None]
    scored, read = {}, {}
    for name, model in (("vae", vae), ("plain", plain)):
        codes = encode(model, known).mu
        points = _points(model, ends, codes, config)
        drawn = {what: model.decode(z) for what, z in points.items()}
        scored[name] = {what: realism(frames) for what, frames in drawn.items()}
        if joints:
            read[name] = _readings(model, Reader(codes, joints, config.probe), points, drawn)
    return {
        "pairs": config.pairs,
        "pool": len(pool),
        "controls": {
            name: _figure(realism(frames), units.get(name))
            for name, frames in _controls(ends, pool, rng).items()
        },
        **{name: _figures(distances, units) for name, distances in scored.items()},
        "margins": {
            "middle": _figure(scored["plain"][_MIDDLE] - scored["vae"][_MIDDLE], units[_MIDDLE]),
            "prior": _figure(scored["plain"]["prior"] - scored["vae"]["prior"]),
            "fitted": _figure(scored["plain"]["fitted"] - scored["vae"]["prior"]),
        },
        "reading": _compared(read, units) if joints else None,
    }


def _check(vae: Perceiver, plain: Perceiver, store: EpisodeStore) -> None:
    if vae.model.vae.config.deterministic or not plain.model.vae.config.deterministic:
        raise EvaluateError(
            "expected a VAE and a plain autoencoder (ModelConfig.deterministic), received "
            f"deterministic={vae.model.vae.config.deterministic} and {plain.model.vae.config.deterministic}"
        )
    if len(store) < 2:
        raise EvaluateError("expected at least 2 held-out episodes, received 1; collect more")


def _pairs(
    store: EpisodeStore, count: int, rng: np.random.Generator
) -> tuple[tuple[Numbers, Numbers], tuple[Frames, Frames]]:
    """Frames of two different episodes, `count` times: the episodes' numbers, and the frames."""
    one = rng.integers(len(store), size=count)
    other = (one + rng.integers(1, len(store), size=count)) % len(store)
    starts = np.cumsum(store.lengths) - store.lengths
    times = (starts[episodes] + rng.integers(store.lengths[episodes]) for episodes in (one, other))
    first, second = (store.frames(numbers) for numbers in times)
    return (one, other), (first, second)


def _units(one: Numbers, other: Numbers) -> dict[str, Numbers]:
    """The episodes behind each value of what is measured on frames of `_pairs`, see `Units`."""
    both, single = np.stack([one, other], axis=1), np.concatenate([one, other])[:, None]
    walked = (*(f"walk {share}" for share in WALK), "stranger", "two frames faded")
    return {
        **dict.fromkeys(walked, both),
        **dict.fromkeys(("ends", "held-out frames"), single),
        "shuffled pixels": one[:, None],
    }


def _points(
    model: Perceiver, ends: tuple[Frames, Frames], codes: Floats, config: HolesConfig
) -> dict[str, Floats]:
    """Latents at, between and around the codes of real frames, each (pairs, D), "ends" (2 pairs, D)."""
    one, other = (model(frames).mu for frames in ends)
    rng = np.random.default_rng(config.seed)  # the same draws for both models
    normal = rng.standard_normal((config.pairs, model.latent_dim)).astype(np.float32)
    return {
        "ends": np.concatenate([one, other]),
        **{f"walk {share}": (1.0 - share) * one + share * other for share in WALK},
        "prior": normal,
        "fitted": codes.mean(axis=0) + normal @ _root(codes),
    }


def _root(codes: Floats) -> Floats:
    """A matrix R, (D, D), such that normal draws times R have the covariance of codes (N, D)."""
    values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(codes.astype(np.float64).T)))
    root: Floats = (vectors * np.sqrt(values.clip(0.0))).T.astype(np.float32)
    return root


def _readings(
    model: Perceiver, reader: Reader, points: dict[str, Floats], drawn: dict[str, Frames]
) -> dict[str, Doubles]:
    """How far what is read off points is from what is read off their frames, encoded again."""
    again = {what: model(drawn[what]).mu for what in points if what not in ("prior", "fitted")}
    found = {what: reader.distance(points[what], mu) for what, mu in again.items()}
    return {**found, "stranger": reader.distance(points[_MIDDLE], np.roll(again[_MIDDLE], 1, axis=0))}


def _controls(ends: tuple[Frames, Frames], pool: Frames, rng: np.random.Generator) -> dict[str, Frames]:
    one, other = ends
    faded = ((one.astype(np.uint16) + other) // 2).astype(np.uint8)
    pixels = one.reshape(len(one), -1, 3)
    shuffled = rng.permuted(np.arange(pixels.shape[1])[None].repeat(len(one), 0), axis=1)
    return {
        "held-out frames": np.concatenate(ends),
        "two frames faded": faded,
        "mean frame": pool.mean(axis=0, dtype=np.float64).round().astype(np.uint8)[None],
        "shuffled pixels": np.take_along_axis(pixels, shuffled[..., None], axis=1).reshape(one.shape),
        "noise": rng.integers(0, 256, one.shape, dtype=np.uint8),
    }


def _figures(distances: dict[str, Doubles], units: Units) -> dict[str, Any]:
    found = {name: _figure(values, units.get(name)) for name, values in distances.items()}
    walk = [{"share": share, **found.pop(f"walk {share}")} for share in WALK]
    return {**found, "walk": walk}


def _compared(read: dict[str, dict[str, Doubles]], units: Units) -> dict[str, Any]:
    margin = _figure(read["plain"][_MIDDLE] - read["vae"][_MIDDLE], units[_MIDDLE])
    return {**{name: _figures(distances, units) for name, distances in read.items()}, "margin": margin}


def _figure(values: Doubles, units: Numbers | None = None) -> dict[str, float]:
    """A mean with its interval; `units` (P, k) are the episodes behind each value, None: each its own."""
    units = np.arange(len(values))[:, None] if units is None else units
    low, high = paired_interval(values, units)
    return {"rmse": float(values.mean()), "low": low, "high": high}
