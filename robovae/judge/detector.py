"""What a baseline detector is, how several are scored together, and what one costs.

A *scorer* is any object with `scores(frames) -> {name: (B,)}`, stateless, frame by frame. A *sequence scorer*
sees frames in their order. Every score is higher = stranger.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from robovae.belief import Belief
from robovae.device import threads
from robovae.judge.errors import JudgeError
from robovae.judge.footage import Doubles, Footage, Frames

Scores = dict[str, Doubles]
Out = TypeVar("Out")


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
        skipped: names of those that cannot be had here, and why.

    Raises:
        JudgeError: two share a name.
    """

    def __init__(self, detectors: Sequence[Detector], skipped: Mapping[str, str] | None = None) -> None:
        self.detectors = {detector.name: detector for detector in detectors}
        self.skipped = dict(skipped or {})
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


class Once(Generic[Out]):
    """A function of frames that computes once what is asked of the very same array."""

    def __init__(self, function: Callable[[Frames], Out]) -> None:
        self._function = function
        self._last: tuple[Frames, Out] | None = None

    def __call__(self, frames: Frames) -> Out:
        """The function's result."""
        if self._last is None or self._last[0] is not frames:
            self._last = frames, self._function(frames)
        return self._last[1]

    def knows(self, frames: Frames) -> bool:
        """Whether it was asked last of the very same array."""
        return self._last is not None and self._last[0] is frames


class Remembering:
    """A perceiver that computes once what several detectors ask of the very same array."""

    def __init__(self, sees: Sees) -> None:
        self._belief, self._kept = Once(sees), Once(sees.reconstruct)

    def __call__(self, frames: Frames) -> Belief:
        """Beliefs of frames."""
        return self._belief(frames)

    def reconstruct(self, frames: Frames) -> Frames:
        """What the model keeps of frames."""
        return self._kept(frames)


def evenly(count: int, at_most: int) -> NDArray[np.int64]:
    """Evenly spread numbers from 0 to count - 1, at most so many."""
    return np.unique(np.linspace(0, count - 1, min(at_most, count)).astype(np.int64))


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


def median_seconds(call: Callable[[Frames], object], frame: Frames, repeats: int = 30) -> float:
    """Median seconds of a call with a fresh copy of a frame (1, H, W, 3) on one thread, after a warm-up."""
    with threads(1):
        call(frame.copy())
        return statistics.median(_timed(call, frame.copy()) for _ in range(repeats))


def _timed(call: Callable[[Frames], object], frame: Frames) -> float:
    begin = time.perf_counter()
    call(frame)
    return time.perf_counter() - begin


def _checked(name: str, values: NDArray[np.floating], count: int) -> Doubles:
    array = np.asarray(values, np.float64)
    if array.shape != (count,) or not np.isfinite(array).all():
        raise JudgeError(
            f"score {name!r}: expected {count} finite numbers, received shape {array.shape} with "
            f"{int((~np.isfinite(array)).sum())} that are not; mend the scorer"
        )
    return array
