"""What an episode is, which split its seed puts it in, and every check on its arrays."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robovae.errors import RobovaeError

SPLITS: dict[str, tuple[int, int]] = {
    "train": (0, 10_000),
    "calibrate": (10_000, 20_000),
    "test": (20_000, 30_000),
    "rare": (30_000, 40_000),
    "fault": (40_000, 50_000),
}
"""Seeds of each split, first and one past the last; seeds from `MORE_TRAIN` on are train as well."""
MORE_TRAIN = 100_000
RESERVED = "reserved"
"""What `split_of` calls seeds between the fault split and `MORE_TRAIN`: in no split."""

ARRAYS = ("image", "state", "action", "reward", "terminated", "truncated")
"""The arrays every episode has; all others are extra."""
DTYPES = frozenset(["bool", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"])
_FLOATS = ("f4", "f8")
_ALLOWED = {
    "image": ("u1",),
    "state": _FLOATS,
    "action": ("f4",),
    "reward": ("f4",),
    "terminated": ("bool",),
    "truncated": ("bool",),
}
_NDIM = {"image": 4, "state": 2, "action": 2, "reward": 1, "terminated": 1, "truncated": 1}
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")

Signature = Mapping[str, tuple[str, tuple[int, ...]]]
"""Name -> (dtype code such as "f4", shape) of the arrays of one episode."""


class EpisodeError(RobovaeError):
    """An episode, or a directory of episodes, that is missing, damaged or not what it should be."""


def split_of(seed: int) -> str:
    """Name the split that an episode's seed belongs to.

    Raises:
        EpisodeError: if the seed is negative.
    """
    if seed < 0:
        raise EpisodeError(f"expected a seed >= 0, received {seed}; choose another seed")
    if seed >= MORE_TRAIN:
        return "train"
    return next((name for name, (first, end) in SPLITS.items() if first <= seed < end), RESERVED)


def dtype_code(dtype: np.dtype[Any]) -> str:
    """Short code of a dtype, the same on every machine: "bool", "u1", "f4"..."""
    return "bool" if dtype == np.bool_ else f"{dtype.kind}{dtype.itemsize}"


def check_signature(signature: Signature) -> int:
    """Check names, dtypes and shapes of an episode's arrays against each other.

    Returns:
        The number of steps T.

    Raises:
        EpisodeError: naming the array, what was expected and what was received.
    """
    for name in ARRAYS:
        if name not in signature:
            raise EpisodeError(f"expected an array {name!r}, received {sorted(signature)}")
        code, shape = signature[name]
        if code not in _ALLOWED[name]:
            raise EpisodeError(f"{name}: expected dtype {' or '.join(_ALLOWED[name])}, received {code}")
        if len(shape) != _NDIM[name]:
            raise EpisodeError(f"{name}: expected {_NDIM[name]} dimensions, received shape {shape}")
    _check_frames(signature["image"][1])
    steps = signature["image"][1][0] - 1
    for name, (code, shape) in signature.items():
        _check_length(name, code, shape, steps)
    return steps


def _check_frames(shape: tuple[int, ...]) -> None:
    if shape[0] < 2 or min(shape[1:]) < 1 or shape[3] != 3:
        raise EpisodeError(f"image: expected (T+1, H, W, 3) with T >= 1, received shape {shape}")


def _check_length(name: str, code: str, shape: tuple[int, ...], steps: int) -> None:
    if not _NAME.fullmatch(name):
        raise EpisodeError(f"expected array names of letters, digits and _, received {name!r}")
    if code not in DTYPES:
        raise EpisodeError(f"{name}: expected a bool, integer or float dtype, received {code}")
    allowed: tuple[int, ...] = (steps,) if name in ARRAYS else (steps, steps + 1)
    if name in ("image", "state"):
        allowed = (steps + 1,)
    if not shape or shape[0] not in allowed:
        expected = " or ".join(map(str, allowed))
        raise EpisodeError(f"{name}: expected length {expected} beside {steps} steps, received shape {shape}")


@dataclass(frozen=True, eq=False)
class Episode:
    """One rollout of T steps; arrays may be read-only views on a file.

    Raises:
        EpisodeError: on construction, if shapes, dtypes or `meta` are not as described.
    """

    image: NDArray[np.uint8]
    """(T+1, H, W, 3) frames, the first one from `reset`."""
    state: NDArray[np.floating[Any]]
    """(T+1, S) float32 or float64, the environment's own observation."""
    action: NDArray[np.float32]
    """(T, A); action[t] leads from image[t] to image[t + 1]."""
    reward: NDArray[np.float32]
    """(T,)."""
    terminated: NDArray[np.bool_]
    """(T,)."""
    truncated: NDArray[np.bool_]
    """(T,)."""
    extra: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """More arrays of length T or T+1, for example qpos and qvel."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """JSON-able; "seed" and "env_id" are required, "render_spec", "joints", "policy", "versions" usual."""

    def __post_init__(self) -> None:
        if clash := set(self.extra) & set(ARRAYS):
            raise EpisodeError(
                f"extra: expected names other than the episode's own, received {sorted(clash)}"
            )
        check_signature(self.signature())
        check_meta(self.meta)

    def __len__(self) -> int:
        return len(self.reward)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in self.arrays().items())
        return f"Episode(seed {self.seed}, {self.meta['env_id']}, {shapes})"

    @property
    def seed(self) -> int:
        """The seed the episode was reset with."""
        return int(self.meta["seed"])

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All arrays by name, extra ones last."""
        return {name: getattr(self, name) for name in ARRAYS} | dict(self.extra)

    def signature(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Dtype code and shape of every array."""
        return {name: (dtype_code(array.dtype), array.shape) for name, array in self.arrays().items()}


def check_meta(meta: Mapping[str, Any]) -> None:
    """Check what every episode's metadata must hold.

    Raises:
        EpisodeError: if the seed or the environment's id is missing or of another type.
    """
    seed, env_id = meta.get("seed"), meta.get("env_id")
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise EpisodeError(f"meta: expected an integer 'seed' >= 0, received {seed!r}")
    if not isinstance(env_id, str) or not env_id:
        raise EpisodeError(f"meta: expected the environment's id as 'env_id', received {env_id!r}")


def find_nonfinite(episode: Episode) -> str | None:
    """Say where an episode first holds NaN or infinity ("reward at step 3"), or None."""
    for name, array in episode.arrays().items():
        if array.dtype.kind != "f":
            continue
        finite = np.isfinite(array).reshape(len(array), -1).all(axis=1)
        if not finite.all():
            unit = "frame" if len(array) == len(episode) + 1 else "step"
            return f"{name} at {unit} {int(np.argmin(finite))}"
    return None
