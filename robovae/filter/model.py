"""The dynamics of the filter in a run directory: one file beside the model's, bound to its weights.

The belief filter predicts with them, and so do the temporal scores of the monitor.
"""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from robovae.dynamics import FilterDynamics
from robovae.run.directory import RunModel
from robovae.uncertainty.part import Part

FILE = "filter.safetensors"
FORM = "4"
"""Version of the names in it."""
_PART = Part(FILE, FORM, "a filter", "the dynamics of these weights, received others")


def save_dynamics(run: Path, dynamics: FilterDynamics) -> Path:
    """Write RUN/filter.safetensors."""
    return _PART.save(run, dynamics)


def load_dynamics(run: Path, model: RunModel) -> FilterDynamics:
    """Read what `save_dynamics` wrote, strictly.

    Raises:
        NotCalibratedError: there is none, or it is of another format or other weights.
        RunError: it is damaged.
    """

    def build(tensors: Mapping[str, Tensor]) -> FilterDynamics:
        bias = tensors.get("cell.bias_hh")
        hidden = 0 if bias is None else len(bias) // 3
        return FilterDynamics(model.vae.config.latent_dim, model.facts.action_dim, max(hidden, 1))

    return _PART.load(run, build)
