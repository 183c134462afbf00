"""What the model makes of frames, as rows of pictures with their numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robovae.belief import Perceiver
from robovae.episodes import EpisodeStore
from robovae.frames import to_tensor
from robovae.gaussian import Gaussian, kl
from robovae.report.pictures import Image, Picture, enlarge, film, heat, picture, png, row, wrapped
from robovae.vae import CELL, VAE

FILM_FRAMES = 10
SHOWN_DIMS = 8
SPAN = 2.5
"""Traversals go this many of the prior's deviations to either side."""
SAMPLES = 24
WALKS = 4
WALK_STEPS = 6
_BLOCK = 5
"""Frames side by side: two blocks fill a wide page, one a narrow one."""


@dataclass(frozen=True)
class Strip:
    """A labelled row of frames."""

    name: str
    note: str
    """What the label adds in small letters; may be empty."""
    picture: Picture


Blocks = list[list[Strip]]
"""Blocks stand side by side where there is room; within one, strips are aligned frame by frame."""


def spread(store: EpisodeStore, count: int) -> Image:
    """Frames from as many episodes as there are, at times spread from the first frame to the last."""
    episodes = np.linspace(0, len(store) - 1, count).round().astype(np.int64)
    shares = (np.arange(count) * 0.6180339887) % 1.0
    times = (shares * (store.lengths[episodes] - 1)).round().astype(np.int64)
    starts = np.cumsum(store.lengths) - store.lengths
    return store.frames(starts[episodes] + times)


def filmstrip(perceiver: Perceiver, frames: Image) -> tuple[Blocks, bytes, dict[str, float]]:
    """Frames over what the grid and the global belief make of them.

    Returns:
        Blocks for the page, the README's PNG, and the error's scale in units of [0, 1] pixels.
    """
    drawn, explained = perceiver.reconstruct(frames), perceiver.decode(perceiver(frames).mu)
    error = np.abs(frames.astype(np.float32) - drawn.astype(np.float32)).mean(-1) / 255.0
    top = float(np.quantile(error, 0.999))
    errors = heat(error, 0.0, top, "error")
    rows = {
        "Frame": ("what the camera gave", frames),
        "Reconstruction": ("through the grid of local latents", drawn),
        "Error": ("absolute, brighter is worse", errors),
        "Global belief alone": ("decoded from mu, nothing else", explained),
    }
    numbers = {"error_top": top, "error_mean": float(error.mean())}
    return _blocks(rows, "test frames"), png(film([frames, drawn, errors])), numbers


def _blocks(rows: dict[str, tuple[str, Image]], of: str) -> Blocks:
    count = len(next(iter(rows.values()))[1])
    parts = [slice(first, first + _BLOCK) for first in range(0, count, _BLOCK)]
    return [
        [
            Strip(
                name,
                note,
                picture(row(images[part]), f"{name} of {of} {part.start + 1} to {min(part.stop, count)}"),
            )
            for name, (note, images) in rows.items()
        ]
        for part in parts
    ]


def local_maps(vae: VAE, frames: Image) -> dict[str, NDArray[np.float32]]:
    """What each cell of 8x8 pixels holds, (B, h, w) each.

    Returns:
        "sigma": geometric mean of the standard deviations over the grid's channels; "information":
        KL(q(grid|x) || N(0, I)) in nats; "unexplained": KL(q(grid|x) || p(grid|z)) at z = mu, in nats.
    """
    with torch.no_grad():
        local, belief = vae(to_tensor(frames))
        alone = kl(local, Gaussian.standard(local.mu)).sum(1)
        unexplained = kl(local, vae.predict_grid(belief.mu)).sum(1)
        sigma = local.log_sigma.mean(1).exp()
    maps = {"sigma": sigma, "information": alone, "unexplained": unexplained}
    return {name: values.numpy() for name, values in maps.items()}


MAPS = {
    "sigma": ("sigma", "Local sigma", "brighter is less certain"),
    "information": ("nats", "Information", "nats a cell, the cell on its own"),
    "unexplained": ("nats", "Left to say", "nats a cell, once the global belief is known"),
}
"""Palette, name and note of each map."""


def map_rows(vae: VAE, frames: Image, many: Image) -> tuple[Blocks, dict[str, Any]]:
    """Maps of some frames, and their mean over many.

    Returns:
        Blocks (the last column of the last one is the mean), and each map's scale and mean.
    """
    shown, over = local_maps(vae, frames), local_maps(vae, many)
    mean_frame = many.mean(0).round().astype(np.uint8)
    rows = {"Frame": ("the last is the mean of the test frames", np.concatenate([frames, mean_frame[None]]))}
    scales = {}
    for key, (palette, name, note) in MAPS.items():
        values = np.concatenate([shown[key], over[key].mean(0, keepdims=True)])
        low, high = (float(np.quantile(values, q)) for q in (0.01, 0.99))
        rows[name] = (note, heat(enlarge(values, CELL), low, high, palette))
        total = float(over[key].mean()) if key == "sigma" else float(over[key].sum((1, 2)).mean())
        scales[key] = {"low": low, "high": high, "a_frame": total}
    return _blocks(rows, "test frames"), scales


def traversals(perceiver: Perceiver, frame: Image, dimensions: Sequence[Mapping[str, Any]]) -> list[Strip]:
    """The most informative dimensions: only one moves, the others stay at mu; last, which pixels moved."""
    strips = []
    for one in dimensions[:SHOWN_DIMS]:
        steps = perceiver.traverse(frame, one["dim"], steps=7, span=SPAN)
        moved = steps.astype(np.float32).std(0).mean(-1)[None]
        shown = np.concatenate([steps, heat(moved, 0.0, max(float(moved.max()), 1.0), "error")])
        alt = f"Frames decoded while dimension {one['dim']} goes from low to high, then a map of what moved"
        note = f"{one['nats']:.2f} nats a frame"
        strips.append(Strip(f"Dimension {one['dim']}", note, picture(row(shown), alt)))
    return strips


def samples(perceiver: Perceiver, real: Image, columns: int = 6) -> Blocks:
    """Frames decoded from z ~ N(0, I), and as many real ones."""
    drawn = picture(wrapped(perceiver.sample(len(real), seed=0), columns), "Frames decoded from the prior")
    shown = picture(wrapped(real, columns), "Real frames of the test split")
    return [
        [Strip("Drawn from the prior", "z ~ N(0, I), then decoded", drawn)],
        [Strip("Real", "frames of the test split", shown)],
    ]


def walk_rows(perceivers: Mapping[str, Perceiver], ends: Image) -> Blocks:
    """Walks through the latent space of each model, from one frame to another.

    Args:
        perceivers: by name.
        ends: (2 N, H, W, 3), the N first frames of the walks, then the N last ones.

    Returns:
        A block a walk: a row a model, the camera's own frames at both ends of it.
    """
    pairs = list(zip(ends[: len(ends) // 2], ends[len(ends) // 2 :], strict=True))
    return [
        [
            Strip(
                name,
                f"walk {number}",
                picture(
                    row(np.concatenate([start[None], one.interpolate(start, end, WALK_STEPS), end[None]])),
                    f"Walk {number} through the latent space of the {name}",
                ),
            )
            for name, one in perceivers.items()
        ]
        for number, (start, end) in enumerate(pairs, 1)
    ]


def heat_rows(values: NDArray[np.float64], palette: str, alt: str) -> Picture:
    """A matrix (rows, columns) as a picture of one pixel a value."""
    return picture(heat(values[None], 0.0, float(values.max(initial=1e-6)), palette)[0], alt)
