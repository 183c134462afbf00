"""Train policies on beliefs and on what competes with them, and tell their returns and their hours.

    python launch/benchmarks/policy.py --runs runs/reacher --data data/reacher --seeds 0 1 2    # hours

All arms go through the same training: the true state, beliefs (mu and mu_sigma of 3 frames, filtered; taught:
filtered ones, by imitation of the policy on the true state, which is trained first, in half the steps), and,
of 3 frames each, principal components, an untrained encoder of the same architecture, and RUN/ae. Critics see
the true state, but those of components and of pixels, which see what is acted on. Policies
are kept as RUN/policy-ARM-sSEED (rivals: RUN/rivals/..., RUN/ae/...), and finished ones are skipped, so that
the same command goes on after an interruption. Stable-Baselines3's `CnnPolicy` on 3 frames learns a few steps
a second: only a stretch of it is run, and its seconds are extrapolated; it is granted that it needs no more
steps than the policy beside it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import tyro

from robovae import provenance
from robovae.cli.console import log, progress, show
from robovae.cli.events import log_stage
from robovae.cli.policy import env_factory
from robovae.cli.verdicts import titled
from robovae.config import check_least, to_plain
from robovae.errors import RobovaeError
from robovae.filter import BeliefFilter
from robovae.policy import PolicyConfig, PolicyEvent
from robovae.policy.contest import FITTED, SEES, Contest
from robovae.policy.curves import INTERVALS, Trained, curve_facts, faster, less, over_seeds, share_of_way
from robovae.policy.targets import TASKS, Task, targets
from robovae.records import write_json
from robovae.run.directory import load_model
from robovae_envs.errors import EnvError

RESULTS = Path(__file__).parent / "results"
Record = dict[str, Any]
Arm = Literal["state", "mu", "mu_sigma", "filtered", "taught", "pca", "random", "ae", "pixels"]

BASE = PolicyConfig()
"""Settings of all arms, but for what the options say."""
BEFORE = ("collect", "train", "calibrate", "teach", "fit")
"""What an arm takes before its own training."""
MARKS = (10_000, 25_000, 50_000, 100_000)


@dataclass(frozen=True)
class Policies:
    """Print tables of what policies learn from beliefs, and how fast."""

    runs: tuple[Path, ...]
    """Run directories, calibrated for sigma and with a filter for "filtered"."""
    data: tuple[Path, ...] = ()
    """The dataset of each run, or one of all; the arms pca and random are fitted on it."""
    arms: tuple[Arm, ...] = get_args(Arm)
    """What is compared; ae is left out where a run has none."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of training."""
    algo: Literal["sac", "ppo", "tqc"] = "sac"
    """Of all arms."""
    steps: int | None = None
    """Of each policy; by task, 30 000 to 100 000."""
    pixel_steps: int = 600
    """Of the stretch on pixels."""
    threads: int = 1
    """Of torch."""
    json: bool = False
    """Print one JSON object."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Where the JSON is written; launch/benchmarks/results/policy.json."""

    def __post_init__(self) -> None:
        check_least(self, RobovaeError, pixel_steps=1)
        for name in ("runs", "arms", "seeds"):
            given = getattr(self, name)
            if not given or len(set(given)) < len(given):
                raise RobovaeError(f"--{name}: expected one or more, each once, received {list(given)}")
        if len(self.data) not in ({1, len(self.runs)} if self.fitted else {0, 1, len(self.runs)}):
            raise RobovaeError(
                f"--data: expected the dataset of each of {len(self.runs)} runs, or one of all, received "
                f"{len(self.data)}; only without the arms {' and '.join(FITTED)} there may be none"
            )

    @property
    def fitted(self) -> list[str]:
        """Arms that need data."""
        return [arm for arm in self.arms if arm in FITTED]

    def sources(self) -> Sequence[Path | None]:
        """The dataset of each run."""
        return self.data if len(self.data) == len(self.runs) else [*self.data, None][:1] * len(self.runs)


def main(options: Policies) -> None:
    """Train, write the JSON, and print the tables."""
    comparisons = [
        Comparison.of(*pair, options) for pair in zip(options.runs, options.sources(), strict=True)
    ]
    runs = [one.judged() for one in comparisons]
    found = {
        "intervals": INTERVALS,
        "runs": runs,
        "machine": provenance.machine(),
        "versions": provenance.versions(),
        "git": provenance.git_state(Path(__file__).parents[2]),
    }
    log(f"written to {write_json(options.out or RESULTS / 'policy.json', found)}")
    tables = [item for one in runs for item in ("", f"== {one['run']}, {one['env_id']}", *tables_of(one))]
    show(found, options.json, *tables)


@dataclass(frozen=True)
class Comparison:
    """What is done with one run."""

    contest: Contest
    task: Task
    env_id: str
    arms: tuple[str, ...]
    """That are trained."""
    options: Policies

    @classmethod
    def of(cls, run: Path, data: Path | None, options: Policies) -> "Comparison":
        """See what there is, before hours have passed."""
        env_id = load_model(run).facts.env_id
        task = TASKS.get(env_id, Task())
        if "filtered" in options.arms:
            BeliefFilter.load(run)
        has_ae = (run / "ae" / "config.json").is_file()
        if "ae" in options.arms and not has_ae:
            log(f"{run}: left out the arm ae, there is no RUN/ae")
        arms = tuple(arm for arm in options.arms if arm in SEES and (arm != "ae" or has_ae))
        base = replace(BASE, algo=options.algo, steps=options.steps or task.steps, threads=options.threads)
        seeing, bare = (env_factory(run, None, bare=each) for each in (False, True))
        return cls(Contest(run, seeing, bare, base, log_stage, data), task, env_id, arms, options)

    def judged(self) -> Record:
        """All figures; trains what is not trained yet, all arms of a seed before the next seed."""
        trained: dict[str, list[Trained]] = {arm: [] for arm in self.arms}
        for seed in self.options.seeds:
            for arm in self.arms:
                trained[arm].append(self.train(arm, seed))
        pixels = self.contest.pixels(self.options.pixel_steps) if "pixels" in self.options.arms else None
        found = {
            "run": self.contest.run.name,
            "env_id": self.env_id,
            "steps": self.contest.base.steps,
            "seeds": list(self.options.seeds),
            "task": to_plain(self.task),
            "pixels": pixels,
        }
        return {**found, **self.compared(trained, pixels)}

    def train(self, arm: str, seed: int) -> Trained:
        """One policy, with progress."""
        with progress(f"{self.contest.run.name} {arm} {seed}") as update:

            def listen(event: PolicyEvent) -> None:
                if event.kind in ("resume", "skip"):
                    log(f"policy: {event.kind}, {event.message}")
                update(event.steps, event.total, f"{event.steps_per_second:.0f} steps/s")

            return self.contest.trained(arm, seed, listen)

    def compared(self, trained: Mapping[str, Sequence[Trained]], pixels: Record | None) -> Record:
        """Zero action, the goal, and a row an arm."""
        floor = over_seeds([self.contest.zero()])
        ends = {arm: over_seeds([one.returns for one in some]) for arm, some in trained.items()}
        roof, goal, share = ends.get("state"), self.task.least, self.task.share
        if share is not None and roof is not None and roof.value > floor.value:
            goal = floor.value + share * (roof.value - floor.value)
        free = self.contest.base.filled().learning_starts or 0
        arms = []
        for arm, some in trained.items():
            before, notes = self.contest.before(arm)
            steps = self.contest.config(arm, self.options.seeds[0]).steps
            row = {"arm": arm, "steps": steps, **curve_facts(some, MARKS), "before": before, "notes": notes}
            way = roof and share_of_way(ends[arm], floor, roof)
            row |= {"share": way and way.facts(), "behind": roof and less(roof, ends[arm]).facts()}
            if pixels is not None:
                speed = pixels["steps_per_second"]
                row["clock"] = faster(some, goal, sum(before.values()), speed, free)
            arms.append(row)
        return {"zero": floor.facts(), "goal": goal, "arms": arms}


def tables_of(one: Mapping[str, Any]) -> list[Any]:
    """The tables of a run."""
    seeds = f"seeds {', '.join(map(str, one['seeds']))}"
    found = [
        *titled([target.facts() for target in targets(one)], f"targets; {seeds}"),
        *titled(
            return_rows(one),
            f"return by step, and of held-out episodes; {seeds}; {INTERVALS}; share: of the way from zero "
            "action to the true state",
        ),
    ]
    if one["pixels"]:
        speed, notes = one["pixels"], sorted({note for row in one["arms"] for note in row["notes"]})
        goal = "the end" if one["goal"] is None else f"a return of {one['goal']:.4g}"
        stretch = f"{speed['steps']} steps at {speed['steps_per_second']:.3g} steps/s"
        title = f"seconds to {goal}; CnnPolicy: extrapolated from {stretch}, and granted as many steps"
        found += titled(clock_rows(one), title)
        found += notes
    return found


def return_rows(one: Mapping[str, Any]) -> list[Record]:
    """A row an arm, and zero action."""
    rows: list[Record] = []
    for row in one["arms"]:
        end, share = row["held_out"], row["share"]
        rows.append(
            {
                "arm": row["arm"],
                "steps": row["steps"],
                **{f"{int(mark):_}".replace("_", " "): at["value"] for mark, at in row["at"].items()},
                "held out": end["value"],
                "low": end["low"],
                "high": end["high"],
                "worst seed": min(end["seeds"]),
                "best seed": max(end["seeds"]),
                "share": share and share["value"],
            }
        )
    return [*rows, {"arm": "zero action", "held out": one["zero"]["value"]}]


def clock_rows(one: Mapping[str, Any]) -> list[Record]:
    """A row an arm."""
    rows = []
    for row in one["arms"]:
        clock = row["clock"]
        rows.append(
            {
                "arm": row["arm"],
                "reached by seeds": clock["reached"],
                "steps": round(clock["steps"]),
                **{name: row["before"].get(name) for name in BEFORE},
                "all": clock["seconds"],
                "CnnPolicy": clock["their_seconds"],
                "times": clock["times"]["value"],
            }
        )
    return rows


if __name__ == "__main__":
    try:
        main(tyro.cli(Policies))
    except (RobovaeError, EnvError) as error:
        raise SystemExit(str(error)) from error
