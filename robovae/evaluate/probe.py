"""Is what a controller needs in mu? A small MLP reads the position of every joint off lone-frame mu."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from robovae.episodes import EpisodeStore
from robovae.evaluate.codes import Codes, Doubles, column
from robovae.evaluate.intervals import by_episode, interval, share_explained

TRAVEL = "the camera travels with the robot, and the task's own observation leaves it out"
STILL = "does not move in this data"


@dataclass(frozen=True)
class ProbeConfig:
    """How the MLP is trained; no setting of it is ever chosen on test episodes."""

    steps: int = 4000
    """Updates."""
    batch: int = 256
    """Frames in one."""
    hidden: int = 256
    """Width of both hidden layers."""
    peak_lr: float = 3e-3
    """Top of the one-cycle schedule."""
    weight_decay: float = 1e-2
    """Of AdamW."""
    seed: int = 0
    """Of weights and batches."""


@dataclass(frozen=True, eq=False)
class Target:
    """A joint to be read: its values (N, k), or why not."""

    name: str
    kind: str
    """Type of the joint: hinge, slide, ball, free."""
    values: Doubles | None
    """A hinge of more than 270 degrees is the point (cos, sin) of the circle; all else is its value."""
    skipped: str | None = None


def joint_targets(store: EpisodeStore) -> list[Target]:
    """What there is to be read off the frames of a store; nothing where it does not describe its joints."""
    record = store.records[0]
    joints: Sequence[Mapping[str, Any]] = record.meta.get("joints") or []
    if not joints or "qpos" not in record.spans:
        return []
    qpos, state = column(store, "qpos"), column(store, "state")
    tracked = bool((store.render_spec or {}).get("track"))
    targets = []
    for number, joint in enumerate(joints):
        name = joint.get("name") or f"joint {number}"
        targets.append(_target(name, joint, qpos[:, joint["qpos_index"] :], state if tracked else None))
    return targets


def _target(name: str, joint: Mapping[str, Any], qpos: Doubles, state: Doubles | None) -> Target:
    """One joint, first in the columns of `qpos`; `state`: the task's own state, if the camera travels."""
    kind = joint["type"]
    if kind == "free":  # x and y are travel, but height and attitude are seen
        values = qpos[:, 2:7] if state is not None else qpos[:, :7]
    elif kind == "ball":
        values = qpos[:, :4]
    elif kind == "hinge" and _goes_round(joint):
        values = np.stack([np.cos(qpos[:, 0]), np.sin(qpos[:, 0])], axis=1)
    else:
        values = qpos[:, :1]
        if kind == "slide" and not joint["limited"] and state is not None and not _holds(state, values):
            return Target(name, kind, None, TRAVEL)
    if float(values.std(axis=0).max()) < 1e-6:
        return Target(name, kind, None, STILL)
    return Target(name, kind, values)


def _goes_round(joint: Mapping[str, Any]) -> bool:
    """Whether both ends of a hinge look nearly alike: the elbow of Reacher lacks 16 degrees to a circle."""
    low, high = joint["range"] or (0.0, 0.0)
    return not joint["limited"] or high - low > 1.5 * np.pi


def _holds(state: Doubles, values: Doubles) -> bool:
    """Whether a column of `state` is `values` (N, 1), up to float32."""
    return bool(np.isclose(state, values, rtol=1e-5, atol=1e-6).all(axis=0).any())


class Probe:
    """An MLP from codes (N, D) to values (N, k), with the scale of its training data inside."""

    def __init__(self, codes: NDArray[Any], values: NDArray[Any], config: ProbeConfig) -> None:
        x, y = torch.from_numpy(np.float32(codes)), torch.from_numpy(np.float32(values))
        self._shift, self._scale = x.mean(0), x.std(0) + 1e-6
        self._mean, self._std = y.mean(0), y.std(0) + 1e-9
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            self._net = _mlp(x.shape[1], config.hidden, y.shape[1])
        self._fit(x, (y - self._mean) / self._std, config)

    def _fit(self, x: Tensor, y: Tensor, config: ProbeConfig) -> None:
        optimiser = torch.optim.AdamW(self._net.parameters(), 1e-3, weight_decay=config.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.peak_lr, total_steps=config.steps)
        generator = torch.Generator().manual_seed(config.seed)
        x = (x - self._shift) / self._scale
        for _ in range(config.steps):
            rows = torch.randint(len(x), (config.batch,), generator=generator)
            loss = functional.mse_loss(self._net(x[rows]), y[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()

    @torch.no_grad()
    def __call__(self, codes: NDArray[Any]) -> Doubles:
        """Codes (N, D) -> values (N, k)."""
        x = (torch.from_numpy(np.float32(codes)) - self._shift) / self._scale
        values: Doubles = (self._net(x) * self._std + self._mean).double().numpy()
        return values


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden),
        nn.SiLU(),
        nn.Linear(hidden, hidden),
        nn.SiLU(),
        nn.Linear(hidden, outputs),
    )


def probe_table(
    train: Codes, test: Codes, targets: Sequence[Target], held_out: Sequence[Target], config: ProbeConfig
) -> list[dict[str, Any]]:
    """R² of every joint on test episodes, by one MLP for all.

    Args:
        train: codes to fit on.
        test: codes to score on, of other episodes.
        targets: of the training episodes.
        held_out: of the test episodes, the same joints.
        config: of the MLP.

    Returns:
        A row a joint: name, kind, r2 with its 95 % interval by episode (low, high); or name, kind, skipped.
        r2 is 1 - squared error / variation about the mean, over all columns of the joint together, so that
        a hinge of more than 270 degrees is scored as a point of the circle.
    """
    pairs = [(a, b) for a, b in zip(targets, held_out, strict=True) if a.values is not None]
    read: dict[str, Doubles] = {}
    if pairs:
        probe = Probe(
            train.mu, np.concatenate([a.values for a, _ in pairs if a.values is not None], 1), config
        )
        ends = np.cumsum([a.values.shape[1] for a, _ in pairs if a.values is not None])
        read = dict(zip((a.name for a, _ in pairs), np.split(probe(test.mu), ends[:-1], axis=1), strict=True))
    return [_row(a, b, read.get(a.name), test.lengths) for a, b in zip(targets, held_out, strict=True)]


def _row(train: Target, test: Target, read: Doubles | None, lengths: NDArray[np.int64]) -> dict[str, Any]:
    row: dict[str, Any] = {"name": train.name, "kind": train.kind}
    if read is None or test.values is None:
        return {**row, "skipped": train.skipped or test.skipped}
    error = np.square(read - test.values).sum(axis=1)
    variation = np.square(test.values - test.values.mean(axis=0)).sum(axis=1)
    sums = by_episode(np.stack([error, variation], axis=1), lengths)
    low, high = interval(sums, share_explained)
    return {**row, "r2": float(1 - error.sum() / variation.sum()), "low": low, "high": high}
