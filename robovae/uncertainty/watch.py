"""The frames of one robot in their order: a look at each, and its scores after those before it."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from robovae.dynamics import FilterDynamics
from robovae.uncertainty.following import Follower
from robovae.uncertainty.model import Insight

Frames = NDArray[np.uint8]


class Watch(Protocol):
    """What a `FrameMonitor` judges by."""

    def reset(self) -> None:
        """The next frame is the first one."""

    def step(self, frames: Frames, action: Tensor | None) -> tuple[Insight, Tensor]:
        """Look at the next frame.

        Args:
            frames: it alone, (1, H, W, 3).
            action: what led to it, (1, A); zeros if None. The first frame has none.

        Returns:
            What is known of the frame on its own, and its temporal scores (1, len(TEMPORAL)).

        Raises:
            FrameError: a frame of another shape or dtype than the run was trained on.
        """
        ...


class TorchWatch:
    """A `Watch` of two parts in torch.

    Args:
        look: frames to what is known of each on its own.
        dynamics: of the belief filter.
    """

    def __init__(self, look: Callable[[Frames], Insight], dynamics: FilterDynamics) -> None:
        self._look, self._follower = look, Follower(dynamics)

    def reset(self) -> None:
        """The next frame is the first one."""
        self._follower.reset()

    def step(self, frames: Frames, action: Tensor | None) -> tuple[Insight, Tensor]:
        """See `Watch.step`."""
        seen = self._look(frames)
        return seen, self._follower.update(seen.total, action)
