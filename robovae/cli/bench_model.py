"""`robovae bench train|encode`: what the model costs; these import torch."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from robovae.bench import encoding, training
from robovae.bench.clock import TrainingConfig
from robovae.bench.encoding import EncodingConfig
from robovae.cli.bench import tables
from robovae.cli.collect import env_factory
from robovae.cli.console import facts, log, number, show
from robovae.collect import CollectConfig, collect

EPISODES = 300
"""Collected where no dataset is given; 15 000 frames of Reacher."""


@dataclass(frozen=True)
class Train:
    """Time training to a held-out EV, beside a plain World-Models loop and pythae's trainer.

    All see the same frames. Shows frames/s, GFLOP/s, and the share of the matrix peak measured in the same
    run. pythae comes with pip install 'robovae[bench]'.

    Examples:
      robovae bench train
      robovae bench train --data data/reacher --target-ev 0.85 --json
    """

    data: Path | None = None
    """A dataset of 64x64 frames; without one, frames of --env are collected first."""
    env: str = "Reacher-v5"
    """Environment to take frames from."""
    config: TrainingConfig = field(default_factory=TrainingConfig)
    json: bool = False
    """Print one JSON object."""

    def run(self) -> int:
        """Measure, and print a row for each way."""
        with dataset(self.data, self.env) as data:
            found = training.run(data, self.config, on_event=log)
        peaks = {f"peak {name}": f"{number(value)} GFLOP/s" for name, value in found["peak"].items()}
        show(found, self.json, *tables({"rows": found["rows"]}), "", facts(peaks))
        return 0


@dataclass(frozen=True)
class Encode:
    """Time one frame at a time through the encoder, on one thread, beside the World-Models encoder.

    ONNX Runtime comes with pip install 'robovae[export]'.

    Examples:
      robovae bench encode
      robovae bench encode --run-dir runs/reacher --json
    """

    run_dir: Path | None = None
    """A run; without one, a fresh model of the default sizes (weights do not matter to its speed)."""
    config: EncodingConfig = field(default_factory=EncodingConfig)
    json: bool = False
    """Print one JSON object."""

    def run(self) -> int:
        """Measure, and print a row for each encoder and engine."""
        found = encoding.run(self.run_dir, self.config, on_event=log)
        ratio = {"ours / World Models'": f"{number(found['ratio'])}, target {number(found['target'])}"}
        show(found, self.json, *tables({"rows": found["rows"]}), "", facts(ratio))
        return 0


@contextmanager
def dataset(path: Path | None, env: str) -> Iterator[Path]:
    """A dataset to measure on: the given one, or one that is collected now and removed again."""
    if path is not None:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="robovae-bench-") as folder:
        log(f"collecting {EPISODES} episodes of {env}")
        collect(env_factory(env, "64", "fast"), Path(folder) / "data", CollectConfig(episodes=EPISODES))
        yield Path(folder) / "data"
