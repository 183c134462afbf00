"""`robovae collect`."""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from robovae.cli.console import facts, number, show
from robovae.cli.events import Watcher
from robovae.collect import CollectConfig, CollectError, collect
from robovae.episodes import split_of
from robovae.provenance import usable_cores
from robovae.run.recipe import CollectStage, Quality, parse_size

if TYPE_CHECKING:
    from robovae_envs.camera import Camera

Split = Literal["train", "calibrate", "test", "rare", "fault"]


@dataclass(frozen=True)
class Collect:
    """Run a policy in an environment and store every frame it sees, one lossless file an episode.

    The same command continues what was interrupted, and with more --episodes adds to what is there.
    A seed belongs to a split, and so does its episode: train 0-9999, calibrate 10000-, test 20000-,
    rare 30000-, fault 40000-.

    Examples:
      robovae collect Reacher-v5 --episodes 400 --out data/reacher
      robovae collect Reacher-v5 --episodes 40 --split test --out data/reacher
      robovae collect Reacher-v5 --policy runs/reacher~0.3 --out data/on-policy
      robovae collect HalfCheetah-v5 --size 96x128 --policy my_robot:Gait --out data/cheetah
    """

    env: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ENV")]
    """Gymnasium id of the environment, such as Reacher-v5."""
    out: Path
    """Directory of the dataset; data/NAME by custom."""
    episodes: int = 400
    """Episodes that the dataset shall hold from the first seed on."""
    policy: str = "random"
    """random, bang (every action at a bound), zero, the path of a dataset whose actions are replayed or of a
    run whose policy acts, or module:function. Followed by ~SHARE it explores: ~0.3 adds 0.3 of a random
    action to each of its own, for one policy alone shows little of its task."""
    split: Split | None = None
    """The split, and with it the first seed; train without one."""
    seed: int | None = None
    """First seed, in place of the split's first; of that split, if one is given."""
    workers: int = field(default_factory=usable_cores)
    """Processes, each with its own environment and GL context."""
    size: str = "64"
    """Pixels of a frame: a side, or HxW; multiples of 8 from 16 on, to train on them."""
    quality: Quality = "fast"
    """fast leaves shadows out and rounds things less, 5 to 110 times as fast; full is MuJoCo's default."""
    spread: float = 0.0
    """Share of each joint's range over which initial angles are drawn; 0: the environment's own starts."""
    max_steps: int | None = None
    """Steps after which an episode is cut; the environment's own limit, or 1000."""
    json: bool = False
    """Print one JSON object."""

    def run(self) -> int:
        """Collect, with progress, and say what was collected."""
        if self.seed is not None and self.split not in (None, split_of(self.seed)):
            raise CollectError(
                f"--seed: expected one of the split {self.split}, received {self.seed} of "
                f"{split_of(self.seed)}; leave one of both out"
            )
        config = CollectConfig(
            episodes=self.episodes,
            policy=self.policy,
            seed=(self.split or "train") if self.seed is None else self.seed,
            workers=self.workers,
            max_steps=self.max_steps,
        )
        make_env = env_factory(self.env, self.size, self.quality, self.spread)
        with Watcher() as watcher:
            summary = collect(make_env, self.out, config, lambda event: watcher("collect", event))
        rows = {
            "dataset": summary.path,
            "episodes": f"{number(summary.episodes)} new, {number(summary.skipped)} were there",
            "frames": number(summary.frames),
            "frames/s": f"{number(summary.fps)} ({summary.workers} workers, {summary.backend})",
            "seconds": f"{summary.seconds:.1f}, and {summary.startup_seconds:.1f} to start",
            "joint range seen": ", ".join(f"{k} {v:.0%}" for k, v in summary.coverage.items()) or "no joints",
        }
        show(summary.to_dict(), self.json, facts(rows))
        return 0


def env_factory(env_id: str, size: str, quality: Quality, spread: float = 0.0) -> "partial[Camera]":
    """The picklable factory of environments with a camera; refuses an unknown environment at once.

    Raises:
        EnvError: there is no such environment.
    """
    from robovae_envs import camera

    height, width = parse_size(size)
    preset = camera.RenderSpec.fast if quality == "fast" else camera.RenderSpec.full
    make = partial(camera.make, env_id, preset(env_id, height=height, width=width), spread=spread)
    make().close()
    return make


def stage_factory(stage: CollectStage) -> "partial[Camera]":
    """The factory that a recipe's collect stage asks for."""
    return env_factory(stage.env, stage.size, stage.quality, stage.spread)
