"""How fast frames are drawn: Gymnasium's own way, beside the Camera's, beside the renderer alone.

Each way has a process of its own, since OpenGL reads its settings once a process, and Gymnasium's way must
be measured with the settings its users have. The processes take turns, A B C D A B C D; the others wait.
"""

import contextlib
import os
import platform
import statistics
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import gymnasium as gym

from robovae.bench.turns import MakeEnv, Turn, measured_process, serve_turns
from robovae.errors import RobovaeError

Say = Callable[[str], None]

GYMNASIUM, FULL, FAST, BARE = "gymnasium", "full", "fast", "bare"
"""The ways: step and `env.render()`; step a Camera of full or of fast quality; draw fast without stepping."""
OURS = {"LP_NUM_THREADS": "0"}
"""What `robovae_envs` asks of Mesa, and Gymnasium does not."""


@dataclass(frozen=True)
class RenderingCase:
    """One task, made in the ways to compare; the factories must be picklable."""

    name: str
    """For the table, usually the environment's id."""
    gymnasium: MakeEnv
    """Makes the task with `render_mode="rgb_array"` and the frame's size."""
    full: MakeEnv
    """Makes the task with frames in its observations, full quality."""
    fast: MakeEnv
    """The same, fast quality; has `frame()`, which draws without a step."""

    def ways(self) -> dict[str, MakeEnv]:
        """The factory of each way, in the order of their turns."""
        return {GYMNASIUM: self.gymnasium, FULL: self.full, FAST: self.fast, BARE: self.fast}


@dataclass(frozen=True)
class RenderingConfig:
    """How long to measure."""

    seconds: float = 1.0
    """Length of a turn."""
    rounds: int = 5
    """Turns of each way; figures are their median."""

    def __post_init__(self) -> None:
        if not self.seconds > 0 or self.rounds < 1:
            raise RobovaeError(
                f"expected seconds above 0 and at least one round, received {self}; raise them"
            )


def run(
    cases: Sequence[RenderingCase], config: RenderingConfig | None = None, on_event: Say | None = None
) -> dict[str, Any]:
    """Measure every way of every case.

    Args:
        cases: Tasks.
        config: How long.
        on_event: Told in a line what is being done.

    Returns:
        JSON-able: "rows", one a case and way with its median frames/s, lowest and highest turn, and how many
        times Gymnasium's that is (paired by round); "config"; "machine".

    Raises:
        RobovaeError: a way does not start, or dies.
    """
    config, say = config or RenderingConfig(), on_event or (lambda _: None)
    rows = []
    for case in cases:
        say(f"drawing {case.name}")
        rows += _measured(case, config)
    machine = {"cpus": os.cpu_count(), "python": platform.python_version(), "gl": os.environ.get("MUJOCO_GL")}
    return {"rows": rows, "config": asdict(config), "machine": machine}


def _measured(case: RenderingCase, config: RenderingConfig) -> list[dict[str, Any]]:
    with contextlib.ExitStack() as stack:
        turns = {way: stack.enter_context(_turns(way, make, case.name)) for way, make in case.ways().items()}
        rates: dict[str, list[float]] = {way: [] for way in turns}
        for _ in range(config.rounds):
            for way, turn in turns.items():
                rates[way].append(turn(config.seconds))
    return [_row(case.name, way, rates[way], rates[GYMNASIUM]) for way in rates]


def _row(name: str, way: str, rates: list[float], baseline: list[float]) -> dict[str, Any]:
    ratios = [rate / base for rate, base in zip(rates, baseline, strict=True)]
    return {
        "env": name,
        "way": way,
        "frames_per_s": round(statistics.median(rates), 1),
        "low": round(min(rates), 1),
        "high": round(max(rates), 1),
        "times_gymnasium": round(statistics.median(ratios), 1),
    }


def _turns(way: str, make: MakeEnv, name: str) -> AbstractContextManager[Turn]:
    """A process that draws in one way; gives the function that gives it a turn of so many seconds."""
    variables = {} if way == GYMNASIUM else OURS
    return measured_process(partial(_serve, way), make, 1, f"{name} ({way})", variables)


def _serve(way: str, make: MakeEnv, frames: int, connection: Connection) -> None:
    """In the other process: make the environment, then draw for as long as each message says."""

    def begin() -> tuple[Callable[[], object], int]:
        env = make()
        env.reset(seed=0)
        return _drawer(env, way), frames

    serve_turns(begin, connection)


def _drawer(env: gym.Env[Any, Any], way: str) -> Callable[[], object]:
    """The function that makes one more frame."""
    if way == BARE:
        frame: Callable[[], object] = env.get_wrapper_attr("frame")
        return frame
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(64)]
    count = 0

    def step() -> None:
        nonlocal count
        count += 1
        _, _, terminated, truncated, _ = env.step(actions[count % len(actions)])
        if terminated or truncated:
            env.reset()
        if way == GYMNASIUM:
            env.render()

    return step
