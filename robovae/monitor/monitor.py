"""The monitor: scores of one frame after another -> verdicts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import ArrayLike

from robovae.monitor.calibration import Calibration
from robovae.monitor.conformal import Doubles
from robovae.monitor.evidence import Scores, stack
from robovae.monitor.levels import Drift, Gate
from robovae.monitor.verdict import Verdict, Why, place_of, strangest_dims, strangest_region

Maybe = ArrayLike | Callable[[], ArrayLike] | None
"""An array, or what makes it should it be needed."""


@dataclass
class _Episode:
    """What the alarm remembers within an episode."""

    means: Doubles
    peak: float = -inf
    raised_by: Why | None = None


class Monitor:
    """Watches episode after episode, on three levels.

    - gate: whether to trust this frame;
    - alarm: whether something is wrong in this episode, at most `alpha` false ones a nominal episode;
    - drift: whether episodes have changed since calibration, falsely with a chance of `alpha_drift` for ever.

    There is no warm-up: an episode that begins in a fault is judged from its first frame.

    Args:
        calibration: of the same scores on nominal episodes.
        frame: (H, W) of the images, to say where in pixels; None says it in cells of the map.
    """

    def __init__(self, calibration: Calibration, frame: tuple[int, int] | None = None) -> None:
        self.calibration = calibration
        config = calibration.config
        limit = calibration.frames.limit(config.alpha_gate)
        self.gate = Gate(limit, config.release, config.release_steps, config.deadline)
        self.drift = Drift(calibration.maxima, config.alpha_drift)
        self._frame = frame
        self._threshold = calibration.threshold
        self._episode = self._begin()

    def __repr__(self) -> str:
        scores = ", ".join(self.calibration.evidence.scores)
        return f"Monitor({scores}; {len(self.calibration.maxima)} calibration episodes)"

    def reset(self) -> None:
        """Begin an episode; the one before, if it had frames, counts for the drift."""
        if self._episode.peak > -inf:
            self.drift.update(self._episode.peak)
        self._episode = self._begin()

    def update(self, scores: Mapping[str, float], where: Maybe = None, dims: Maybe = None) -> Verdict:
        """Judge the next frame of the episode.

        Args:
            scores: name -> one number, the names of calibration.
            where: (h, w), how strange each cell of the image is, or what gives that: it is only asked if the
                frame is strange.
            dims: (D,), how strange each latent dimension is, >= 0; likewise.

        Raises:
            MonitorError: a name is missing or unknown, or a number is not finite.
        """
        evidence, episode = self.calibration.evidence, self._episode
        levels = evidence.levels(evidence.one(scores))
        episode.means = evidence.means(levels[None], episode.means)[0]
        strengths = evidence.strengths(levels, episode.means)
        alone = strengths[: len(levels)]
        score, now = float(alone.max()), float(strengths.max())
        episode.peak = max(episode.peak, now)
        trusted = self.gate.update(score)
        raised = now > self._threshold
        strange = raised or not trusted
        ratios = strengths / self._threshold if raised else alone / self.gate.limit
        why = self._why(ratios, where if strange else None, dims if strange else None)
        if raised:
            episode.raised_by = why
        return Verdict(
            score=score,
            p_value=self.calibration.frames.p_value(score),
            trusted=trusted,
            lost=self.gate.lost,
            level=max(episode.peak, 0.0) / self._threshold,
            alarm=episode.raised_by is not None,
            drift=self.drift.alarm,
            why=episode.raised_by or why,
        )

    def watch(self, scores: Scores) -> list[Verdict]:
        """Judge a whole episode, name -> (T,): `reset`, then `update` on every frame."""
        self.reset()
        names = self.calibration.evidence.scores
        return [self.update(dict(zip(names, row, strict=True))) for row in stack(scores, names)]

    def score(self, scores: Scores) -> Doubles:
        """The combined score of each frame alone, name -> (B,) to (B,): what gate and p-values rest on."""
        evidence = self.calibration.evidence
        combined: Doubles = evidence.alone(evidence.levels(stack(scores, evidence.scores))).max(axis=1)
        return combined

    def _begin(self) -> _Episode:
        self.gate.reset()
        return _Episode(np.zeros(len(self.calibration.evidence.scores)))

    def _why(self, ratios: Doubles, where: Maybe, dims: Maybe) -> Why:
        """From K levels over the gate's limit, or K levels and K means over the alarm's."""
        names = self.calibration.evidence.scores
        strongest = int(ratios.argmax())
        where, dims = (part() if callable(part) else part for part in (where, dims))
        region = None if where is None else strangest_region(where, self._frame)
        return Why(
            score=names[strongest % len(names)],
            ratio=float(ratios[strongest]),
            lasting=strongest >= len(names),
            dims=() if dims is None else strangest_dims(dims),
            region=region,
            place=place_of(region, self._frame) if region and self._frame else "",
        )
