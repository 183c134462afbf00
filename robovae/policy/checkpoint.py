"""What an interrupted training needs to go on: a directory that is renamed into place when it is whole."""

import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.save_util import load_from_zip_file

from robovae.policy.config import PolicyError
from robovae.policy.network import Actor
from robovae.policy.saving import actor_from, actor_tensors
from robovae.records import read_json, write_json
from robovae.run.directory import read_note, read_tensors, write_tensors

SB3, STATE, REPLAY, BEST = "sb3.zip", "state.json", "replay.safetensors", "best.safetensors"
ROWS = "progress.jsonl"
_REPLAYED = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


@dataclass
class Progress:
    """Where a training stands."""

    steps: int = 0
    updates: int = 0
    """As the learner counts them."""
    seconds: float = 0.0
    """Of training, over all attempts, without evaluations."""
    judged: int = 0
    """The step of the last evaluation."""
    best_step: int = 0
    """The step of the best one."""
    best_mean: float | None = None
    """Its mean return."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    """Of progress.jsonl."""


def save_checkpoint(
    where: Path, key: str, progress: Progress, learner: BaseAlgorithm, best: Actor | None
) -> None:
    """Put a checkpoint in the place of the older ones.

    Args:
        where: the policy's directory.
        key: digest of config and inputs; a checkpoint of another is refused.
        progress: where the training stands.
        learner: its weights, momenta and remembered steps.
        best: the best actor so far.
    """
    whole = where / f"checkpoint-{progress.steps}"
    if (whole / STATE).is_file():
        return
    aside = where / f".checkpoint.{os.getpid()}"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        learner.save(aside / SB3)
        if getattr(learner, "replay_buffer", None) is not None:
            _save_replay(aside / REPLAY, learner)
        if best is not None:
            like = {"activation": best.activation, "head": best.head}
            write_tensors(aside / BEST, actor_tensors(best), {"network": json.dumps(like)})
        write_json(aside / STATE, {"key": key, **asdict(progress)})
        aside.rename(whole)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    drop_checkpoints(where, but=whole)


def load_checkpoint(where: Path, key: str) -> tuple[Path, Progress] | None:
    """The newest checkpoint, None without any.

    Raises:
        PolicyError: it belongs to another config or run.
    """
    found = [(read_json(path / STATE), path) for path in where.glob("checkpoint-*")]
    whole = [(state["steps"], path, state) for state, path in found if state]
    if not whole:
        return None
    _, path, state = max(whole, key=lambda each: each[0])
    if state.pop("key") != key:
        raise PolicyError(
            f"{where}: expected a policy of this config and run, received an unfinished one of another; "
            "choose another --name, or delete it"
        )
    return path, Progress(**state)


def restore(path: Path, progress: Progress, learner: BaseAlgorithm) -> Actor | None:
    """Put a checkpoint into a fresh learner, without its pickled part; returns the best actor so far.

    Raises:
        PolicyError: its networks are of another shape.
        RunError: it is damaged.
    """
    try:
        _, weights, variables = load_from_zip_file(path / SB3, load_data=False, device=learner.device)
        learner.set_parameters(weights, device=learner.device)
        for name, value in (variables or {}).items():
            getattr(learner, name).data.copy_(value)
    except (ValueError, RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise PolicyError(f"{path}: expected a whole checkpoint, received {reason}; delete it") from error
    learner.num_timesteps, learner._n_updates = progress.steps, progress.updates
    if (path / REPLAY).is_file():
        _load_replay(path / REPLAY, learner)
    if not (path / BEST).is_file():
        return None
    like, space = json.loads(read_note(path / BEST)["network"]), learner.action_space
    return actor_from(read_tensors(path / BEST), like, space)  # type: ignore[arg-type]


def drop_checkpoints(where: Path, but: Path | None = None) -> None:
    """Delete all checkpoints but one."""
    for path in where.glob("checkpoint-*"):
        if path != but:
            shutil.rmtree(path)


def write_rows(where: Path, rows: list[dict[str, Any]]) -> None:
    """Replace progress.jsonl."""
    where.mkdir(parents=True, exist_ok=True)
    aside = where / f".{ROWS}.{os.getpid()}"
    aside.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    aside.replace(where / ROWS)


def _save_replay(path: Path, learner: Any) -> None:
    buffer = learner.replay_buffer
    filled = buffer.buffer_size if buffer.full else buffer.pos
    tensors = {name: torch.from_numpy(getattr(buffer, name)[:filled]) for name in _REPLAYED}
    write_tensors(path, tensors, {"pos": str(buffer.pos), "full": str(int(buffer.full))})


def _load_replay(path: Path, learner: Any) -> None:
    buffer, note = learner.replay_buffer, read_note(path)
    for name, tensor in read_tensors(path).items():
        getattr(buffer, name)[: len(tensor)] = tensor.numpy()
    buffer.pos, buffer.full = int(note["pos"]), note["full"] == "1"
