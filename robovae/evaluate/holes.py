"""Has the latent space holes? Decode between and around the codes of real frames: does it look real?

A plain autoencoder is told where frames are, never what lies between them. The VAE beside it is trained on
the same data. Realism of a decoded frame is its distance to the nearest training frame: a frame without a
robot, with half a robot or with two of them is far from all of them. The controls say what the numbers mean:
held-out frames are as near as anything can be; two frames faded into each other, the mean frame, a frame
with its pixels shuffled, and noise are not real.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robovae.belief import Perceiver
from robovae.episodes import EpisodeStore
from robovae.evaluate.codes import Doubles, EvaluateError, Floats, encode, spread, spread_frames
from robovae.evaluate.intervals import interval, mean

Frames = NDArray[np.uint8]

WALK = (0.25, 0.5, 0.75)
"""Places along the straight line between two codes."""
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
    """Training frames at most, evenly spread, among which the nearest is looked for."""
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
        prior. A margin with low > 0 is a win of the VAE.

    Raises:
        EvaluateError: `plain` is no plain autoencoder or `vae` is one, or there are fewer than two episodes.
    """
    config = config or HolesConfig()
    _check(vae, plain, store)
    rng = np.random.default_rng(config.seed)
    ends = _pairs(store, config.pairs, rng)
    pool = spread_frames(train_store, config.pool)
    realism = Realism(pool)
    scored = {
        name: {what: realism(frames) for what, frames in _decoded(model, ends, train_store, config).items()}
        for name, model in (("vae", vae), ("plain", plain))
    }
    middle = "walk 0.5"
    return {
        "pairs": config.pairs,
        "pool": len(pool),
        "controls": {name: _figure(realism(frames)) for name, frames in _controls(ends, pool, rng).items()},
        **{name: _figures(distances) for name, distances in scored.items()},
        "margins": {
            "middle": _figure(scored["plain"][middle] - scored["vae"][middle]),
            "prior": _figure(scored["plain"]["prior"] - scored["vae"]["prior"]),
            "fitted": _figure(scored["plain"]["fitted"] - scored["vae"]["prior"]),
        },
    }


def _check(vae: Perceiver, plain: Perceiver, store: EpisodeStore) -> None:
    if vae.model.vae.config.deterministic or not plain.model.vae.config.deterministic:
        raise EvaluateError(
            "expected a VAE and a plain autoencoder (ModelConfig.deterministic), received "
            f"deterministic={vae.model.vae.config.deterministic} and {plain.model.vae.config.deterministic}"
        )
    if len(store) < 2:
        raise EvaluateError("expected at least 2 held-out episodes, received 1; collect more")


def _pairs(store: EpisodeStore, count: int, rng: np.random.Generator) -> tuple[Frames, Frames]:
    """Frames of two different episodes, `count` times."""
    one = rng.integers(len(store), size=count)
    other = (one + rng.integers(1, len(store), size=count)) % len(store)
    starts = np.cumsum(store.lengths) - store.lengths
    times = (starts[episodes] + rng.integers(store.lengths[episodes]) for episodes in (one, other))
    first, second = (store.frames(numbers) for numbers in times)
    return first, second


def _decoded(
    model: Perceiver, ends: tuple[Frames, Frames], train_store: EpisodeStore, config: HolesConfig
) -> dict[str, Frames]:
    """What a model draws at, between and around the codes of real frames."""
    one, other = (model(frames).mu for frames in ends)
    codes = encode(model, spread(train_store, config.pool)).mu
    rng = np.random.default_rng(config.seed)  # the same draws for both models
    normal = rng.standard_normal((config.pairs, model.latent_dim)).astype(np.float32)
    walk = {f"walk {share}": model.decode((1.0 - share) * one + share * other) for share in WALK}
    return {
        "ends": model.decode(one),
        **walk,
        "prior": model.decode(normal),
        "fitted": model.decode(codes.mean(axis=0) + normal @ _root(codes)),
    }


def _root(codes: Floats) -> Floats:
    """A matrix R, (D, D), such that normal draws times R have the covariance of codes (N, D)."""
    values, vectors = np.linalg.eigh(np.cov(codes.astype(np.float64).T))
    root: Floats = (vectors * np.sqrt(values.clip(0.0))).T.astype(np.float32)
    return root


def _controls(ends: tuple[Frames, Frames], pool: Frames, rng: np.random.Generator) -> dict[str, Frames]:
    one, other = ends
    faded = ((one.astype(np.uint16) + other) // 2).astype(np.uint8)
    pixels = one.reshape(len(one), -1, 3)
    shuffled = rng.permuted(np.arange(pixels.shape[1])[None].repeat(len(one), 0), axis=1)
    return {
        "held-out frames": one,
        "two frames faded": faded,
        "mean frame": pool.mean(axis=0, dtype=np.float64).round().astype(np.uint8)[None],
        "shuffled pixels": np.take_along_axis(pixels, shuffled[..., None], axis=1).reshape(one.shape),
        "noise": rng.integers(0, 256, one.shape, dtype=np.uint8),
    }


def _figures(distances: dict[str, Doubles]) -> dict[str, Any]:
    walk = [{"share": share, **_figure(distances[f"walk {share}"])} for share in WALK]
    rest = {name: _figure(distances[name]) for name in ("ends", "prior", "fitted")}
    return {**rest, "walk": walk}


def _figure(values: Doubles) -> dict[str, float]:
    low, high = interval(np.stack([values, np.ones_like(values)], axis=1), mean)
    return {"rmse": float(values.mean()), "low": low, "high": high}
