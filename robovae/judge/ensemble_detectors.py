"""Baselines that several models of the same task make together: where they disagree, the frame is strange.

Frames and bounds are compared and not latents, because latents of separately trained VAEs do not align. What
an ensemble says is the same whichever of its members is judged.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from robovae.frames import batched
from robovae.judge.detector import Detector
from robovae.judge.errors import JudgeError
from robovae.judge.footage import Doubles, Frames

T = TypeVar("T")


class _Disagreement(Detector):
    """Variance over the members' pictures of a frame, mean over pixels, in [0, 1] pixels.

    Args:
        pictures: of at least two members, frames -> frames of the same shape.

    Raises:
        JudgeError: there are fewer.
    """

    def __init__(self, pictures: Sequence[Callable[[Frames], Frames]]) -> None:
        self.pictures = _several(pictures)

    def score(self, frames: Frames) -> Doubles:
        """Frames (B, H, W, 3) -> (B,)."""
        drawn = [batched(picture(frames)) for picture in self.pictures]
        return np.concatenate([_variance(np.stack(some)) for some in zip(*drawn, strict=True)])


class EnsembleReconstruction(_Disagreement):
    """How much the reconstructions from the members' grids differ; see `_Disagreement`."""

    name = "ensemble_reconstruction"


class EnsembleDecoded(_Disagreement):
    """How much the frames that the members' global beliefs describe differ; see `_Disagreement`."""

    name = "ensemble_decoded"


class EnsembleWaic(Detector):
    """Minus WAIC of the members' bounds: their variance less their mean (Choi et al., 1810.01392, eq. 2).

    The paper's log p(x) is the bound of a lone frame here, in nats.

    Args:
        costs: of at least two members, frames -> minus the bound (B,): `NegativeElbo.score`.

    Raises:
        JudgeError: there are fewer.
    """

    name = "ensemble_waic"

    def __init__(self, costs: Sequence[Callable[[Frames], Doubles]]) -> None:
        self.costs = _several(costs)

    def score(self, frames: Frames) -> Doubles:
        """Frames (B, H, W, 3) -> (B,)."""
        nats = np.stack([cost(frames) for cost in self.costs])
        waic: Doubles = nats.var(axis=0) + nats.mean(axis=0)
        return waic


def _several(members: Sequence[T]) -> Sequence[T]:
    if len(members) < 2:
        raise JudgeError(f"ensemble: expected at least 2 models, received {len(members)}; train more")
    return members


def _variance(drawn: Frames) -> Doubles:
    """(members, B, H, W, 3) -> (B,)."""
    variance: Doubles = (drawn / np.float32(255.0)).var(axis=0).mean(axis=(1, 2, 3), dtype=np.float64)
    return variance
