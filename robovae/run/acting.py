"""The stages in which policies learn, and are judged with a camera that fails."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym

from robovae.config import from_mapping, to_plain
from robovae.records import digest
from robovae.run.files import CALIBRATION, MODEL, policy_files, run_digest
from robovae.run.recipe import CollectStage, Recipe
from robovae.run.stages import Stage

if TYPE_CHECKING:
    from robovae.policy import PolicyConfig

MakeEnv = Callable[[], gym.Env[Any, Any]]
OnEvent = Callable[[str, Any], None]
"""Called with the name of a stage and an event of it."""

Loop = Callable[[Path, str], Mapping[str, Any]]
"""(run, "quick" or "full") -> a JSON-able result; it knows the fault suite, `robovae` does not."""

RECORD = "stage.json"
"""Beside the files that are named as the stages are."""
TOLD = ("algo", "features", "steps", "seconds", "kept", "evaluation")
"""Of policy.json, what the record of its stage repeats."""


def policy_configs(recipe: Recipe) -> dict[str, "PolicyConfig"]:
    """The policies that a recipe asks for, by name.

    Raises:
        ConfigError: a key is unknown or refused.
        PolicyError: a name that is no part of a file name, or Stable-Baselines3 is missing.
    """
    wanted = recipe.policy_settings()
    if not wanted:
        return {}
    from robovae.policy import PolicyConfig
    from robovae.policy.saving import policy_dir

    import_module("robovae.policy.training")  # before hours of other stages: it says what is not installed
    where = {name: f"{recipe.path}: {policy_dir(Path(), name)}" for name in wanted}
    return {name: from_mapping(PolicyConfig, keys, where[name]) for name, keys in wanted.items()}


def acting_stages(
    recipe: Recipe,
    policies: Mapping[str, "PolicyConfig"],
    env_factory: Callable[[CollectStage], MakeEnv],
    loop: Loop | None,
    on_event: OnEvent,
) -> Iterator[Stage]:
    """Policies, then the closed loop, each made when its turn comes: it reads what those before it left."""
    usual = replace(recipe.collect, spread=0.0)  # a policy starts where the task starts
    in_turn = sorted(policies.items(), key=lambda each: each[1].algo == "dagger")  # after their teachers
    for name, config in in_turn:
        yield policy_stage(recipe.run, name, config, partial(env_factory, usual), on_event)
    if recipe.control is not None and loop is not None:
        yield control_stage(recipe.run, recipe.control, loop)


def policy_stage(
    run: Path, name: str, config: "PolicyConfig", env_factory: Callable[[], MakeEnv], on_event: OnEvent
) -> Stage:
    """The stage that trains a policy of a run.

    Args:
        run: a calibrated run.
        name: of the policy; "" is the run's own.
        config: how it is trained.
        env_factory: gives the picklable factory of environments with the camera of the run.
        on_event: told of progress, under the name of the policy's directory.
    """
    from robovae.policy.saving import FORMAT, inputs_of, policy_dir
    from robovae.policy.saving import RECORD as FINISHED
    from robovae.policy.training import HOW_NOT_WHAT, is_taken, train_policy

    where = policy_dir(run, name)

    def fit() -> dict[str, Any]:
        done = train_policy(run, env_factory(), config, partial(on_event, where.name), name=name)
        return {key: done[key] for key in TOLD}

    settings = to_plain(config.filled())
    return Stage(
        name=where.name,
        artefact=where,
        record=where / RECORD,
        config={key: value for key, value in settings.items() if key not in HOW_NOT_WHAT},
        inputs={"run": digest({"format": FORMAT, **inputs_of(run, config)})},
        run=fit,
        is_there=(where / FINISHED).is_file,
        is_other=lambda: is_taken(run, config, name=name),
    )


def control_stage(run: Path, scale: str, loop: Loop) -> Stage:
    """The stage that judges the policies of a run in the closed loop; episodes that were played stay."""
    folder = run / "control"
    return Stage(
        name="control",
        artefact=folder,
        record=folder / RECORD,
        config={"scale": scale},
        inputs={
            "run": run_digest(run, MODEL + CALIBRATION),
            "policies": run_digest(run, policy_files(run)),
        },
        run=lambda: loop(run, scale),
        is_there=lambda: all((folder / name).is_file() for name in ("control.json", "film.webp")),
        sets_aside=False,
    )
