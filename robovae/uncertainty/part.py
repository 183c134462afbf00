"""Part: a module that calibration adds to a run, in a file of its own that is bound to the run's weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from torch import Size, Tensor, nn

from robovae.errors import RobovaeError
from robovae.monitor import fingerprint_of
from robovae.run.directory import read_note, read_tensors, write_tensors

M = TypeVar("M", bound=nn.Module)


class NotCalibratedError(RobovaeError):
    """A run has no calibration yet, or one of other weights."""


@dataclass(frozen=True)
class Part:
    """Where such a module lies, and what errors call it."""

    file: str
    """Its name in the run directory."""
    form: str
    """Version of the names in it."""
    whole: str
    """What is expected where there is none: "a filter"."""
    other: str
    """What is expected where there is one of other weights: "the dynamics of these weights"."""

    def save(self, run: Path, module: nn.Module) -> Path:
        """Write the module's weights into a run."""
        path = run / self.file
        tensors = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
        write_tensors(path, tensors, self._note(run))
        return path

    def load(self, run: Path, build: Callable[[Mapping[str, Tensor]], M]) -> M:
        """Read what `save` wrote, strictly, into the module that `build` makes for such weights.

        Raises:
            NotCalibratedError: there is none, or it is of another format or other weights.
            RunError: it is damaged.
        """
        path, mend = run / self.file, f"run `robovae calibrate {run} --data DATA`"
        if not path.is_file():
            raise NotCalibratedError(f"{run}: expected {self.whole} ({self.file}), received none; {mend}")
        tensors, note = read_tensors(path, mend), read_note(path, mend)
        if (form := note.get("format", "none")) != self.form:
            raise NotCalibratedError(f"{path}: expected format {self.form}, received {form}; {mend}")
        module = build(tensors)
        if note != self._note(run) or _shapes(module.state_dict()) != _shapes(tensors):
            raise NotCalibratedError(f"{path}: expected {self.other}; {mend}")
        module.load_state_dict(tensors)
        module.requires_grad_(False)
        return module.eval()

    def _note(self, run: Path) -> dict[str, str]:
        return {"format": self.form, "model": fingerprint_of(run / "model.safetensors")}


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}
