"""What is judged: scores, and the beliefs whose sigma is held against their errors."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from robovae.belief import Belief
from robovae.judge.belief_detectors import mean_log_sigma
from robovae.judge.detector import Panel, Scorer, Scores, SequenceScorer, median_seconds, score_footage
from robovae.judge.errors import JudgeError
from robovae.judge.footage import Footage, Frames
from robovae.judge.reader import Reader


@dataclass(frozen=True, eq=False)
class Subject:
    """What is judged."""

    scorers: Sequence[Scorer | SequenceScorer]
    """Whose scores are compared; names must differ. "log_sigma", the mean log sigma of `total`, is added."""
    total: Callable[[Frames], Belief]
    """The belief that controllers take."""
    raw: Callable[[Frames], Belief]
    """The encoder's own belief, for comparison."""
    reader: Reader | None = None
    """Says what an error of `total`'s mu costs; without it cells have no class of harm."""

    def scores(self, footage: Footage) -> Scores:
        """All scores of footage, (N,) by name."""
        return self.scores_beside(footage, self.total(footage.frames))

    def scores_beside(self, footage: Footage, belief: Belief) -> Scores:
        """The same where `total`'s belief is known already.

        Raises:
            JudgeError: a score is called "log_sigma", or is not a finite number a frame.
        """
        found = score_footage(self.scorers, footage)
        if "log_sigma" in found:
            raise JudgeError('expected no score called "log_sigma", which the judge adds; rename it')
        return {**found, "log_sigma": mean_log_sigma(belief)}

    def costs(self, footage: Footage) -> dict[str, float]:
        """Median milliseconds of the first frame by each score on one thread, by name.

        Each baseline is timed with its own pass of the model. Scores that come together, as a monitor's do,
        cost what all of them do.
        """
        frame = footage.frames[:1]
        found = {"log_sigma": median_seconds(self.total, frame)}
        for scorer in self.scorers:
            if isinstance(scorer, Panel):
                found |= {name: median_seconds(one.score, frame) for name, one in scorer.detectors.items()}
            else:
                found |= _together(scorer, footage)
        return {name: round(1000 * seconds, 4) for name, seconds in found.items()}

    @property
    def skipped(self) -> Mapping[str, str]:
        """Baselines that are left out, and why."""
        panels = (scorer for scorer in self.scorers if isinstance(scorer, Panel))
        return {name: why for panel in panels for name, why in panel.skipped.items()}


def _together(scorer: Scorer | SequenceScorer, footage: Footage) -> dict[str, float]:
    """Median seconds that all scores of a scorer take, by the name of each."""

    def call(frame: Frames) -> Scores:
        return score_footage([scorer], Footage(frame, np.ones(1, np.int64), footage.action[:1]))

    seconds = median_seconds(call, footage.frames[:1])
    return dict.fromkeys(call(footage.frames[:1]), seconds)
