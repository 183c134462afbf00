"""What a model makes of a whole store: the beliefs of its frames, with actions and episodes beside them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robovae.belief import Perceiver
from robovae.episodes import EpisodeStore
from robovae.errors import RobovaeError
from robovae.frames import BATCH

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


class EvaluateError(RobovaeError):
    """Something cannot be measured with the data at hand."""


@dataclass(frozen=True, eq=False)
class Codes:
    """Lone-frame beliefs of N frames in E episodes, one episode after the other."""

    mu: Floats
    """(N, D)."""
    sigma: Floats
    """(N, D)."""
    action: Floats
    """(N, A); action[n] leads from frame n to the next, 0 at the end of an episode."""
    lengths: NDArray[np.int64]
    """(E,) frames of each episode."""

    def windows(self, length: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """All frames cut into windows within episodes: frame numbers (W, length) and where there is one."""
        ends = np.cumsum(self.lengths)
        starts = [np.arange(end - n, end, length) for end, n in zip(ends, self.lengths, strict=True)]
        last = np.repeat(ends, [len(each) for each in starts])[:, None]
        numbers = np.concatenate(starts)[:, None] + np.arange(length)
        return np.minimum(numbers, last - 1), numbers < last


def encode(perceiver: Perceiver, store: EpisodeStore) -> Codes:
    """Beliefs of all frames of a store."""
    beliefs = [perceiver(frames) for frames in store.batches(BATCH)]
    mu, sigma = (np.concatenate([getattr(b, name) for b in beliefs]) for name in ("mu", "sigma"))
    action = padded([store.array("action", index) for index in range(len(store))], store.lengths)
    return Codes(mu, sigma, action, store.lengths)


def padded(rows: list[NDArray[Any]], lengths: NDArray[np.int64]) -> Floats:
    """Arrays of one row a step joined to one of a row a frame, zeros where an episode has no more steps."""
    joined = np.zeros((int(lengths.sum()), rows[0].shape[1]), np.float32)
    for first, row in zip(np.cumsum(lengths) - lengths, rows, strict=True):
        joined[first : first + len(row)] = row
    return joined


def column(store: EpisodeStore, name: str) -> Doubles:
    """One array of all episodes that has a row a frame, (N, ...) float64.

    Raises:
        EpisodeError: the episodes have no such array.
    """
    rows = [store.array(name, index) for index in range(len(store))]
    return np.concatenate(rows).astype(np.float64)


def spread(store: EpisodeStore, frames: int) -> EpisodeStore:
    """Evenly chosen episodes that hold about so many frames, at least one; all where there are fewer."""
    count = max(1, int(len(store) * min(1.0, frames / store.num_frames)))
    return store.select(np.unique(np.linspace(0, len(store) - 1, count).astype(int)).tolist())


def spread_frames(store: EpisodeStore, frames: int) -> NDArray[np.uint8]:
    """Evenly chosen frames, at most so many, (B, H, W, 3)."""
    count = min(frames, store.num_frames)
    return store.frames(np.linspace(0, store.num_frames - 1, count).astype(np.int64))


def check_apart(store: EpisodeStore, train_store: EpisodeStore) -> None:
    """Refuse to judge on what was trained on.

    Raises:
        EvaluateError: the two stores share an episode, be it in two files.
    """
    known = {record.sha256 for record in train_store.records}
    seeds = sorted(record.seed for record in store.records if record.sha256 in known)
    if seeds:
        raise EvaluateError(
            f"expected held-out episodes, received training episode {seeds[0]} among them; "
            'use store.split("test") and store.split("train")'
        )
