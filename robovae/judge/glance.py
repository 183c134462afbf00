"""One look at frames for all who ask of the same ones: total and raw beliefs, scores, reconstructions.

Passes of the model are nearly all that judging costs, and each of these would make its own.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from robovae.belief import Belief, Perceiver
from robovae.frames import BATCH, to_frames
from robovae.gaussian import Gaussian
from robovae.judge.detector import Once
from robovae.judge.footage import Footage, Frames
from robovae.uncertainty import FrameMonitor


class Glance:
    """A calibrated run as the judge sees it: a sequence scorer, and what its encoder says (see `Sees`).

    What is asked after `total` of the very same array is told from that one look. Asked alone, as for what a
    baseline costs, it is told by a pass of its own.

    Args:
        monitor: of the run.
        raw: the encoder's own beliefs, of the same model.
    """

    def __init__(self, monitor: FrameMonitor, raw: Perceiver) -> None:
        self._monitor, self._raw = monitor, raw
        self._seen = Once(monitor.scorer.insights)

    def total(self, frames: Frames) -> Belief:
        """Calibrated beliefs of frames (B, H, W, 3).

        Raises:
            FrameError: frames of another shape or dtype than the run was trained on.
        """
        return _belief(self._seen(frames).total)

    def sequence_scores(self, footage: Footage) -> Mapping[str, NDArray[np.floating]]:
        """See `FrameMonitor.sequence_scores`."""
        return self._monitor.sequence_scores(footage, self._seen(footage.frames))

    def __call__(self, frames: Frames) -> Belief:
        """The encoder's own beliefs of frames (B, H, W, 3).

        Raises:
            FrameError: see `total`.
        """
        if not self._seen.knows(frames):
            return self._raw(frames)
        look = self._seen(frames).look
        return _belief(look.lone, _belief(look.local))

    @torch.inference_mode()
    def reconstruct(self, frames: Frames) -> Frames:
        """What the grid keeps of frames, (B, H, W, 3) -> the same shape.

        Raises:
            FrameError: see `total`.
        """
        if not self._seen.knows(frames):
            return self._raw.reconstruct(frames)
        vae, grids = self._monitor.scorer.model.vae, self._seen(frames).look.local.mu
        return np.concatenate([to_frames(vae.decode_grid(some)) for some in grids.split(BATCH)])


def _belief(of: Gaussian, local: Belief | None = None) -> Belief:
    return Belief(of.mu.numpy(), of.sigma.numpy(), local)
