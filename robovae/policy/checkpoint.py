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
from robovae.records import read_json, sync, write_json, write_lines
from robovae.run.directory import RunError, read_note, read_tensors, write_tensors

SB3, STATE, REPLAY, BEST = "sb3.zip", "state.json", "replay.safetensors", "best.safetensors"
ROWS = "progress.jsonl"
_ASIDE = ".checkpoint."
"""Before the process id of who writes a checkpoint."""
_SEEN = ("observations", "next_observations")
_DONE = ("actions", "rewards", "dones", "timeouts")


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
    aside = where / f"{_ASIDE}{os.getpid()}"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        learner.save(aside / SB3)
        sync(aside / SB3)
        if getattr(learner, "replay_buffer", None) is not None:
            _save_replay(aside / REPLAY, learner)
        if best is not None:
            like = {"activation": best.activation, "head": best.head}
            write_tensors(aside / BEST, actor_tensors(best), {"network": json.dumps(like)})
        write_json(aside / STATE, {"key": key, **asdict(progress)})
        sync(aside)
        aside.rename(whole)
        sync(where)  # only then may the older ones go
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    drop_checkpoints(where, but=whole)


def load_checkpoint(where: Path, key: str) -> tuple[Path, Progress] | None:
    """The newest checkpoint, None without any.

    Raises:
        PolicyError: it belongs to another config or run.
    """
    found = _newest(where)
    if found is None:
        return None
    path, state = found
    if state.pop("key") != key:
        raise PolicyError(
            f"{where}: expected a policy of this config and run, received an unfinished one of another; "
            "choose another --name, or delete it"
        )
    return path, Progress(**state)


def checkpoint_key(where: Path) -> str | None:
    """Whose the newest checkpoint is, as `save_checkpoint` was told; None without any."""
    found = _newest(where)
    return None if found is None else found[1]["key"]


def restore(path: Path, progress: Progress, learner: BaseAlgorithm) -> Actor | None:
    """Put a checkpoint into a fresh learner, without its pickled part; returns the best actor so far.

    Raises:
        PolicyError: it is damaged, or its networks are of another shape.
    """
    learner.num_timesteps, learner._n_updates = progress.steps, progress.updates
    try:
        _load_weights(path / SB3, learner)
        if (path / REPLAY).is_file():
            _load_replay(path / REPLAY, learner)
        return _load_best(path / BEST, learner) if (path / BEST).is_file() else None
    except (KeyError, ValueError, RuntimeError, OSError, RunError) as error:
        cause = error.__cause__ if isinstance(error, RunError) else None
        reason = str(cause or error).splitlines()[0]
        raise PolicyError(f"{path}: expected a whole checkpoint, received {reason}; delete it") from error


def drop_checkpoints(where: Path, but: Path | None = None) -> None:
    """Delete all checkpoints but one, and what killed attempts left half written."""
    for path in where.glob("checkpoint-*"):
        if path != but:
            shutil.rmtree(path)
    for aside in where.glob(f"{_ASIDE}*"):
        if not _is_alive(aside.name.removeprefix(_ASIDE)):
            shutil.rmtree(aside, ignore_errors=True)


def write_rows(where: Path, rows: list[dict[str, Any]]) -> None:
    """Replace progress.jsonl."""
    write_lines(where / ROWS, rows)


def _newest(where: Path) -> tuple[Path, dict[str, Any]] | None:
    found = [(path, read_json(path / STATE)) for path in where.glob("checkpoint-*")]
    whole = [(path, state) for path, state in found if state]
    return max(whole, key=lambda each: int(each[1]["steps"]), default=None)


def _is_alive(pid: str) -> bool:
    """Whether another process of this number lives; one's own has nothing under way here."""
    if not pid.isdecimal():
        return True  # not of ours
    if int(pid) == os.getpid():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _load_weights(path: Path, learner: Any) -> None:
    _, weights, variables = load_from_zip_file(path, load_data=False, device=learner.device)
    learner.set_parameters(weights, device=learner.device)
    for name, value in (variables or {}).items():
        getattr(learner, name).data.copy_(value)


def _load_best(path: Path, learner: Any) -> Actor:
    like = json.loads(read_note(path)["network"])
    return actor_from(read_tensors(path), like, learner.action_space)


def _save_replay(path: Path, learner: Any) -> None:
    buffer = learner.replay_buffer
    filled = buffer.buffer_size if buffer.full else buffer.pos
    tensors = {name: torch.from_numpy(rows[:filled]) for name, rows in _remembered(buffer).items()}
    write_tensors(path, tensors, {"pos": str(buffer.pos), "full": str(int(buffer.full))})


def _load_replay(path: Path, learner: Any) -> None:
    buffer, note, tensors = learner.replay_buffer, read_note(path), read_tensors(path)
    for name, rows in _remembered(buffer).items():
        rows[: len(tensors[name])] = tensors[name].numpy()
    buffer.pos, buffer.full = int(note["pos"]), note["full"] == "1"


def _remembered(buffer: Any) -> dict[str, Any]:
    """The arrays of a replay buffer by name, those of a Dict observation one by one."""
    found = {name: getattr(buffer, name) for name in _DONE}
    for name in _SEEN:
        rows = getattr(buffer, name)
        parts = rows if isinstance(rows, dict) else {"": rows}
        found |= {f"{name}.{key}" if key else name: part for key, part in parts.items()}
    return found
