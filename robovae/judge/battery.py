"""The monitor at work: false alarms on fresh nominal episodes, detection and its delay under faults.

Seeds are of no split, so that nothing can have been fitted, calibrated or chosen on these episodes.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from robovae.config import check_least, to_plain
from robovae.episodes.episode import MORE_TRAIN, SPLITS
from robovae.evaluate.intervals import interval, mean
from robovae.judge.alarms import alarm_table, rate
from robovae.judge.cells import Cell, FaultFacts, Run, plan, play
from robovae.judge.config import check_severities
from robovae.judge.errors import JudgeError
from robovae.judge.metrics import delay_statistics
from robovae.judge.traces import Trace, Watches, watch_each

FREE_SEEDS = range(SPLITS["fault"][1], MORE_TRAIN)
"""Seeds of no split."""
FAULTED_FROM = 20_000
"""Where the seeds of faulted episodes begin, counted from the first nominal one."""

MakeFaulty = Callable[[str | None, int, int], gym.Env[Any, Any]]
"""(fault, severity, onset) -> environment, its observation {"image", "state"}; (None, 0, 0) is nominal."""
OnPart = Callable[[int, int, str], None]
"""Told of parts done, parts in all, and the name of the part."""


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
        check_severities(self.severities)
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


def battery(
    monitor: Watches,
    make_env: MakeFaulty,
    faults: Mapping[str, FaultFacts],
    step_seconds: float,
    config: BatteryConfig | None = None,
    on_part: OnPart | None = None,
    cache: Path | None = None,
) -> dict[str, Any]:
    """Watch nominal and faulted episodes.

    Args:
        monitor: calibrated.
        make_env: (fault, severity, onset) -> environment.
        faults: those to be watched, by name: of TEST, for a figure that counts.
        step_seconds: seconds of a control step.
        config: how much.
        on_part: told of each policy and cell.
        cache: directory of one small JSON a policy and cell, see `watch_each`.

    Returns:
        JSON-able. "alpha" and "alpha_gate", the promised rates; "longest", the most frames of the episodes
        that they are promised for. "nominal": by policy "episodes", "frames", "false_alarms_an_episode" and
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
        nominal[policy] = _nominal_traces(monitor, make_env, policy, config, cache)
    clean = nominal[config.policies[0]]
    onsets = _onsets(clean, config)
    rows = []
    for done, cell in enumerate(cells, len(config.policies)):
        tell(done, len(parts), str(cell))
        traces = _faulted_traces(monitor, make_env, cell, onsets, config, cache)
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
    monitor: Watches, make_env: MakeFaulty, policy: str, config: BatteryConfig, cache: Path | None
) -> list[Trace]:
    env = make_env(None, 0, 0)
    try:
        seeds = range(config.first_seed, config.first_seed + config.nominal)
        told = [policy, seeds.start, seeds.stop, config.steps]
        return watch_each(monitor, play(env, seeds, config.steps, policy), told, cache)
    finally:
        env.close()


def _faulted_traces(
    monitor: Watches,
    make_env: MakeFaulty,
    cell: Cell,
    onsets: Sequence[int],
    config: BatteryConfig,
    cache: Path | None,
) -> list[Trace]:
    begin, policy = config.first_seed + FAULTED_FROM, config.policies[0]

    def runs() -> Iterator[Run]:
        for number, onset in enumerate(onsets):
            env = make_env(cell.fault, cell.severity, onset)
            try:
                yield from play(env, (begin + number,), config.steps, policy)
            finally:
                env.close()

    return watch_each(monitor, runs(), [str(cell), policy, begin, list(onsets), config.steps], cache)


def _onsets(clean: Sequence[Trace], config: BatteryConfig) -> list[int]:
    """A step for each faulted episode, the same in all cells, in the first half of a usual episode.

    That of the first is 1: traces are remembered by its frames, which must show the fault.
    """
    usual = int(np.median([len(trace) for trace in clean]))
    if usual < 4:
        raise JudgeError(
            f"expected episodes of at least 4 frames, received {usual}; a fault has no room to set in"
        )
    rng = np.random.default_rng(config.seed)
    return [1, *map(int, rng.integers(1, usual // 2 + 1, config.faulted - 1))]


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
