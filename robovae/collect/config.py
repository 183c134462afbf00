"""What to collect, and what is said while and after collecting."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any, Literal

from robovae.episodes import SPLITS, split_of
from robovae.episodes.episode import MORE_TRAIN
from robovae.errors import InterruptionError, RobovaeError
from robovae.provenance import usable_cores
from robovae.records import file_digest

DEFAULT_MAX_STEPS = 1000


class CollectError(RobovaeError):
    """Collecting cannot start or go on; finished episodes are kept."""


class CollectInterruptedError(CollectError, InterruptionError):
    """Ctrl-C: workers have stopped, every finished episode is kept, and the same command continues."""


@dataclass(frozen=True)
class CollectConfig:
    """Settings of one collection; every value is checked on construction.

    Raises:
        CollectError: if a value is out of range.
    """

    episodes: int = 400
    """How many episodes the store shall hold from `seed` on; those that it holds are not run again."""
    policy: str = "random"
    """Who acts: "random", "bang", "zero", the PATH of an episode store whose actions are replayed seed by
    seed or of a run whose policy acts, or "module:name" (a function `act(observation) -> action`, or a class;
    see robovae.collect.policies). Any of them followed by "~SHARE" explores: that share of random's action is
    added to each of its own."""
    seed: int | str = "train"
    """Seed of the first episode, one a seed from there on; or a split's name for its first seed."""
    workers: int = field(default_factory=usable_cores)
    """Worker processes, each with its own environment and GL context; as many as there are cores pays."""
    max_steps: int | None = None
    """Steps after which an episode is cut (truncated); None: the environment's own limit, or 1000 without."""
    watchdog: float = 60.0
    """Seconds without a step after which a worker counts as hung and is replaced."""
    fallback: str = "osmesa"
    """MUJOCO_GL for the workers if the renderer gives no first frame; "" gives up instead."""
    retries: int = 2
    """How often one seed may crash or hang a worker before collecting stops."""

    def __post_init__(self) -> None:
        for name, least in (("episodes", 1), ("workers", 1), ("retries", 0)):
            _check_integer(name, getattr(self, name), least)
        if self.max_steps is not None:
            _check_integer("max_steps", self.max_steps, 1)
        if not 0 < self.watchdog < inf:
            raise CollectError(f"watchdog must be a positive number of seconds, got {self.watchdog}")
        if not self.policy:
            raise CollectError('policy is empty: give "random", "zero", a path or "module:name"')
        exploring(self.policy)
        self.seeds()

    def remembered(self) -> dict[str, Any]:
        """What each episode remembers of it: that which decides what a seed shows."""
        found = {"policy": self.policy, "max_steps": self.max_steps}
        where = trained_policy(Path(exploring(self.policy)[0]))
        # A run's policy may have been trained again since.
        return found if where is None else {**found, "policy_digest": file_digest(where / "policy.json")}

    def first_seed(self) -> int:
        """The seed of the first episode."""
        if isinstance(self.seed, int) or self.seed.isdecimal():
            return int(self.seed)
        if self.seed not in SPLITS:
            raise CollectError(f"seed must be a number >= 0 or one of {', '.join(SPLITS)}, got {self.seed!r}")
        return int(SPLITS[self.seed][0])

    def seeds(self) -> list[int]:
        """The seeds to run, sorted, all of one split: train goes on at 100000, other splits are finite.

        Raises:
            CollectError: if the split has fewer seeds than `episodes`.
        """
        first = self.first_seed()
        if first < 0:
            raise CollectError(f"seed must be at least 0, got {first}")
        split = split_of(first)
        if split not in SPLITS:
            raise CollectError(f"seed {first} is in no split: choose one of {SPLITS} or from {MORE_TRAIN} on")
        begin, end = SPLITS[split]
        fitting = self.episodes if first >= MORE_TRAIN else min(self.episodes, end - first)
        more = self.episodes - fitting
        if more and split != "train":
            raise CollectError(
                f"split {split} has seeds {begin} to {end - 1}: {fitting} episodes fit from seed {first} on, "
                f"{self.episodes} were asked for"
            )
        return [*range(first, first + fitting), *range(MORE_TRAIN, MORE_TRAIN + more)]


def _check_integer(name: str, value: object, least: int) -> None:
    """Raise CollectError unless `value` is an integer of at least `least`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise CollectError(f"{name} must be an integer of at least {least}, got {value!r}")


def exploring(policy: str) -> tuple[str, float]:
    """The name of a policy without what it explores, and the share of that: "runs/reacher~0.3", 0 without.

    Raises:
        CollectError: the share is none.
    """
    name, _, share = policy.rpartition("~")
    if not name or not re.fullmatch(r"[+-]?[\d.]+", share):
        return policy, 0.0
    if not re.fullmatch(r"0?\.\d+|0|1|1\.0*", share):
        raise CollectError(f"policy {policy!r}: expected a share from 0 to 1 after ~, received {share}")
    return name, float(share)


def trained_policy(path: Path) -> Path | None:
    """Where the policy lies that a path means, be it RUN or RUN/policy-NAME; None if there is none."""
    found = [place for place in (path, path / "policy") if (place / "policy.json").is_file()]
    return found[0].absolute() if found else None


EventKind = Literal["start", "progress", "restart", "fallback", "stop", "done"]


@dataclass(frozen=True)
class CollectEvent:
    """Something a listener may want to show; totals are of this run, not of the store."""

    kind: EventKind
    frames: int
    """Frames rendered so far."""
    episodes: int
    """Episodes written so far."""
    total: int
    """Episodes that this run shall write."""
    skipped: int
    """Episodes that the store held already."""
    fps: float
    """Frames a second since the first frame; 0 before."""
    message: str = ""
    """One line for a person; empty for kind "progress"."""


Listener = Callable[[CollectEvent], None]


@dataclass(frozen=True)
class CollectSummary:
    """What a run did; `to_dict` is JSON-able."""

    path: Path
    """The episode store."""
    episodes: int
    """Episodes written by this run."""
    skipped: int
    """Episodes that were there already."""
    frames: int
    """Frames written by this run."""
    seconds: float
    """From the first frame to the last file."""
    startup_seconds: float
    """From the call to the first frame: processes, imports, GL contexts."""
    fps: float
    """frames / seconds."""
    workers: int
    """Worker processes."""
    restarts: int
    """Workers that were replaced."""
    mean_length: float
    """Steps an episode, mean."""
    coverage: dict[str, float]
    """Share of 36 bins of each hinge's range that this run visited, by joint name."""
    backend: str
    """MUJOCO_GL of the workers."""

    def to_dict(self) -> dict[str, Any]:
        """The same as a JSON-able dict."""
        return {**self.__dict__, "path": str(self.path)}
