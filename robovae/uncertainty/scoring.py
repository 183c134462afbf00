"""Score frames with a calibrated run: one by one, or in the order in which they came."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robovae.dynamics import FilterDynamics
from robovae.frames import batched, check_frames, to_tensor
from robovae.gaussian import Gaussian
from robovae.run.directory import RunModel, load_model
from robovae.uncertainty.following import TEMPORAL, Follower
from robovae.uncertainty.model import Insight, Uncertainty, load_uncertainty
from robovae.uncertainty.scores import SCORES
from robovae.uncertainty.watch import TorchWatch, Watch

if TYPE_CHECKING:
    from robovae.export.graph import Graph

Frames = NDArray[np.uint8]
Doubles = NDArray[np.float64]


class Sequences(Protocol):
    """Episodes laid end to end."""

    @property
    def frames(self) -> Frames:
        """(N, H, W, 3)."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(E,) frames of each."""

    @property
    def action(self) -> NDArray[Any]:
        """(N, A); action[n] leads from frame n to the next."""


class Scorer:
    """Every score of a calibrated run; higher = stranger.

    Args:
        model: the run's model.
        uncertainty: its calibration.
        dynamics: of its belief filter: what the temporal scores expect of the next frame.
        graph: the same, exported: looks and follows in the place of all three.
    """

    def __init__(
        self,
        model: RunModel,
        uncertainty: Uncertainty,
        dynamics: FilterDynamics,
        graph: "Graph | None" = None,
    ) -> None:
        self.model, self.uncertainty, self.dynamics, self._graph = model, uncertainty, dynamics, graph

    @classmethod
    def load(cls, run: Path, engine: str = "torch") -> Self:
        """Read a run directory.

        Args:
            run: the directory.
            engine: who computes, "torch" or "onnx" (see `robovae.export`).

        Raises:
            NotCalibratedError: it has no calibration or no filter, or those of other weights.
            RunError: it has no model, or one that cannot be read.
            ExportError: there is no such engine, or nothing was exported for it.
        """
        from robovae.export.graph import graph_of  # they stand on this package
        from robovae.filter.model import load_dynamics

        model = load_model(run)
        parts = load_uncertainty(run, model.vae), load_dynamics(run, model)
        return cls(model, *parts, graph_of(run, engine))

    @torch.no_grad()
    def insight(self, frames: Frames) -> Insight:
        """All that is known of at most some hundred frames (B, H, W, 3), in one pass.

        Raises:
            FrameError: frames of another shape or dtype than the run was trained on.
        """
        checked = check_frames(frames, self.model.facts.frame_shape)
        if self._graph is not None:
            return self._graph(checked)
        found: Insight = self.uncertainty(self.model.vae, to_tensor(checked))
        return found

    def insights(self, frames: Frames) -> Insight:
        """All that is known of any number of frames (B, H, W, 3), held in memory.

        Raises:
            FrameError: see `insight`.
        """
        return Insight.joined([self.insight(part) for part in _batches(frames)])

    def watch(self) -> Watch:
        """What follows the frames of a robot, one by one."""
        if self._graph is None:
            return TorchWatch(self.insight, self.dynamics)
        return self._graph.watch(self.model.facts.frame_shape)

    def scores(self, frames: Frames) -> dict[str, Doubles]:
        """Frames (B, H, W, 3) -> (B,) by name.

        Raises:
            FrameError: see `insight`.
        """
        return self._by_name(torch.cat([self.insight(part).scores for part in _batches(frames)]))

    def where(self, frames: Frames) -> Doubles:
        """How far each cell's surprise stands out, (B, h, w) deviations.

        Raises:
            FrameError: see `insight`.
        """
        looks = [self.uncertainty.strangeness.stands_out(self.insight(p).look) for p in _batches(frames)]
        return _array(torch.cat(looks))

    def sequence_scores(self, footage: Sequences, seen: Insight | None = None) -> dict[str, Doubles]:
        """Footage of N frames -> (N,) by name, the temporal scores among them.

        Args:
            footage: episodes.
            seen: the `insights` of its frames, if they are known.

        Raises:
            FrameError: see `insight`.
        """
        seen = seen or self.insights(footage.frames)
        return {**self._by_name(seen.scores), **self._followed(seen.total, footage)}

    def _by_name(self, columns: Tensor) -> dict[str, Doubles]:
        return dict(zip(SCORES, _array(columns).T, strict=True))

    def _followed(self, total: Gaussian, footage: Sequences) -> dict[str, Doubles]:
        """The temporal scores: the filter run over every episode at once, each step of all that go on."""
        starts = np.cumsum(footage.lengths) - footage.lengths
        order = np.argsort(-footage.lengths, kind="stable")  # so that those that end drop off the end
        action = torch.from_numpy(np.array(footage.action, np.float32))
        follower, found = Follower(self.dynamics), np.zeros((len(footage.frames), len(TEMPORAL)))
        for time in range(int(footage.lengths.max())):
            rows = starts[order[footage.lengths[order] > time]] + time
            follower.keep(len(rows))
            lone = Gaussian(total.mu[rows], total.log_sigma[rows])
            found[rows] = _array(follower.update(lone, action[rows - 1] if time else None))
        return dict(zip(TEMPORAL, found.T, strict=True))


def _batches(frames: Frames) -> list[Frames]:
    """At least one, so that no frames give no scores instead of an error."""
    return list(batched(frames)) or [frames]


def _array(tensor: Tensor) -> Doubles:
    array: Doubles = tensor.cpu().numpy().astype(np.float64)
    return array
