"""The monitor at work: false alarms on fresh nominal episodes, detection and its delay under faults.

Seeds are of no split, so that nothing can have been fitted, calibrated or chosen on these episodes.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol, Self

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from robovae.config import check_least, to_plain
from robovae.episodes.episode import MORE_TRAIN, SPLITS
from robovae.evaluate.intervals import interval, mean
from robovae.judge.alarms import Watched, alarm_table, rate
from robovae.judge.cells import Cell, FaultFacts, Run, joined, plan, play
from robovae.judge.errors import JudgeError
from robovae.judge.footage import Footage
from robovae.judge.metrics import delay_statistics
from robovae.monitor import Calibration, Monitor

FREE_SEEDS = range(SPLITS["fault"][1], MORE_TRAIN)
"""Seeds of no split."""
FAULTED_FROM = 20_000
"""Where the seeds of faulted episodes begin, counted from the first nominal one."""
TOGETHER = 20
"""Episodes whose frames are in memory at a time."""

MakeFaulty = Callable[[str | None, int, int], gym.Env[Any, Any]]
"""(fault, severity, onset) -> environment, its observation {"image", "state"}; (None, 0, 0) is nominal."""
OnPart = Callable[[int, int, str], None]
"""Told of parts done, parts in all, and the name of the part."""


class Watches(Protocol):
    """What the battery needs of a `FrameMonitor`."""

    @property
    def calibration(self) -> Calibration:
        """Its limits."""

    def sequence_scores(self, footage: Footage) -> Mapping[str, NDArray[np.floating]]:
        """Footage of N frames -> (N,) by name; at least the scores of the calibration."""


@dataclass(frozen=True)
class BatteryConfig:
    """How much is watched.

    Raises:
        JudgeError: a number is too small, or a seed belongs to a split.
    """

    nominal: int = 500
    """Episodes of each policy without a fault."""
    policies: tuple[str, ...] = ("random", "zero", "bang")
    """Who acts there; the first is the policy of the calibration, and acts under faults too."""
    faulted: int = 50
    """Episodes of a cell with a fault; as many clean ones stand beside them."""
    severities: tuple[int, ...] = (1, 2, 3, 4, 5)
    steps: int = 100
    """After how many an episode is cut. A rate an episode is promised for the length calibrated on."""
    first_seed: int = FREE_SEEDS.start
    """Of the nominal episodes."""
    seed: int = 0
    """Of the onsets."""

    def __post_init__(self) -> None:
        check_least(self, JudgeError, nominal=2, faulted=2, steps=2)
        if not self.policies or self.faulted > self.nominal or self.nominal > FAULTED_FROM:
            raise JudgeError(
                f"expected a policy and faulted <= nominal <= {FAULTED_FROM} episodes, received "
                f"{len(self.policies)} policies, {self.faulted} and {self.nominal}"
            )
        last = self.first_seed + FAULTED_FROM + self.faulted - 1
        if self.first_seed not in FREE_SEEDS or last not in FREE_SEEDS:
            raise JudgeError(
                f"first_seed: expected seeds of no split ({FREE_SEEDS.start} to {FREE_SEEDS[-1]}), received "
                f"{self.first_seed} to {last}"
            )

    @classmethod
    def quick(cls) -> Self:
        """Minutes: false alarms are as well known as in the full run, detection is not."""
        return cls(nominal=500, faulted=8, severities=(1, 3, 5))


@dataclass(frozen=True, eq=False)
class Trace:
    """What a monitor decided in one episode."""

    alarm: int | None
    """Step of the first alarm."""
    distrusted: NDArray[np.bool_]
    """(T,) frames that the gate shut out."""

    def __len__(self) -> int:
        return len(self.distrusted)

    def watched(self, onset: int | None = None) -> Watched:
        """With the onset of a fault; an episode that ended before it is a clean one."""
        reached = onset if onset is not None and onset < len(self) else None
        return Watched(len(self), reached, self.alarm)


def watch(monitor: Watches, footage: Footage) -> list[Trace]:
    """What the monitor decides in each episode; all frames are encoded together, which is faster."""
    scores = monitor.sequence_scores(footage)
    watcher, ends = Monitor(monitor.calibration), np.cumsum(footage.lengths)
    traces = []
    for first, end in zip(ends - footage.lengths, ends, strict=True):
        own = {name: scores[name][first:end] for name in monitor.calibration.evidence.scores}
        verdicts = watcher.watch(own)
        alarm = next((step for step, verdict in enumerate(verdicts) if verdict.alarm), None)
        traces.append(Trace(alarm, np.array([not verdict.trusted for verdict in verdicts])))
    return traces


def battery(
    monitor: Watches,
    make_env: MakeFaulty,
    faults: Mapping[str, FaultFacts],
    step_seconds: float,
    config: BatteryConfig | None = None,
    on_part: OnPart | None = None,
) -> dict[str, Any]:
    """Watch nominal and faulted episodes.

    Args:
        monitor: calibrated.
        make_env: (fault, severity, onset) -> environment.
        faults: those to be watched, by name: of TEST, for a figure that counts.
        step_seconds: seconds of a control step.
        config: how much.
        on_part: told of each policy and cell.

    Returns:
        JSON-able. "alpha" and "alpha_gate", the promised rates, and "longest", the frames of an episode they
        are promised for. "nominal": by policy "episodes", "frames", "false_alarms_an_episode" and
        "false_alarms_an_hour" (see `alarm_table`), "untrusted", the share of frames. "cells": by fault and
        severity "alarm" (see `alarm_table`; half of the episodes are clean) and "gate" (see `_gate`).
        "config", "seconds".

    Raises:
        JudgeError: there is no such fault, or an episode is too short for one to set in.
        MonitorError: the monitor gives no such scores.
    """
    begin, config, tell = time.monotonic(), config or BatteryConfig(), on_part or (lambda *part: None)
    cells = plan(faults, faults, config.severities)
    parts = [*config.policies, *map(str, cells)]
    nominal = {}
    for done, policy in enumerate(config.policies):
        tell(done, len(parts), policy)
        nominal[policy] = _nominal_traces(monitor, make_env, policy, config)
    clean = nominal[config.policies[0]]
    onsets = _onsets(clean, config)
    rows = []
    for done, cell in enumerate(cells, len(config.policies)):
        tell(done, len(parts), str(cell))
        traces = _faulted_traces(monitor, make_env, cell, onsets, config)
        rows.append(_row(cell, traces, onsets, clean[: config.faulted], step_seconds))
    calibration = monitor.calibration
    return {
        "alpha": calibration.config.alpha,
        "alpha_gate": calibration.config.alpha_gate,
        "longest": calibration.longest,
        "nominal": {policy: _nominal(traces, step_seconds) for policy, traces in nominal.items()},
        "cells": rows,
        "config": to_plain(config),
        "seconds": round(time.monotonic() - begin, 1),
    }


def _nominal_traces(
    monitor: Watches, make_env: MakeFaulty, policy: str, config: BatteryConfig
) -> list[Trace]:
    env = make_env(None, 0, 0)
    try:
        seeds = range(config.first_seed, config.first_seed + config.nominal)
        return _watch_each(monitor, play(env, seeds, config.steps, policy))
    finally:
        env.close()


def _faulted_traces(
    monitor: Watches, make_env: MakeFaulty, cell: Cell, onsets: Sequence[int], config: BatteryConfig
) -> list[Trace]:
    def runs() -> Iterator[Run]:
        for number, onset in enumerate(onsets):
            env = make_env(cell.fault, cell.severity, onset)
            try:
                seed = config.first_seed + FAULTED_FROM + number
                yield from play(env, (seed,), config.steps, config.policies[0])
            finally:
                env.close()

    return _watch_each(monitor, runs())


def _watch_each(monitor: Watches, runs: Iterable[Run]) -> list[Trace]:
    left, traces = iter(runs), []
    while some := list(islice(left, TOGETHER)):
        traces += watch(monitor, joined(some))
    return traces


def _onsets(clean: Sequence[Trace], config: BatteryConfig) -> list[int]:
    """A step for each faulted episode, the same in all cells, in the first half of a usual episode."""
    usual = int(np.median([len(trace) for trace in clean]))
    if usual < 4:
        raise JudgeError(
            f"expected episodes of at least 4 frames, received {usual}; a fault has no room to set in"
        )
    rng = np.random.default_rng(config.seed)
    return [int(step) for step in rng.integers(1, usual // 2 + 1, config.faulted)]


def _nominal(traces: Sequence[Trace], step_seconds: float) -> dict[str, Any]:
    table = alarm_table([trace.watched() for trace in traces], step_seconds)
    return {
        "episodes": len(traces),
        "frames": sum(map(len, traces)),
        "false_alarms_an_episode": table["false_alarms_an_episode"],
        "false_alarms_an_hour": table["false_alarms_an_hour"],
        "untrusted": _share([trace.distrusted for trace in traces]),
    }


def _row(
    cell: Cell, traces: Sequence[Trace], onsets: Sequence[int], clean: Sequence[Trace], step_seconds: float
) -> dict[str, Any]:
    episodes = [trace.watched(onset) for trace, onset in zip(traces, onsets, strict=True)]
    return {
        **to_plain(cell),
        "alarm": alarm_table([*episodes, *(trace.watched() for trace in clean)], step_seconds),
        "gate": _gate(traces, onsets),
    }


def _gate(traces: Sequence[Trace], onsets: Sequence[int]) -> dict[str, Any] | None:
    """How soon and for how long the gate shuts a fault out; None if every episode ended before its onset.

    Returns:
        "caught", episodes with a frame shut out from the onset on; "delay" of the first such frame, see
        `delay_statistics`; "untrusted", share of the frames from the onset on. By chance alone the gate shuts
        out its nominal share, so compare the latter with that.
    """
    after = [trace.distrusted[onset:] for trace, onset in zip(traces, onsets, strict=True)]
    after = [frames for frames in after if len(frames)]
    if not after:
        return None
    delay = [float(frames.argmax()) if frames.any() else np.inf for frames in after]
    return {
        "caught": rate(sum(bool(frames.any()) for frames in after), len(after)),
        "delay": delay_statistics(delay, [len(frames) for frames in after]),
        "untrusted": _share(after),
    }


def _share(flags: Sequence[NDArray[np.bool_]]) -> dict[str, float]:
    """Share of frames, with an interval by episode."""
    sums = np.array([(one.sum(), len(one)) for one in flags], np.float64)
    low, high = interval(sums, mean)
    return {"value": float(sums[:, 0].sum() / sums[:, 1].sum()), "low": low, "high": high}
