"""`robovae bench render|collect|read`: measurements that anyone can repeat, without torch."""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
from rich.console import RenderableType

from robovae.bench import collecting, reading, rendering
from robovae.bench.collecting import CollectingCase, CollectingConfig
from robovae.bench.reading import ReadingConfig
from robovae.bench.rendering import RenderingCase, RenderingConfig
from robovae.cli.collect import env_factory
from robovae.cli.console import log, show, table_of
from robovae.run import parse_size

TARGETS = {"Reacher-v5": 6.0, "InvertedPendulum-v5": 6.0, "HalfCheetah-v5": 40.0, "Pusher-v5": 40.0}
"""Tasks measured by default; how many times Gymnasium's frames/s collecting shall reach on each at 64x64."""


@dataclass(frozen=True)
class Render:
    """Time drawing in one process: Gymnasium's render, our camera full and fast, the bare renderer.

    The ways take turns in processes of their own, so that a busy machine slows all of them alike.

    Examples:
      robovae bench render
      robovae bench render --envs Ant-v5 Walker2d-v5 --size 96 --json
    """

    envs: tuple[str, ...] = tuple(TARGETS)
    """MuJoCo tasks of Gymnasium."""
    size: str = "64"
    """Pixels of a frame: a side, or HxW."""
    config: RenderingConfig = field(default_factory=RenderingConfig)
    json: bool = False
    """Print one JSON object."""

    def run(self) -> int:
        """Measure, and print a row for each task and way."""
        cases = [
            RenderingCase(
                name=env,
                gymnasium=gymnasium_factory(env, self.size),
                full=env_factory(env, self.size, "full"),
                fast=env_factory(env, self.size, "fast"),
            )
            for env in self.envs
        ]
        found = rendering.run(cases, self.config, on_event=log)
        show(found, self.json, *tables(found))
        return 0


@dataclass(frozen=True)
class Collect:
    """Time collecting, beside Gymnasium's own vector environments and the bare renderer, on the same cores.

    The ways take turns with the same number of processes; ours also writes its files, theirs stores nothing.

    Examples:
      robovae bench collect
      robovae bench collect --envs HalfCheetah-v5 --workers 1 --json
    """

    envs: tuple[str, ...] = tuple(TARGETS)
    """MuJoCo tasks of Gymnasium."""
    size: str = "64"
    """Pixels of a frame: a side, or HxW."""
    workdir: Path | None = None
    """Where episodes are written and removed again, on the disk to be measured; a temporary directory."""
    config: CollectingConfig = field(default_factory=CollectingConfig)
    json: bool = False
    """Print one JSON object."""

    def run(self) -> int:
        """Measure, and print a row for each task and way."""
        cases = [
            CollectingCase(
                name=env,
                gymnasium=gymnasium_factory(env, self.size),
                ours=env_factory(env, self.size, "fast"),
                target=TARGETS.get(env) if self.size == "64" else None,
            )
            for env in self.envs
        ]
        found = collecting.run(cases, self.config, self.workdir, on_event=log)
        show(found, self.json, *tables(found, "collect on"))
        return 0


@dataclass(frozen=True)
class Read:
    """Time random training batches from the episode store, beside the formats users would pick.

    All formats hold the same frames and take turns, warm and cold. The other formats come with
    pip install 'robovae[bench]'; those that are missing are left out and named.

    Examples:
      robovae bench read
      robovae bench read --data data/reacher --frames 10000 --json
    """

    data: Path | None = None
    """A dataset; without one, frames of --env are collected first."""
    env: str = "Reacher-v5"
    """Environment to take frames from."""
    size: str = "64"
    """Pixels of a frame: a side, or HxW."""
    config: ReadingConfig = field(default_factory=ReadingConfig)
    json: bool = False
    """Print one JSON object."""

    def run(self) -> int:
        """Measure, and print a row for each format."""
        source = self.data or env_factory(self.env, self.size, "fast")
        found = reading.run(source, self.config, on_event=log)
        show(found, self.json, *tables(found))
        return 0


def gymnasium_factory(env_id: str, size: str) -> "partial[gym.Env[Any, Any]]":
    """The task as Gymnasium draws it by itself."""
    height, width = parse_size(size)
    return partial(gym.make, env_id, render_mode="rgb_array", height=height, width=width)


def tables(found: dict[str, Any], compared: str = "times as fast as") -> list[RenderableType]:
    """A benchmark's rows and ratios as people read them."""
    tables: list[RenderableType] = [table_of(found["rows"])]
    if ratios := found.get("ratios"):
        tables += ["", table_of([{compared: name, **values} for name, values in ratios.items()])]
    return tables
