"""The crew: processes that each hold all arms and play what they are told."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from typing import Any, NamedTuple

import gymnasium as gym
import torch

from robovae.closed_loop.arms import Arm
from robovae.closed_loop.condition import Condition, Windows
from robovae.closed_loop.playing import play
from robovae.device import threads

MakeEnv = Callable[[str | None, int, Windows], gym.Env[Any, Any]]
"""(fault, severity, windows) -> environment whose observation is {"image", "state"}; fault None: nominal.

The seed of `reset` decides all that is random in a fault; `info["fault"]` tells whether it is there.
"""


class Job(NamedTuple):
    """The episode of one seed in one condition, for some arms."""

    condition: Condition
    seed: int
    windows: Windows
    arms: tuple[str, ...]


@dataclass(frozen=True)
class Crew:
    """How to make what plays; picklable, where there is more than one worker."""

    make_arms: Callable[[], Mapping[str, Arm]]
    make_env: MakeEnv

    def play(self, jobs: Sequence[Job], steps: int, workers: int) -> Iterator[dict[str, dict[str, Any]]]:
        """Play jobs, each when its turn comes, on one thread a worker.

        Args:
            jobs: what is played.
            steps: after how many an episode is cut.
            workers: processes; with 1, it is this one.

        Yields:
            For each job in turn, the facts of `Played` by arm.

        Raises:
            ClosedLoopError: see `robovae.closed_loop.playing.play`.
        """
        if not jobs:
            return
        if workers <= 1:
            with threads(1):
                arms = self.make_arms()
                for job in jobs:
                    yield _play(self.make_env, arms, job, steps)
            return
        pool = ProcessPoolExecutor(workers, get_context("spawn"), _begin, (self, steps))
        try:
            yield from pool.map(_play_here, jobs)
        finally:
            pool.shutdown(cancel_futures=True)


def _play(make_env: MakeEnv, arms: Mapping[str, Arm], job: Job, steps: int) -> dict[str, dict[str, Any]]:
    env = make_env(job.condition.fault, job.condition.severity, job.windows)
    try:
        return {name: asdict(play(env, arms[name], job.seed, steps)) for name in job.arms}
    finally:
        env.close()


_HERE: dict[str, Any] = {}
"""What this process plays with, once it was told."""


def _begin(crew: Crew, steps: int) -> None:
    torch.set_num_threads(1)
    _HERE.update(crew=crew, steps=steps)


def _play_here(job: Job) -> dict[str, dict[str, Any]]:
    crew = _HERE["crew"]
    if "arms" not in _HERE:  # not in _begin: what an initializer raises breaks the pool and is lost
        _HERE["arms"] = crew.make_arms()
    return _play(crew.make_env, _HERE["arms"], job, _HERE["steps"])
