"""Everything an interrupted run needs to go on to the same weights: one safetensors file, replaced whole."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robovae.run.directory import (
    RunModel,
    model_tensors,
    read_note,
    read_tensors,
    set_model_tensors,
    write_tensors,
)
from robovae.train.config import TrainError

Tensors = dict[str, Tensor]


_BESIDE = "beside"


def _beside(objective: nn.Module) -> Tensors:
    """What an objective trains that is no part of the model."""
    own = ("model.", "dynamics.")
    return {name: value for name, value in objective.named_parameters() if not name.startswith(own)}


@dataclass
class Progress:
    """Where a run stands. Randomness is a function of the step, so none is kept here."""

    phase: str = "local"
    step: int = 0
    """Updates done in this phase."""
    judged: int = 0
    """The update after which held-out episodes were last looked at."""
    best_elbo: float | None = None
    """Of this phase, on held-out episodes."""
    stale: int = 0
    """Evaluations since the best one."""
    seconds: float = 0.0
    """Of training, over all attempts."""
    frames: int = 0
    """Frames seen in this phase."""
    first_ev: dict[str, float] = field(default_factory=dict)
    """Seconds until the held-out EV first passed a level."""


def save_checkpoint(
    path: Path,
    key: str,
    progress: Progress,
    model: RunModel,
    objective: nn.Module,
    optimizer: torch.optim.Optimizer,
    best: Tensors,
) -> None:
    """Replace the checkpoint.

    Args:
        path: the file.
        key: digest of config and data; a checkpoint of another is refused.
        progress: where the run stands.
        model: its weights.
        objective: of the phase; what it trains beside the model is kept too.
        optimizer: its momenta.
        best: the best weights of the phase so far, by name.
    """
    tensors = model_tensors(model) | {f"best.{name}": tensor for name, tensor in best.items()}
    tensors |= {f"{_BESIDE}.{name}": value.detach().cpu() for name, value in _beside(objective).items()}
    for index, state in optimizer.state_dict()["state"].items():
        slots = {name: torch.as_tensor(value).cpu().contiguous() for name, value in state.items()}
        tensors |= {f"optimizer.{index}.{name}": value for name, value in slots.items()}
    write_tensors(path, tensors, {"key": key, "progress": json.dumps(vars(progress))})


def load_checkpoint(path: Path, key: str) -> tuple[Progress, Tensors] | None:
    """Read a checkpoint; None if there is none.

    Raises:
        TrainError: it belongs to another config or other data.
        RunError: it is damaged.
    """
    if not path.is_file():
        return None
    mend = "delete it and train again"
    tensors, note = read_tensors(path, mend), read_note(path, mend)
    if note.get("key") != key:
        raise TrainError(
            f"{path.parent}: expected a run of this config and data, received an unfinished one of another; "
            "choose another --out, or delete it"
        )
    return Progress(**json.loads(note["progress"])), tensors


def restore(
    tensors: Tensors, where: Path, model: RunModel, objective: nn.Module, optimizer: torch.optim.Optimizer
) -> Tensors:
    """Put a checkpoint's tensors in their places; returns the best weights."""
    with torch.no_grad():
        for name, value in _beside(objective).items():
            value.copy_(tensors[f"{_BESIDE}.{name}"])
    set_model_tensors(
        model, {n: t for n, t in tensors.items() if n.split(".")[0] in ("vae", "dynamics")}, where
    )
    trained = optimizer.param_groups[0]["params"]
    state: dict[int, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        if part == "optimizer":
            index, _, slot = rest.partition(".")
            # As the weight lies in memory: sums over another layout would round differently.
            like = trained[int(index)]
            laid = torch.empty_like(like).copy_(tensor) if tensor.shape == like.shape else tensor
            state.setdefault(int(index), {})[slot] = laid.detach()
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return {name.removeprefix("best."): t for name, t in tensors.items() if name.startswith("best.")}
