"""Footage: the frames of some episodes in memory, with what was done and where the robot was."""

import hashlib
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from robovae.episodes import EpisodeStore
from robovae.evaluate.codes import padded
from robovae.judge.errors import JudgeError

Frames = NDArray[np.uint8]
Doubles = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class Footage:
    """N frames of E episodes, one episode after the other.

    Raises:
        JudgeError: the parts do not fit each other.
    """

    frames: Frames
    """(N, H, W, 3)."""
    lengths: NDArray[np.int64]
    """(E,) frames of each episode."""
    action: NDArray[np.float32]
    """(N, A); action[n] leads from frame n to the next, 0 at the end of an episode."""
    qpos: Doubles | None = None
    """(N, nq) positions of the joints, where the environment tells them."""

    def __post_init__(self) -> None:
        total = int(self.lengths.sum())
        parts = (self.frames, self.action) if self.qpos is None else (self.frames, self.action, self.qpos)
        if any(len(part) != total for part in parts) or not len(self.lengths) or self.lengths.min() < 1:
            raise JudgeError(
                f"expected {total} frames in episodes of at least one, received {[len(p) for p in parts]} "
                f"rows in {len(self.lengths)} episodes"
            )

    @classmethod
    def of(cls, store: EpisodeStore, *, episodes: int | None = None, steps: int | None = None) -> Self:
        """The first episodes of a store, each cut after `steps` steps; all of it where None.

        Raises:
            JudgeError: the store has fewer episodes.
        """
        count = len(store) if episodes is None else episodes
        if not 1 <= count <= len(store):
            raise JudgeError(
                f"expected {count} episodes, received {len(store)} in {store.path}; collect more"
            )
        whole = [store[index] for index in range(count)]
        stop = None if steps is None else steps + 1
        images = [one.image[:stop] for one in whole]
        lengths = np.array([len(image) for image in images])
        actions = [np.asarray(one.action[: len(image) - 1]) for one, image in zip(whole, images, strict=True)]
        told = all("qpos" in one.extra for one in whole)
        qpos = [np.asarray(one.extra["qpos"][:stop], np.float64) for one in whole] if told else None
        return cls(
            np.concatenate(images),
            lengths,
            padded([row.reshape(len(row), -1) for row in actions], lengths),
            None if qpos is None else np.concatenate(qpos),
        )

    def __len__(self) -> int:
        return len(self.frames)

    def __repr__(self) -> str:
        return f"Footage({len(self.lengths)} episodes, frames {self.frames.shape})"

    @property
    def episode(self) -> NDArray[np.int64]:
        """(N,) the number of each frame's episode."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    def first(self, episodes: int) -> "Footage":
        """The first episodes, as views."""
        count = int(self.lengths[:episodes].sum())
        qpos = None if self.qpos is None else self.qpos[:count]
        return Footage(self.frames[:count], self.lengths[:episodes], self.action[:count], qpos)

    def digest(self) -> str:
        """Hex SHA-256 of frames and lengths."""
        hashed = hashlib.sha256(np.ascontiguousarray(self.frames).data)
        hashed.update(self.lengths.astype("<i8").tobytes())
        return hashed.hexdigest()
