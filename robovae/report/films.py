"""Films of faults: episodes that `robovae evaluate` keeps so that the report can show them, without pickle.

One safetensors file holds `<fault>/<severity>/frames` (T, H, W, 3) uint8, `.../action` (T, A) float32 and
`.../onset` (1,) int64 of every film.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from robovae.errors import RobovaeError
from robovae.records import write_bytes
from robovae.report.pictures import Image

_MEND = "run `robovae evaluate` again"
_PARTS = ("frames", "action", "onset")


class FilmError(RobovaeError):
    """A film whose parts do not fit each other, or a file that holds none."""


@dataclass(frozen=True, eq=False, repr=False)
class Film:
    """One episode in which a fault sets in.

    Raises:
        FilmError: the parts do not fit each other.
    """

    fault: str
    """Its name, without "/"."""
    severity: int
    """1 to 5."""
    frames: Image
    """(T, H, W, 3), what the camera gave."""
    action: NDArray[np.float32]
    """(T, A); action[t] leads from frame t to the next, the last row is not used."""
    onset: int
    """First step of the fault."""

    def __post_init__(self) -> None:
        shape, steps = self.frames.shape, len(self.frames)
        if len(shape) != 4 or shape[3] != 3 or self.frames.dtype != np.uint8 or not steps:
            raise FilmError(
                f"{self}: expected frames (T, H, W, 3) uint8, received {shape} {self.frames.dtype}; {_MEND}"
            )
        if self.action.ndim != 2 or len(self.action) != steps or not 0 <= self.onset < steps:
            raise FilmError(
                f"{self}: expected {steps} rows of actions and an onset below that, received the shape "
                f"{self.action.shape} and {self.onset}; {_MEND}"
            )

    def __str__(self) -> str:
        return f"{self.fault} {self.severity}"

    def __repr__(self) -> str:
        return f"Film({self}, frames {self.frames.shape})"

    @classmethod
    def _of(cls, name: str, parts: dict[str, NDArray[Any]]) -> Self:
        fault, _, severity = name.rpartition("/")
        if not fault or not severity.isdecimal() or set(parts) != set(_PARTS) or parts["onset"].size != 1:
            raise FilmError(f"{name}: expected <fault>/<severity> with {', '.join(_PARTS)}; {_MEND}")
        action = parts["action"].astype(np.float32)
        return cls(fault, int(severity), parts["frames"], action, int(parts["onset"].item()))


def save_films(path: Path, films: Sequence[Film]) -> Path:
    """Write films to one file, whole or not at all; the directory is made.

    Returns:
        `path`.

    Raises:
        FilmError: two films are of one fault and severity.
        OSError: the disk is full or not writable.
    """
    tensors: dict[str, NDArray[Any]] = {}
    for film in films:
        name = f"{film.fault}/{film.severity}"
        if f"{name}/onset" in tensors:
            raise FilmError(f"{film}: expected one film of it, received two; keep one")
        tensors[f"{name}/frames"] = np.ascontiguousarray(film.frames)
        tensors[f"{name}/action"] = np.ascontiguousarray(film.action, np.float32)
        tensors[f"{name}/onset"] = np.array([film.onset], np.int64)
    return write_bytes(path, save(tensors))


def load_films(path: Path) -> list[Film]:
    """The films that `save_films` wrote, by fault and severity; none where there is no file.

    Raises:
        FilmError: the file is damaged or holds something else.
    """
    try:
        tensors = load(path.read_bytes())
    except FileNotFoundError:
        return []
    except SafetensorError as error:
        raise FilmError(f"{path}: expected films, received a damaged file ({error}); {_MEND}") from error
    found: dict[str, dict[str, NDArray[Any]]] = {}
    for key, tensor in tensors.items():
        name, _, part = key.rpartition("/")
        found.setdefault(name, {})[part] = tensor
    return [Film._of(name, found[name]) for name in sorted(found)]
