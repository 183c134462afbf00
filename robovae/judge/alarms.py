"""What a monitor's alarms are worth: detection, its delay, and false alarms an episode and an hour."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from robovae.judge.errors import JudgeError
from robovae.judge.exact import binomial_interval, poisson_interval
from robovae.judge.metrics import delay_statistics


@dataclass(frozen=True)
class Watched:
    """One episode under a monitor.

    Raises:
        JudgeError: a step lies outside of the episode.
    """

    steps: int
    """Its length."""
    onset: int | None
    """Step at which the fault sets in; None in a clean episode."""
    alarm: int | None
    """Step of the first alarm; None if there was none."""

    def __post_init__(self) -> None:
        for name, step in (("onset", self.onset), ("alarm", self.alarm)):
            if step is not None and not 0 <= step < self.steps:
                raise JudgeError(f"{name}: expected a step from 0 to {self.steps - 1}, received {step}")

    @property
    def nominal_end(self) -> int:
        """The step up to which an alarm is false."""
        return self.steps if self.onset is None else self.onset

    @property
    def false_alarm(self) -> bool:
        """Whether it alarmed while nothing was wrong."""
        return self.alarm is not None and self.alarm < self.nominal_end

    @property
    def exposure(self) -> int:
        """Nominal steps at which a first alarm could have been given."""
        return self.alarm + 1 if self.alarm is not None and self.false_alarm else self.nominal_end


def alarm_table(episodes: Sequence[Watched], step_seconds: float) -> dict[str, Any]:
    """Rates with exact 95 % intervals; an alarm before the onset is a false one and detects nothing.

    Args:
        episodes: clean and faulted ones.
        step_seconds: seconds of a control step.

    Returns:
        "tpr" and "false_alarms_an_episode" (clean episodes; 1 - TNR) as {"value", "low", "high", "of"}, None
        where there are no such episodes; "tnr", "balanced_accuracy"; "false_alarms_an_hour" over all nominal
        steps; "delay" in steps, over faulted episodes without a false alarm, see `delay_statistics`.

    Raises:
        JudgeError: there is no episode, or a step takes no time.
    """
    if not episodes or step_seconds <= 0:
        raise JudgeError(
            f"expected episodes and seconds above 0, received {len(episodes)} and {step_seconds}"
        )
    faulted = [one for one in episodes if one.onset is not None]
    clean = [one for one in episodes if one.onset is None]
    watching = [one for one in faulted if not one.false_alarm]
    tpr = rate(sum(one.alarm is not None for one in watching), len(faulted))
    alarmed = rate(sum(one.false_alarm for one in clean), len(clean))
    tnr = None if alarmed is None else 1 - alarmed["value"]
    return {
        "tpr": tpr,
        "tnr": tnr,
        "balanced_accuracy": None if tpr is None or tnr is None else (tpr["value"] + tnr) / 2,
        "false_alarms_an_episode": alarmed,
        "false_alarms_an_hour": _hourly(episodes, step_seconds),
        "delay": _delay(watching),
    }


def rate(hits: int, trials: int) -> dict[str, float] | None:
    """A share with its exact 95 % interval: {"value", "low", "high", "of"}; None without a trial."""
    if trials == 0:
        return None
    low, high = binomial_interval(hits, trials)
    return {"value": hits / trials, "low": low, "high": high, "of": trials}


def _hourly(episodes: Sequence[Watched], step_seconds: float) -> dict[str, float] | None:
    hours = sum(one.exposure for one in episodes) * step_seconds / 3600
    if hours == 0:
        return None
    count = sum(one.false_alarm for one in episodes)
    low, high = poisson_interval(count, hours)
    return {"value": count / hours, "low": low, "high": high, "hours": hours}


def _delay(watching: Sequence[Watched]) -> dict[str, Any] | None:
    if not watching:
        return None
    delay = [np.inf if one.alarm is None else one.alarm - one.nominal_end for one in watching]
    return delay_statistics(delay, [one.steps - one.nominal_end for one in watching])
