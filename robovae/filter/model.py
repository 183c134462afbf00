"""The dynamics of the filter in a run directory: one file beside the model's, bound to its weights."""

from pathlib import Path

from robovae.dynamics import TemporalPrior
from robovae.monitor import fingerprint_of
from robovae.run.directory import RunModel, read_note, read_tensors, write_tensors
from robovae.uncertainty.model import NotCalibratedError

FILE = "filter.safetensors"
FORMAT = "1"
"""Version of the names in it."""


def save_dynamics(run: Path, dynamics: TemporalPrior) -> Path:
    """Write RUN/filter.safetensors."""
    path = run / FILE
    tensors = {name: value.detach().cpu().contiguous() for name, value in dynamics.state_dict().items()}
    write_tensors(path, tensors, {"format": FORMAT, "model": fingerprint_of(run / "model.safetensors")})
    return path


def load_dynamics(run: Path, model: RunModel) -> TemporalPrior:
    """Read what `save_dynamics` wrote, strictly.

    Raises:
        NotCalibratedError: there is none, or it is of another format or other weights.
        RunError: it is damaged.
    """
    path = run / FILE
    mend = f"run `robovae calibrate {run} --data DATA`"
    if not path.is_file():
        raise NotCalibratedError(f"{run}: expected a filter ({FILE}), received none; {mend}")
    tensors = read_tensors(path)
    wanted = {"format": FORMAT, "model": fingerprint_of(run / "model.safetensors")}
    bias = tensors.get("cell.bias_hh")
    hidden = 0 if bias is None else len(bias) // 3
    dynamics = TemporalPrior(model.vae.config.latent_dim, model.facts.action_dim, max(hidden, 1))
    own = {name: value.shape for name, value in dynamics.state_dict().items()}
    if read_note(path) != wanted or own != {name: value.shape for name, value in tensors.items()}:
        raise NotCalibratedError(f"{path}: expected the dynamics of these weights, received others; {mend}")
    dynamics.load_state_dict(tensors)
    dynamics.requires_grad_(False)
    return dynamics.eval()
