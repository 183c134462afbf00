"""What training reads: batches of frames, and windows of grid posteriors with their actions."""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robovae.episodes import EpisodeStore
from robovae.frames import BATCH, to_tensor
from robovae.gaussian import Gaussian
from robovae.train.device import Hardware
from robovae.vae import VAE

_CACHE_BYTES = 2_000_000_000
"""Of grid posteriors kept in memory at most, a million frames at 64x64; past that each is encoded anew."""


def mean_frame(store: EpisodeStore, most: int = 4096) -> Tensor:
    """Mean of evenly spread frames, (3, H, W) in [0, 1]."""
    numbers = np.linspace(0, store.num_frames - 1, min(most, store.num_frames)).astype(np.int64)
    return to_tensor(store.frames(numbers)).mean(0)


@dataclass(frozen=True)
class Windows:
    """B windows of L frames, by number, with their actions and rewards."""

    numbers: NDArray[np.int64]
    """(B, L) frame numbers in the store; the last frame repeats past the episode's end."""
    action: Tensor
    """(B, L, A)."""
    reward: Tensor
    """(B, L), of the step that leads on from each frame."""
    mask: Tensor
    """(B, L), 1 where there is a frame."""


class Sequences:
    """Windows of a store, drawn without touching a pixel."""

    def __init__(self, store: EpisodeStore) -> None:
        self.lengths = store.lengths
        self.starts = np.cumsum(self.lengths) - self.lengths
        width = store.array("action", 0).shape[1]
        self.action = np.zeros((store.num_frames, width), np.float32)
        self.reward = np.zeros(store.num_frames, np.float32)
        for index, start in enumerate(self.starts):
            taken = store.array("action", index)
            self.action[start : start + len(taken)] = taken
            self.reward[start : start + len(taken)] = store.array("reward", index)

    def draw(self, length: int, batch: int, rng: np.random.Generator) -> Windows:
        """Windows that start anywhere, every one equally likely; a short episode is one window."""
        choices = np.maximum(self.lengths - length + 1, 1)
        ends = np.cumsum(choices)
        drawn = rng.integers(ends[-1], size=batch)
        episodes = np.searchsorted(ends, drawn, side="right")
        return self.at(episodes, drawn - (ends - choices)[episodes], length)

    def at(self, episodes: NDArray[np.int64], offsets: NDArray[np.int64], length: int) -> Windows:
        """Windows of `length` frames from frame offsets[i] of episodes[i]."""
        times = offsets[:, None] + np.arange(length)
        mask = times < self.lengths[episodes][:, None]
        numbers = self.starts[episodes][:, None] + np.minimum(times, self.lengths[episodes][:, None] - 1)
        action, reward = torch.from_numpy(self.action[numbers]), torch.from_numpy(self.reward[numbers])
        return Windows(numbers, action, reward, torch.from_numpy(mask).float())

    def reward_scale(self) -> tuple[float, float]:
        """Mean and standard deviation of the rewards."""
        last = self.starts + self.lengths - 1  # no step leads on from there
        given = np.delete(self.reward, last)
        return float(given.mean(dtype=np.float64)), float(given.std(dtype=np.float64))

    def whole(self, most: int, length: int) -> Windows:
        """The first `length` frames of at most `most` episodes, evenly spread: for evaluation."""
        episodes = np.unique(np.linspace(0, len(self.lengths) - 1, most).astype(np.int64))
        return self.at(episodes, np.zeros_like(episodes), length)


class GridSource(Protocol):
    """Gives q(grid | x) by frame number."""

    def __call__(self, numbers: NDArray[np.int64]) -> Gaussian:
        """Frame numbers (N,) -> Gaussian of (N, c, h, w)."""
        ...


def grid_source(model: VAE, store: EpisodeStore, hardware: Hardware) -> GridSource:
    """The grid posteriors of a store under a finished local level: from memory where they fit."""

    def encode(numbers: NDArray[np.int64]) -> Gaussian:
        parts = []
        for first in range(0, len(numbers), BATCH):
            frames = to_tensor(store.frames(numbers[first : first + BATCH]), hardware.device)
            with torch.no_grad(), hardware.autocast():
                parts.append(model.encode_local(frames))
        return Gaussian(torch.cat([p.mu for p in parts]), torch.cat([p.log_sigma for p in parts]))

    if store.num_frames * 2 * 4 * math.prod(model.grid_shape) > _CACHE_BYTES:
        return encode
    known = encode(np.arange(store.num_frames))

    def look_up(numbers: NDArray[np.int64]) -> Gaussian:
        index = torch.from_numpy(numbers).to(known.mu.device)
        return Gaussian(known.mu[index], known.log_sigma[index])

    return look_up
