"""The model in a run directory: `config.json` that a person can read, `model.safetensors` beside it."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from robovae.config import from_mapping
from robovae.dynamics import TemporalPrior
from robovae.episodes import EpisodeStore
from robovae.errors import RobovaeError
from robovae.records import read_json, write_json
from robovae.vae import VAE, ModelConfig

FORMAT = 1
"""Version of config.json and of the names in model.safetensors."""


class RunError(RobovaeError):
    """A run directory is missing, damaged, or of another version."""


@dataclass(frozen=True)
class RunFacts:
    """What a model was trained on, and must be shown again.

    Raises:
        RunError: the frame shape is not (H, W, 3), or actions have no size.
    """

    frame_shape: tuple[int, int, int]
    """(H, W, 3)."""
    action_dim: int
    """A."""
    env_id: str
    """The environment of the training data."""
    render_spec: dict[str, Any] | None
    """How its frames were rendered."""

    def __post_init__(self) -> None:
        if len(self.frame_shape) != 3 or self.frame_shape[2] != 3 or min(self.frame_shape) < 1:
            raise RunError(f"frame_shape: expected (H, W, 3), received {self.frame_shape}")
        if self.action_dim < 0:
            raise RunError(f"action_dim: expected 0 or more, received {self.action_dim}")


def check_data(facts: RunFacts, store: EpisodeStore) -> None:
    """See that episodes come from where a model learnt.

    Raises:
        RunError: another environment or another camera.
    """
    for name, own, other in (
        ("environment", facts.env_id, store.env_id),
        ("camera", facts.render_spec, store.render_spec),
    ):
        if own != other:
            raise RunError(
                f"{store.path}: expected the {name} of the run, {own}, received {other}; "
                "give the dataset that the run was trained on"
            )


@dataclass(frozen=True, eq=False)
class RunModel:
    """A trained model and what it was trained on."""

    vae: VAE
    dynamics: TemporalPrior
    facts: RunFacts


def build_model(config: ModelConfig, facts: RunFacts) -> RunModel:
    """Fresh networks for the frames and actions in `facts`.

    Raises:
        ModelError: the frame cannot be parted into cells.
    """
    dynamics = TemporalPrior(config.latent_dim, facts.action_dim, config.dynamics_hidden)
    return RunModel(VAE(config, facts.frame_shape), dynamics, facts)


def model_tensors(model: RunModel) -> dict[str, torch.Tensor]:
    """All weights and buffers by name, ready for a file."""
    both = {"vae": model.vae, "dynamics": model.dynamics}
    return {
        f"{part}.{name}": tensor.detach().cpu().contiguous()
        for part, module in both.items()
        for name, tensor in module.state_dict().items()
    }


def set_model_tensors(model: RunModel, tensors: dict[str, torch.Tensor], where: Path) -> None:
    """Put tensors by name into a model.

    Raises:
        RunError: a name, a shape or a type differs, or a number is not finite.
    """
    expected = model_tensors(model)
    if unlike := sorted(expected.keys() ^ tensors.keys()):
        which = "received none" if unlike[0] in expected else "received one that it does not have"
        raise RunError(f"{where}: expected the weights of its config, {which}: {unlike[0]}")
    for name, like in expected.items():
        given = tensors[name]
        if (given.shape, given.dtype) != (like.shape, like.dtype):
            raise RunError(
                f"{where}: expected {name} of {tuple(like.shape)} {like.dtype}, received "
                f"{tuple(given.shape)} {given.dtype}"
            )
        if not torch.isfinite(given).all():
            raise RunError(f"{where}: expected finite weights, received NaN or inf in {name}; train again")
    for part, module in {"vae": model.vae, "dynamics": model.dynamics}.items():
        own = {name.removeprefix(f"{part}."): t for name, t in tensors.items() if name.startswith(f"{part}.")}
        module.load_state_dict(own)


def save_model(run: Path, model: RunModel) -> None:
    """Write config.json and model.safetensors, each whole or not at all."""
    run.mkdir(parents=True, exist_ok=True)
    write_tensors(run / "model.safetensors", model_tensors(model))
    config = {"format": FORMAT, "model": asdict(model.vae.config), **asdict(model.facts)}
    write_json(run / "config.json", config)


def load_model(run: Path) -> RunModel:
    """Read what `save_model` wrote, strictly.

    Raises:
        RunError: the directory has no model, another format, or weights that do not fit.
        ConfigError: a key in config.json is unknown.
    """
    config = read_json(run / "config.json")
    if config is None:
        raise RunError(
            f"{run}: expected a trained run (config.json), received none to be read; run `robovae train`"
        )
    if config.pop("format", None) != FORMAT:
        raise RunError(f"{run / 'config.json'}: expected format {FORMAT}, received another; train again")
    where = str(run / "config.json")
    sizes = from_mapping(ModelConfig, config.pop("model", {}), f"{where}: model")
    model = build_model(sizes, from_mapping(RunFacts, config, where))
    set_model_tensors(model, read_tensors(run / "model.safetensors"), run / "model.safetensors")
    model.vae.eval()
    model.dynamics.eval()
    return model


def write_tensors(path: Path, tensors: dict[str, torch.Tensor], note: dict[str, str] | None = None) -> None:
    """Write a safetensors file aside, sync it, and rename it into place; same content, same bytes."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save_file(tensors, aside, metadata=note)
        with aside.open("r+b") as file:
            _order_note(file)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except (OSError, SafetensorError) as error:
        aside.unlink(missing_ok=True)
        raise RunError(f"{path}: cannot be written ({error}); free space or choose another --out") from error


def _order_note(file: BinaryIO) -> None:
    """Sort the keys of the note: safetensors writes them in an order that is drawn anew each time."""
    size = int.from_bytes(file.read(8), "little")
    header = json.loads(file.read(size))
    if note := header.get("__metadata__"):
        text = json.dumps(
            {**header, "__metadata__": dict(sorted(note.items()))}, ensure_ascii=False, separators=(",", ":")
        )
        file.seek(8)
        file.write(text.encode().ljust(size))


def read_note(path: Path, mend: str = "train again") -> dict[str, str]:
    """The note that `write_tensors` put into a file; empty without one.

    Args:
        path: the file.
        mend: what helps if it is damaged.

    Raises:
        RunError: the file is missing or damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            note: dict[str, str] = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise RunError(f"{path}: expected whole weights, received {error}; {mend}") from error
    return note


def read_tensors(path: Path, mend: str = "train again") -> dict[str, torch.Tensor]:
    """Read a safetensors file.

    Args:
        path: the file.
        mend: what helps if it is damaged.

    Raises:
        RunError: it is missing or damaged.
    """
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise RunError(f"{path}: expected whole weights, received {error}; {mend}") from error
