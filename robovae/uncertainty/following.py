"""Temporal scores: what a frame is worth after those before it. Higher = stranger."""

import torch
from torch import Tensor

from robovae.dynamics import FilterDynamics
from robovae.gaussian import Gaussian
from robovae.tracker import Tracker, innovations

TEMPORAL = ("innovation", "stillness")
"""Names, in the order of the columns that `Follower` gives; the other scores judge a frame on its own."""
TOLD = ("innovation",)
"""Those that are told but decide nothing: a joint at its stop or a kick, which the dynamics have hardly met,
is an innovation too, and no fault of the camera."""

_QUIET = 1e-3
_STILL = 1e-4
"""Mean squared change of mu below which a picture does not move."""


class Follower:
    """Filters B sequences side by side and scores each frame against what was predicted.

    - innovation: log of how far the frame's message lies from the prediction, in the width of both. It sees
      what jumps.
    - stillness: log of how far the belief was expected to move over how far it did. A frozen frame is no
      surprise to a filter that has watched it for some steps, but it moves by nothing at all. What is
      expected is the mean motion alone: a robot at rest may be predicted widely, and moves as little.

    Args:
        dynamics: of the belief filter.
    """

    def __init__(self, dynamics: FilterDynamics) -> None:
        self._tracker = Tracker(dynamics)
        self._seen: Tensor | None = None

    def reset(self) -> None:
        """New sequences begin."""
        self._tracker.reset()
        self._seen = None

    def keep(self, count: int) -> None:
        """Go on with the first `count` sequences; the others have ended."""
        self._tracker.keep(count)
        if self._seen is not None:
            self._seen = self._seen[:count]

    def update(self, lone: Gaussian, action: Tensor | None = None) -> Tensor:
        """Score the next frame of each sequence.

        Args:
            lone: calibrated beliefs of the frames under N(0, I), (B, D).
            action: what led to these frames, (B, A); the first frame has none.

        Returns:
            (B, len(TEMPORAL)); zeros for a first frame, which nothing leads to.
        """
        step, before, self._seen = self._tracker.update(lone, action), self._seen, lone.mu
        if before is None or step.last is None:
            return lone.mu.new_zeros(len(lone.mu), len(TEMPORAL))
        return temporal_scores(lone, step.prior, step.last, before)


def temporal_scores(lone: Gaussian, prior: Gaussian, last: Tensor, before: Tensor) -> Tensor:
    """Scores of frames that others came before.

    Args:
        lone: beliefs of the frames under N(0, I), (B, D).
        prior: what was predicted, (B, D).
        last: posterior means after the frames before, (B, D).
        before: means of the lone beliefs of the frames before, (B, D).

    Returns:
        (B, len(TEMPORAL)).
    """
    surprise = torch.log(innovations(prior, lone)[0].mean(1) + _QUIET)
    expected = (prior.mu - last).square().mean(1)
    moved = (lone.mu - before).square().mean(1)
    return torch.stack([surprise, torch.log((expected + _STILL) / (moved + _STILL))], 1)
