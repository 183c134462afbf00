"""How fast episodes are collected, beside Gymnasium's own way and the renderer alone, on the same cores.

Three ways with the same number of processes take turns, A B C A B C:

- gymnasium: `AddRenderObservation` in an `AsyncVectorEnv` (forkserver), random actions, nothing stored;
- collect: `robovae.collect` with random actions into real files, fsynced; start-up apart, as for the others;
- bare: the same camera draws recorded positions over and over: no physics, no actions, no files.
"""

import contextlib
import itertools
import math
import os
import platform
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AsyncVectorEnv
from gymnasium.wrappers import AddRenderObservation
from numpy.typing import NDArray

from robovae.bench.turns import Turn, measured_process, serve_turns
from robovae.collect import CollectConfig, collect
from robovae.errors import RobovaeError
from robovae.provenance import usable_cores

MakeEnv = Callable[[], gym.Env[Any, Any]]
Say = Callable[[str], None]

GYMNASIUM, COLLECT, BARE = "gymnasium", "collect", "bare"
OURS = {"LP_NUM_THREADS": "0"}
"""What our workers set for Mesa; Gymnasium's users have its default."""
POSITIONS = 64
"""Positions that the renderer alone draws, again and again."""
BARE_SHARE = 0.7
"""Of the bare renderer's frames a second, what collecting shall reach."""


@dataclass(frozen=True)
class CollectingCase:
    """One task; the factories must be picklable."""

    name: str
    """For the table, usually the environment's id."""
    gymnasium: MakeEnv
    """Makes the task with `render_mode="rgb_array"` and the frame's size."""
    ours: MakeEnv
    """Makes the task with {"image", "state"} observations, "qpos" in `info`, and `frames_of(qpos)`, which
    draws positions (T, nq) without stepping."""
    target: float | None = None
    """How many times Gymnasium's frames/s collecting shall reach, if there is a target."""


@dataclass(frozen=True)
class CollectingConfig:
    """How long and on how many processes to measure."""

    seconds: float = 4.0
    """Length of a turn, about."""
    rounds: int = 3
    """Turns of each way; figures are their median."""
    workers: int = field(default_factory=usable_cores)
    """Processes of each way."""

    def __post_init__(self) -> None:
        if not self.seconds > 0 or min(self.rounds, self.workers) < 1:
            raise RobovaeError(f"expected seconds above 0, rounds and workers of at least 1, received {self}")


def run(
    cases: Sequence[CollectingCase],
    config: CollectingConfig | None = None,
    workdir: str | os.PathLike[str] | None = None,
    on_event: Say | None = None,
) -> dict[str, Any]:
    """Measure every way of every case.

    Args:
        cases: tasks.
        config: how long, how many processes.
        workdir: where episodes are written, on the disk that shall be measured; the system's temporary
            directory if None. Nothing stays there.
        on_event: told in a line what is being done.

    Returns:
        JSON-able: "rows", one a case and way with median frames/s and the lowest and highest turn; "ratios"
        by case, medians over rounds: collect over gymnasium and over bare, targets, whether they are met;
        "config"; "machine".

    Raises:
        RobovaeError: a way does not start, or dies.
    """
    config, say = config or CollectingConfig(), on_event or (lambda _: None)
    rows: list[dict[str, Any]] = []
    ratios: dict[str, dict[str, Any]] = {}
    for case in cases:
        say(f"collecting {case.name}")
        rates = _measure(case, config, workdir)
        rows += [_row(case.name, way, values) for way, values in rates.items()]
        ratios[case.name] = _ratios(rates, case.target)
    machine = {"cpus": os.cpu_count(), "python": platform.python_version(), "gl": os.environ.get("MUJOCO_GL")}
    return {"rows": rows, "ratios": ratios, "config": asdict(config), "machine": machine}


def _measure(
    case: CollectingCase, config: CollectingConfig, workdir: str | os.PathLike[str] | None
) -> dict[str, list[float]]:
    """Frames/s of each way, by round."""
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="robovae-bench-", dir=workdir)))
        turns = {
            GYMNASIUM: stack.enter_context(_gymnasium(case, config.workers)),
            COLLECT: _collecting(case, config.workers, scratch),
            BARE: stack.enter_context(_bare(case, config.workers)),
        }
        rates: dict[str, list[float]] = {way: [] for way in turns}
        for _ in range(config.rounds):
            for way, turn in turns.items():
                rates[way].append(turn(config.seconds))
    return rates


def _row(name: str, way: str, rates: Sequence[float]) -> dict[str, Any]:
    low, middle, high = min(rates), statistics.median(rates), max(rates)
    return {
        "env": name,
        "way": way,
        "frames_per_s": round(middle, 1),
        "low": round(low, 1),
        "high": round(high, 1),
    }


def _ratios(rates: dict[str, list[float]], target: float | None) -> dict[str, Any]:
    """Collecting against the others, paired by round; targets are left out where there are none."""

    def over(other: str) -> float:
        pairs = zip(rates[COLLECT], rates[other], strict=True)
        return statistics.median(mine / theirs for mine, theirs in pairs)

    found: dict[str, Any] = {"gymnasium": round(over(GYMNASIUM), 2), "bare": round(over(BARE), 3)}
    if target is not None:
        found |= {"target": target, "target_bare": BARE_SHARE}
        found["met"] = over(GYMNASIUM) >= target and over(BARE) >= BARE_SHARE
    return found


def _collecting(case: CollectingCase, workers: int, scratch: Path) -> Turn:
    """Turns that collect into new directories, each as long as the turn before says it will take."""
    numbers = itertools.count()
    pace = 0.0

    def turn(seconds: float) -> float:
        nonlocal pace
        if not pace:
            pace = 1.0
            turn(seconds)  # to learn how many episodes fill a turn
        episodes = max(workers, math.ceil(pace * seconds))
        config = CollectConfig(episodes=episodes, workers=workers, seed="train")
        summary = collect(case.ours, scratch / f"{next(numbers)}", config)
        pace = summary.episodes / summary.seconds
        return summary.fps

    return turn


@contextlib.contextmanager
def _gymnasium(case: CollectingCase, workers: int) -> Iterator[Turn]:
    with measured_process(_serve_vector, case.gymnasium, workers, case.name, {}) as turn:
        yield turn


@contextlib.contextmanager
def _bare(case: CollectingCase, workers: int) -> Iterator[Turn]:
    """Turns of several processes at the same time."""
    with contextlib.ExitStack() as stack:
        turns = [
            stack.enter_context(measured_process(_serve_frames, case.ours, 1, case.name, OURS))
            for _ in range(workers)
        ]
        threads = stack.enter_context(ThreadPoolExecutor(workers))

        def turn(seconds: float) -> float:
            return math.fsum(threads.map(lambda one: one(seconds), turns))

        yield turn


def _serve_frames(make: MakeEnv, count: int, connection: Connection) -> None:
    """The renderer alone: draws positions that the task really visits, as costly as those collected."""

    def begin() -> tuple[Callable[[], object], int]:
        env = make()
        qpos = _visited_positions(env)
        draw: Callable[[NDArray[np.float64]], object] = env.get_wrapper_attr("frames_of")
        return partial(draw, qpos), count * len(qpos)

    serve_turns(begin, connection)


def _visited_positions(env: gym.Env[Any, Any]) -> NDArray[np.float64]:
    """Positions under random actions, (POSITIONS, nq)."""
    _, info = env.reset(seed=0)
    env.action_space.seed(0)
    qpos: list[NDArray[np.float64]] = []
    while len(qpos) < POSITIONS:
        qpos.append(info["qpos"])
        _, _, terminated, truncated, info = env.step(env.action_space.sample())
        if terminated or truncated:
            _, info = env.reset()
    return np.stack(qpos)


def _serve_vector(make: MakeEnv, count: int, connection: Connection) -> None:
    """Gymnasium's own way."""
    with contextlib.ExitStack() as stack:

        def begin() -> tuple[Callable[[], object], int]:
            envs: Any = AsyncVectorEnv([partial(_with_frames, make)] * count, context="forkserver")
            stack.callback(envs.close)
            envs.reset(seed=0)
            return lambda: envs.step(envs.action_space.sample()), count

        serve_turns(begin, connection)


def _with_frames(make: MakeEnv) -> gym.Env[Any, Any]:
    """Gymnasium's way to get frames into observations; needs a reset before the first look, as it says."""
    env = make()
    env.reset(seed=0)
    return AddRenderObservation(env)
