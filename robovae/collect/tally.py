"""What a collection has done so far."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robovae.collect.config import CollectEvent, CollectSummary, EventKind
from robovae.collect.joints import Joint, hinges


@dataclass
class Tally:
    """Counts of one run; `begin` starts the clock of its frames a second."""

    total: int
    """Episodes to write."""
    skipped: int
    """Episodes that were there."""
    written: int = 0
    """Episodes written."""
    written_frames: int = 0
    """Frames in them."""
    frames_before: int = 0
    """Frames drawn by workers that are gone."""
    restarts: int = 0
    """Workers replaced."""
    visited: NDArray[np.bool_] | None = None
    """Bins of its range that each hinge visited."""
    called: float = field(default_factory=time.monotonic)
    began: float = 0.0
    """When the first worker had drawn a first frame; 0 before."""

    def begin(self) -> None:
        """A worker is ready; the first one starts the clock."""
        self.began = self.began or time.monotonic()

    def count(self, steps_of: Mapping[int, int], visited: NDArray[np.bool_] | None) -> None:
        """Some episodes were written, so many steps by seed."""
        self.written += len(steps_of)
        self.written_frames += sum(steps_of.values()) + len(steps_of)
        if visited is not None:
            self.visited = visited if self.visited is None else self.visited | visited

    def rate(self, count: int) -> float:
        """So many a second since the clock started."""
        seconds = time.monotonic() - self.began if self.began else 0.0
        return count / seconds if seconds else 0.0

    def event(self, kind: EventKind, frames: int, message: str) -> CollectEvent:
        """The state for a listener."""
        return CollectEvent(kind, frames, self.written, self.total, self.skipped, self.rate(frames), message)

    def sum_up(self, path: Path, workers: int, backend: str, joints: Sequence[Joint]) -> CollectSummary:
        """The state at the end."""
        end = time.monotonic()
        return CollectSummary(
            path=path,
            episodes=self.written,
            skipped=self.skipped,
            frames=self.written_frames,
            seconds=end - self.began,
            startup_seconds=self.began - self.called,
            fps=self.written_frames / (end - self.began),
            workers=workers,
            restarts=self.restarts,
            mean_length=(self.written_frames - self.written) / max(self.written, 1),
            coverage=self._coverage(joints),
            backend=backend,
        )

    def _coverage(self, joints: Sequence[Joint]) -> dict[str, float]:
        if self.visited is None:
            return {}
        shares = self.visited.mean(axis=1)
        return {str(joint["name"]): float(share) for joint, share in zip(hinges(joints), shares, strict=True)}
