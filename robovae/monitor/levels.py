"""The decisions that remember: the gate within an episode, the drift across episodes.

The level between them, the alarm, is a running maximum against one limit: see `Calibration.threshold`.
"""

from bisect import insort
from collections.abc import Sequence

import numpy as np

from robovae.monitor.conformal import Doubles, p_values


class Gate:
    """Whether to trust this frame. Trust is lost at once and won back slowly, but in bounded time.

    It is lost on a frame above the limit. It returns after `release_steps` calm frames in a row (at most
    `release` times the limit), the hysteresis; or after `deadline` frames in a row within the limit, calm or
    not, so that scores that hover between the two levels cannot withhold it for ever.

    Args:
        limit: of the combined score.
        release: share of the limit, in (0, 1].
        release_steps: calm frames in a row, >= 1.
        deadline: frames in a row within the limit, >= release_steps.
    """

    def __init__(self, limit: float, release: float, release_steps: int, deadline: int) -> None:
        self.limit = limit
        self._calm_level = release * limit
        self._release_steps = release_steps
        self._deadline = deadline
        self.reset()

    def reset(self) -> None:
        """Begin an episode, trusting: the first frame can lose that trust like any other."""
        self.lost = 0
        """Frames since trust was lost, this one included; 0 while it holds."""
        self._calm = 0
        self._within = 0

    def update(self, score: float) -> bool:
        """Take the combined score of the next frame and say whether to trust that frame."""
        if score > self.limit:
            self.lost += 1
            self._calm = self._within = 0
        elif self.lost:
            self._within += 1
            self._calm = self._calm + 1 if score <= self._calm_level else 0
            back = self._calm >= self._release_steps or self._within >= self._deadline
            self.lost = 0 if back else self.lost + 1
        return self.lost == 0


EXPONENTS = np.array([0.1, 0.25, 0.5, 0.75])
"""Of the bets e p^(e - 1): 0.1 pays most on rare p-values, 0.75 on a slight shift (Vovk et al. 2003)."""


def stake(wealth: Doubles, p: Doubles, turn: int) -> Doubles:
    """Put in the stake of this turn and bet all that is in play against a p-value being uniform.

    The stake of turn n is 1 / (n (n + 1)), so 1 / (n + 1) is left in hand after it: both together are a
    mixture of martingales, one beginning at every turn, so that a late drift costs log n and not n episodes.

    Args:
        wealth: (..., E), in play on each of the E exponents; 0 at the start.
        p: (...), in (0, 1].
        turn: n = 1, 2, ...

    Returns:
        (..., E). Its sum plus 1 / (n + 1) is a martingale from 1 for independent uniform p-values.
    """
    bets = EXPONENTS * np.power(np.asarray(p)[..., None], EXPONENTS - 1)
    result: Doubles = (wealth + 1 / (turn * (turn + 1) * len(EXPONENTS))) * bets
    return result


class Drift:
    """Whether episodes have become stranger than the calibration episodes: a conformal test martingale.

    The p-value of an episode is its rank among the calibration episodes and all episodes since, not among the
    calibration episodes alone: only so are those of successive nominal episodes independent (Vovk, Gammerman
    & Shafer 2005, chapter 7) and wealth a martingale. Nominal episodes ever reach 1/alpha with probability
    <= alpha, however many there are (Ville 1939). Ties make p larger and wealth smaller.

    Args:
        maxima: (n,), running maxima of the calibration episodes.
        alpha: chance of a false drift over the whole life.
    """

    def __init__(self, maxima: Sequence[float], alpha: float) -> None:
        self._alpha = alpha
        self._seen = sorted(maxima)
        self._in_play = np.zeros(len(EXPONENTS))
        self.episodes = 0
        """Episodes since calibration that have been counted."""

    @property
    def wealth(self) -> float:
        """The evidence, > 0: 1 before the first episode; nominally it ever reaches w with a chance <= 1/w."""
        return float(self._in_play.sum()) + 1 / (self.episodes + 1)

    @property
    def alarm(self) -> bool:
        """Whether wealth has ever reached 1/alpha; only another calibration ends it."""
        return self.wealth >= 1 / self._alpha

    def update(self, maximum: float) -> bool:
        """Take the running maximum of a finished episode; betting stops with the alarm."""
        if not self.alarm:
            self.episodes += 1
            p = p_values(self._seen, maximum)
            self._in_play = stake(self._in_play, p, self.episodes)
            insort(self._seen, maximum)
        return self.alarm
