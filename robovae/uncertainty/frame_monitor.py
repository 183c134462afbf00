"""The monitor as a control loop uses it: frames and actions in, verdicts out."""

from os import PathLike
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from robovae.frames import FrameError
from robovae.monitor import Calibration, Monitor, MonitorError, Verdict
from robovae.run.files import SCORING, run_digest
from robovae.uncertainty.following import TEMPORAL
from robovae.uncertainty.model import Insight
from robovae.uncertainty.scores import CONSTANT, SCORES
from robovae.uncertainty.scoring import Doubles, Frames, Scorer, Sequences

FILE = "monitor.json"
_NAMES = (*SCORES, *TEMPORAL)


class FrameMonitor:
    """Watches the frames of one robot.

    `scores`, `score` and `where` judge frames one by one and remember nothing; `reset` and `update` follow an
    episode.

    Args:
        scorer: of a calibrated run.
        calibration: of its scores.

    Raises:
        MonitorError: the calibration is of other scores.
    """

    def __init__(self, scorer: Scorer, calibration: Calibration) -> None:
        if not {*SCORES} - {*CONSTANT} <= {*calibration.evidence.scores} <= {*_NAMES}:
            raise MonitorError(
                f"expected a calibration of {', '.join(_NAMES)}, received one of "
                f"{', '.join(calibration.evidence.scores)}; run `robovae calibrate`"
            )
        self.scorer, self.calibration = scorer, calibration
        height, width, _ = scorer.model.facts.frame_shape
        self._monitor = Monitor(calibration, (height, width))
        self._watch = scorer.watch()
        self.insight: Insight | None = None
        """What one look told of the last frame, its calibrated belief among it; None before the first."""
        self.is_still = False
        """Whether the last frame moved less than it should have, past the gate's limit: a frozen camera's may
        look nominal and be sure of itself."""

    @classmethod
    def load(cls, run: str | PathLike[str], *, engine: str = "torch") -> Self:
        """Read a run directory.

        Args:
            run: the directory.
            engine: who computes, "torch" or "onnx": the graph of `robovae export`, at half of the time.

        Raises:
            NotCalibratedError: it is not calibrated, or has no filter.
            MonitorError: its monitor is of another format, or of other weights of model, sigma or filter.
            RunError: it has no model, or one that cannot be read.
            ExportError: there is no such engine, or nothing was exported for it.
        """
        path = Path(run)
        scorer = Scorer.load(path, engine)
        return cls(scorer, Calibration.load(path / FILE, run_digest(path, SCORING)))

    def __repr__(self) -> str:
        return f"FrameMonitor({self.scorer.model.facts.env_id}, {self._monitor!r})"

    def scores(self, frames: Frames) -> dict[str, Doubles]:
        """Every score of frames on their own, (B, H, W, 3) uint8 -> (B,) by name.

        Raises:
            FrameError: frames of another shape or dtype than the run was trained on.
        """
        return self.scorer.scores(frames)

    def score(self, frames: Frames) -> Doubles:
        """The combined score of frames on their own, (B,): 1 is what few nominal episodes exceed.

        Raises:
            FrameError: see `scores`.
        """
        return self._combined(self.scores(frames))

    def where(self, frames: Frames) -> Doubles:
        """Which cells of the image stand out, (B, h, w).

        Raises:
            FrameError: see `scores`.
        """
        return self.scorer.where(frames)

    def sequence_scores(self, footage: Sequences, seen: Insight | None = None) -> dict[str, Doubles]:
        """Every score of footage in its order, (N,) by name; "monitor" is the combined one of `score`.

        Args:
            footage: episodes.
            seen: what the scorer knows of its frames (`Scorer.insights`), if it has looked.

        Raises:
            FrameError: see `scores`.
        """
        found = self.scorer.sequence_scores(footage, seen)
        return {**found, "monitor": self._combined(found)}

    def reset(self) -> None:
        """Begin an episode."""
        self._monitor.reset()
        self._watch.reset()
        self.insight, self.is_still = None, False

    @torch.inference_mode()
    def update(self, frame: Frames, action: ArrayLike | None = None) -> Verdict:
        """Judge the next frame of the episode.

        Args:
            frame: (H, W, 3) uint8.
            action: (A,), what led to this frame; none for the first one.

        Raises:
            FrameError: a frame of another shape or dtype.
            MonitorError: an action of another width, or one that is not finite.
        """
        if not isinstance(frame, np.ndarray) or frame.ndim != 3:
            raise FrameError(
                f"expected one frame (H, W, 3), received {np.shape(frame)}; pass frames one by one"
            )
        taken = None if action is None else self._taken(action)
        seen, temporal = self._watch.step(frame[None], taken)
        values = [*seen.scores[0].tolist(), *temporal[0].tolist()]
        found = dict(zip(_NAMES, values, strict=True))
        scores = {name: found[name] for name in self.calibration.evidence.scores}
        verdict = self._monitor.update(
            scores,
            where=lambda: self.scorer.uncertainty.strangeness.stands_out(seen.look)[0].numpy(),
            dims=lambda: _taken_away(seen),
        )
        self.insight = seen
        self.is_still = self._stands_still(scores)
        return verdict

    def _taken(self, action: ArrayLike) -> torch.Tensor:
        taken, width = np.array(action, np.float32).reshape(1, -1), self.scorer.model.facts.action_dim
        if taken.shape[1] != width or not np.isfinite(taken).all():
            raise MonitorError(
                f"action: expected {width} finite numbers, received {taken[0].tolist()}; pass what was done"
            )
        return torch.from_numpy(taken)

    def watch(self, frames: Frames, action: NDArray[Any]) -> list[Verdict]:
        """Judge a whole episode: frames (T, H, W, 3), action (T, A) where action[t] leads on from frame t.

        Raises:
            FrameError: see `scores`.
        """
        self.reset()
        return [self.update(frame, action[t - 1] if t else None) for t, frame in enumerate(frames)]

    def _stands_still(self, scores: dict[str, float]) -> bool:
        evidence = self.calibration.evidence
        if "stillness" not in evidence.scores:
            return False
        alone = evidence.alone(evidence.levels(evidence.one(scores)))
        return bool(alone[evidence.scores.index("stillness")] > self._monitor.gate.limit)

    def _combined(self, scores: dict[str, Doubles]) -> Doubles:
        """Frames on their own have no temporal scores: theirs are taken to be the usual ones."""
        evidence, count = self.calibration.evidence, len(next(iter(scores.values())))
        usual = dict(zip(evidence.scores, evidence.centre, strict=True))
        return self._monitor.score(
            {
                name: np.full(count, centre) if name in TEMPORAL else scores[name]
                for name, centre in usual.items()
            }
        )


def _taken_away(seen: Insight) -> Doubles:
    """How far calibration has moved each latent of a frame, in its own width, and widened it, (D,)."""
    own, total = seen.look.lone, seen.total
    moved = (total.mu - own.mu).abs() / total.sigma
    out: Doubles = (moved + (total.log_sigma - own.log_sigma).clamp_min(0.0))[0].numpy().astype(np.float64)
    return out
