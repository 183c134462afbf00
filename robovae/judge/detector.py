"""What a baseline detector is, how several are scored together, and what one costs.

A *scorer* is any object with `scores(frames) -> {name: (B,)}`, stateless, frame by frame. A *sequence scorer*
sees frames in their order. Every score is higher = stranger.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from robovae.belief import Belief
from robovae.judge.errors import JudgeError
from robovae.judge.footage import Doubles, Footage, Frames

Scores = dict[str, Doubles]


class Sees(Protocol):
    """What a baseline needs of a `Perceiver`."""

    def __call__(self, frames: Frames) -> Belief:
        """Beliefs of frames (B, H, W, 3)."""

    def reconstruct(self, frames: Frames) -> Frames:
        """What the model keeps of frames, the same shape."""


class Scorer(Protocol):
    """Scores frames one by one."""

    def scores(self, frames: Frames) -> Mapping[str, NDArray[np.floating]]:
        """Frames (B, H, W, 3) -> (B,) by name."""


@runtime_checkable
class SequenceScorer(Protocol):
    """Scores frames within their episodes."""

    def sequence_scores(self, footage: Footage) -> Mapping[str, NDArray[np.floating]]:
        """Footage of N frames -> (N,) by name."""


class Detector:
    """One score with one name."""

    name: ClassVar[str]

    def fit(self, frames: Frames) -> None:
        """Learn what nominal is from training frames (N, H, W, 3); by default there is nothing to learn."""

    def score(self, frames: Frames) -> Doubles:
        """Frames (B, H, W, 3) -> (B,), higher = stranger."""
        raise NotImplementedError


class Panel:
    """Detectors as one scorer.

    Args:
        detectors: of different names.

    Raises:
        JudgeError: two share a name.
    """

    def __init__(self, detectors: Sequence[Detector]) -> None:
        self.detectors = {detector.name: detector for detector in detectors}
        if len(self.detectors) != len(detectors):
            names = [detector.name for detector in detectors]
            raise JudgeError(f"expected detectors of different names, received {', '.join(names)}")

    def fit(self, frames: Frames) -> None:
        """Fit them all on training frames."""
        for detector in self.detectors.values():
            detector.fit(frames)

    def scores(self, frames: Frames) -> Scores:
        """Frames (B, H, W, 3) -> (B,) by name."""
        return {name: detector.score(frames) for name, detector in self.detectors.items()}


class Functions:
    """Plain functions of frames as one scorer."""

    def __init__(self, functions: Mapping[str, Callable[[Frames], NDArray[np.floating]]]) -> None:
        self.functions = dict(functions)

    def scores(self, frames: Frames) -> Mapping[str, NDArray[np.floating]]:
        """Frames (B, H, W, 3) -> (B,) by name."""
        return {name: function(frames) for name, function in self.functions.items()}


class Remembering:
    """A perceiver that computes once what several detectors ask of the very same array."""

    def __init__(self, sees: Sees) -> None:
        self.sees = sees
        self._belief: tuple[Frames, Belief] | None = None
        self._kept: tuple[Frames, Frames] | None = None

    def __call__(self, frames: Frames) -> Belief:
        """Beliefs of frames."""
        if self._belief is None or self._belief[0] is not frames:
            self._belief = frames, self.sees(frames)
        return self._belief[1]

    def reconstruct(self, frames: Frames) -> Frames:
        """What the model keeps of frames."""
        if self._kept is None or self._kept[0] is not frames:
            self._kept = frames, self.sees.reconstruct(frames)
        return self._kept[1]


def score_footage(scorers: Sequence[Scorer | SequenceScorer], footage: Footage) -> Scores:
    """What every scorer says, by name, (N,) each.

    Raises:
        JudgeError: two scores share a name, or one is not a finite number a frame.
    """
    found: Scores = {}
    for scorer in scorers:
        if isinstance(scorer, SequenceScorer):
            said = scorer.sequence_scores(footage)
        else:
            said = scorer.scores(footage.frames)
        for name, values in said.items():
            if name in found:
                raise JudgeError(f"expected one score called {name!r}, received two; rename one")
            found[name] = _checked(name, values, len(footage))
    return found


def cost(detector: Detector, frame: Frames, repeats: int = 30) -> float:
    """Median seconds to score one frame on one thread, after a warm-up.

    Args:
        detector: fitted.
        frame: (1, H, W, 3); a copy is handed in each time, so that nothing is remembered.
        repeats: timed runs.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        detector.score(frame.copy())
        return statistics.median(_timed(detector, frame.copy()) for _ in range(repeats))
    finally:
        torch.set_num_threads(threads)


def _timed(detector: Detector, frame: Frames) -> float:
    begin = time.perf_counter()
    detector.score(frame)
    return time.perf_counter() - begin


def _checked(name: str, values: NDArray[np.floating], count: int) -> Doubles:
    array = np.asarray(values, np.float64)
    if array.shape != (count,) or not np.isfinite(array).all():
        raise JudgeError(
            f"score {name!r}: expected {count} finite numbers, received shape {array.shape} with "
            f"{int((~np.isfinite(array)).sum())} that are not; mend the scorer"
        )
    return array
