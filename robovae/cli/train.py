"""`robovae train`."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robovae.cli.console import facts, number, show
from robovae.cli.events import SHOWN, Watcher
from robovae.cli.parse import Positional
from robovae.train import TrainConfig, train


@dataclass(frozen=True)
class Train:
    """Train the VAE on the train split of a dataset, into a run directory.

    Interrupted, the same command goes on, to the same weights. Fails if the latents carry nothing.

    Examples:
      robovae train data/reacher --out runs/reacher
      robovae train data/reacher --out runs/small --latent-dim 16 --local-steps 2000
      torchrun --nproc_per_node 2 -m robovae train data/reacher --out runs/reacher
    """

    data: Positional[Path]
    """The dataset."""
    out: Path
    """The run directory; runs/NAME by custom."""
    config: TrainConfig = field(default_factory=TrainConfig)
    json: bool = False
    """Print one JSON object."""

    def run(self) -> int:
        """Train, with progress, and say what came out."""
        with Watcher() as watcher:
            result = train(self.data, self.out, self.config, lambda event: watcher("train", event))
        if os.environ.get("RANK", "0") == "0":
            rows = {"run": self.out, **quality(result), "seconds": number(result["seconds"])}
            show({"run": str(self.out), **result}, self.json, facts(rows))
        return 0


def quality(result: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of a training's result that people want first."""
    final = {**result["final"].get("local", {}), **result["final"].get("global", {})}
    chosen = {word: number(final[name]) for name, word in SHOWN.items() if name in final}
    return {**chosen, "trained": trained_words(result)}


def trained_words(result: Mapping[str, Any]) -> str:
    """Speed of each phase."""
    speeds = {phase: number(round(row["frames_per_second"])) for phase, row in result["final"].items()}
    return ", ".join(f"{phase} {speed} frames/s" for phase, speed in speeds.items())
