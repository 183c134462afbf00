"""Recipes and run directories: which stages there are, what is finished, and where results come from."""

from robovae.run.acting import Loop, control_stage, policy_stage
from robovae.run.files import dataset_digest
from robovae.run.pipeline import (
    Judge,
    Listeners,
    calibrate_stage,
    collect_stage,
    report_stage,
    run_recipe,
    train_stage,
)
from robovae.run.recipe import CollectStage, Recipe, load_recipe, parse_size
from robovae.run.stages import Stage, StageEvent, run_stage

__all__ = [
    "CollectStage",
    "Judge",
    "Listeners",
    "Loop",
    "Recipe",
    "Stage",
    "StageEvent",
    "calibrate_stage",
    "collect_stage",
    "control_stage",
    "dataset_digest",
    "load_recipe",
    "parse_size",
    "policy_stage",
    "report_stage",
    "run_recipe",
    "run_stage",
    "train_stage",
]
