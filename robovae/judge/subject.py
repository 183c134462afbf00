"""What is judged: scores, and the beliefs whose sigma is held against their errors."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from robovae.belief import Belief
from robovae.judge.belief_detectors import mean_log_sigma
from robovae.judge.detector import Scorer, Scores, SequenceScorer, score_footage
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
