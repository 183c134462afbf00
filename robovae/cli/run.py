"""`robovae run`: a whole recipe."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from robovae.cli.collect import stage_factory
from robovae.cli.console import facts, log, number, show
from robovae.cli.control import control_run
from robovae.cli.evaluate import judge_run
from robovae.cli.events import Watcher
from robovae.cli.train import trained_words
from robovae.records import read_json
from robovae.run import Listeners, StageEvent, load_recipe, run_recipe


@dataclass(frozen=True)
class Run:
    """Run a recipe: collect frames, train on them, calibrate, judge, train policies, draw the report.

    A stage that is finished is skipped, one that was interrupted goes on, and one whose config or data has
    changed runs anew; what it made before is kept as NAME.old-1.

    Examples:
      robovae run launch/quickstart.yaml
      robovae run my_recipe.yaml --root /big/disk
    """

    recipe: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RECIPE")]
    """YAML file with the sections collect and train, and those that build on them."""
    root: Path = Path()
    """Directory from which the recipe's paths count."""
    json: bool = False
    """Print one JSON object."""

    def run(self) -> int:
        """Run all stages, and end with the figures and the page."""
        recipe = load_recipe(self.recipe, self.root)
        with Watcher() as watcher:
            result = run_recipe(recipe, stage_factory, Listeners(tell, watcher), judge_run, control_run)
        show(result, self.json, facts(summary(result)))
        return 0


def tell(event: StageEvent) -> None:
    """One line a stage."""
    word = {"start": "", "resume": "going on with ", "skip": "skipped: ", "done": "done: ", "aside": "note: "}
    log(f"{event.stage}: {word[event.state]}{event.message}")


def probe_words(rows: Sequence[Mapping[str, Any]]) -> str:
    """How well each joint can be read off mu: "joint0 0.99, target 0.96"."""
    return ", ".join(f"{row['name']} {row['r2']:.3f}" for row in rows if "r2" in row) or "nothing to probe"


def acting_words(stages: Mapping[str, Any]) -> dict[str, str]:
    """What policies return, and how many targets of the closed loop are missed; where there are any."""
    returns = [
        f"{name} {number(record['result']['evaluation']['mean'])}"
        for name, record in stages.items()
        if name.startswith("policy")
    ]
    words = {"mean return": ", ".join(returns)} if returns else {}
    if "control" in stages:
        targets = stages["control"]["result"]["targets"]
        missed = sum(row[""].startswith("missed") for row in targets)
        words["closed loop"] = f"{missed} of {len(targets)} targets missed"
    return words


def summary(result: dict[str, Any]) -> dict[str, Any]:
    """What people want to know of a finished recipe."""
    stages = result["stages"]
    quality = (read_json(Path(stages["report"]["result"]["figures"])) or {}).get("quality", {})
    speeds = [split["fps"] for split in stages["collect"]["result"].values() if split["fps"]]
    times = ", ".join(f"{name} {record['seconds']:.0f}" for name, record in stages.items())
    return {
        "held-out EV": number(quality.get("ev")),
        "probe R²": probe_words(quality.get("probe", [])),
        "active dimensions": f"{number(quality.get('active_dims'))} of {number(quality.get('latent_dim'))}",
        "information": f"{number(quality.get('information'))} nats a frame",
        "collected": f"{number(round(max(speeds, default=0)))} frames/s",
        "trained": trained_words(stages["train"]["result"]),
        **acting_words(stages),
        "seconds": times,
        "report": Path(result["report"]).resolve(),
    }
