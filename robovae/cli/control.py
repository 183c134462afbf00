"""`robovae bench control`: what is left of a policy's return when the camera fails."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import gymnasium as gym
import tyro

from robovae.cli.console import facts, number, progress, show
from robovae.cli.control_tables import loop_tables
from robovae.closed_loop import Cast, Condition, Crew, Ledger, LoopConfig, judge_loop, to_csv
from robovae.closed_loop.video import FPS, record, side_by_side
from robovae.errors import RobovaeError
from robovae.judge.cells import plan
from robovae.records import write_json
from robovae.run.directory import RunError, load_model
from robovae.video import write_video

QUICK_FAULTS = ("occluder", "colour_shift", "exposure")
"""One in a place, one of the whole scene, one of the sensor."""
FILMED = ("exposure", 5, 0.5)
"""Fault, severity and share of the film."""
FOLDER, LEDGER, FILM = "control", "episodes.jsonl", "film.webp"
"""In the run directory: everything of this command, every episode that was played, and the film."""


@dataclass(frozen=True)
class Control:
    """Judge policies, filter and guard of a run with a camera that fails in bursts, or for good.

    Every arm plays the same seeds. 0 is the score of zero action, 1 that of the policy on the true state
    (RUN/policy-state; without one, of the unguarded policy). Interrupted, the same command goes on. Writes
    control.json, control.csv (a line an episode) and film.webp into RUN/control.

    Examples:
      robovae bench control runs/reacher
      robovae bench control runs/reacher --faults defocus jpeg --episodes 20 --workers 2
      robovae bench control runs/reacher --full
    """

    run_dir: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The run directory, with policies."""
    full: bool = False
    """50 episodes of 200 steps, all TEST faults: hours. Without it 6 of 50 steps, three faults: minutes."""
    faults: tuple[str, ...] = ()
    """Names, see `robovae faults`."""
    episodes: int | None = None
    """Of every arm in every condition."""
    steps: int | None = None
    """After how many an episode is cut."""
    policies: tuple[str, ...] = ()
    """Names of policies that come before others which could play the same part."""
    fallback: Literal["hold", "zero"] = "hold"
    """What the guard does when it can coast no longer."""
    workers: int = 1
    """Processes that play."""
    again: bool = False
    """Play all episodes anew, as after a change of code."""
    json: bool = False
    """Print one JSON object."""

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise RobovaeError(f"workers: expected at least 1, received {self.workers}")

    def run(self) -> int:
        """Judge, with progress, and print what was found."""
        config = loop_config(self.full, self.faults, self.episodes, self.steps)
        cast = Cast.find(self.run_dir, self.fallback, self.policies)
        found, written = looped(cast, config, self.workers, again=self.again)
        how = facts(
            {
                "run": self.run_dir,
                "how much": "full" if self.full else "quick: the intervals are wide, --full narrows them",
                "seconds": number(found["seconds"]),
                "written": " ".join(map(str, written)),
            }
        )
        show({"run": str(self.run_dir), "full": self.full, **found}, self.json, how, *loop_tables(found))
        return 0


def loop_config(
    full: bool, faults: Sequence[str] = (), episodes: int | None = None, steps: int | None = None
) -> LoopConfig:
    """How much is judged; what is given replaces what is usual.

    Raises:
        JudgeError: there is no such fault.
        ClosedLoopError: too few episodes or steps.
    """
    from robovae_envs.faults import FAULTS

    plan(FAULTS, faults, (0,))
    config = LoopConfig() if full else replace(LoopConfig.quick(), faults=QUICK_FAULTS)
    return replace(
        config,
        faults=tuple(faults) or config.faults,
        episodes=config.episodes if episodes is None else episodes,
        steps=config.steps if steps is None else steps,
    )


def control_run(run: Path, scale: str, workers: int = 1) -> dict[str, Any]:
    """Judge the run of a recipe, "quick" or "full"."""
    found, written = looped(Cast.find(run), loop_config(scale == "full"), workers)
    return {**found, "written": list(map(str, written))}


def looped(
    cast: Cast, config: LoopConfig, workers: int = 1, *, again: bool = False
) -> tuple[dict[str, Any], list[Path]]:
    """Judge a run and write control.json, control.csv and film.webp.

    Args:
        cast: of the run, which needs a monitor, and a filter for policies on filtered beliefs.
        config: how much.
        workers: processes.
        again: whether to forget what was played.

    Returns:
        The figures without the episodes behind them, "policies" (see `Cast.policies`) among them, and the
        files.

    Raises:
        ClosedLoopError: the reference is no better than zero action.
    """
    from robovae_envs.faults import FAULTS

    folder, make = cast.run / FOLDER, env_maker(cast.run)
    if again:
        (folder / LEDGER).unlink(missing_ok=True)
    env = make(None, 0, ())
    try:
        # Faults set in within an episode as it is, not as it would be cut.
        limit = env.spec.max_episode_steps if env.spec else None
        config = replace(config, steps=min(config.steps, limit or config.steps))
        cast = cast.measured(env, config.steps)
    finally:
        env.close()
    with progress("playing") as update:
        result = judge_loop(
            Crew(cast, make),
            cast.facts(),
            FAULTS,
            config,
            Ledger(folder / LEDGER),
            workers=workers,
            on_part=update,
        )
    result["policies"] = cast.policies()
    written = [write_json(folder / "control.json", result), to_csv(result, folder / "control.csv")]
    written.append(filmed(cast, make, config, folder / FILM))
    return brief(result), written


def filmed(cast: Cast, make: "partial[gym.Env[Any, Any]]", config: LoopConfig, path: Path) -> Path:
    """Write the film: an episode as it should be, under a fault, and under the fault with the guard."""
    from robovae_envs.faults import FAULTS

    name, severity, share = FILMED
    condition = Condition(name, severity, FAULTS[name].kind, FAULTS[name].split, share)
    columns = record(make, cast(), condition, config.first_seed, config.steps, config.longest)
    return write_video(path, side_by_side(columns), FPS)


def brief(result: Mapping[str, Any]) -> dict[str, Any]:
    """A judgement without its episodes."""
    return {name: part for name, part in result.items() if name != "episodes"}


def env_maker(run: Path) -> "partial[gym.Env[Any, Any]]":
    """Makes the environments of a run, as `robovae.closed_loop.crew.MakeEnv`; picklable.

    Raises:
        RunError: the run has no model, or does not know how its frames were drawn.
    """
    known = load_model(run).facts
    if known.render_spec is None:
        raise RunError(
            f"{run}: expected a run that knows its camera, received none; train on `robovae collect`"
        )
    return partial(make_env, known.env_id, known.render_spec)


def make_env(
    env_id: str, spec: Mapping[str, Any], fault: str | None, severity: int, windows: Sequence[tuple[int, int]]
) -> gym.Env[Any, Any]:
    """A task with its own starts, its camera, and a fault that comes at some times."""
    from robovae_envs.camera import RenderSpec, make
    from robovae_envs.faults import Faulty

    seen = make(env_id, RenderSpec.from_dict(dict(spec)))
    return seen if fault is None else Faulty(seen, fault, severity, windows=windows)
