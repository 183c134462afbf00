"""Cells of the fault suite: episodes under one fault at one severity, beside their clean twins.

A faulted episode shares seed and actions with its twin, so that whatever differs is the fault's doing.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from robovae.collect.policies import make_policy
from robovae.config import nearest
from robovae.evaluate.codes import padded
from robovae.judge.errors import JudgeError
from robovae.judge.footage import Doubles, Footage, Frames

MakeEnv = Callable[[str | None, int], gym.Env[Any, Any]]
"""(fault, severity) -> environment whose observation is {"image", "state"}; (None, 0) is the nominal one.

Where it can, `info` tells "qpos". The seed of `reset` decides all that is random in a fault.
"""

SAME_PHYSICS = ("rendered", "sensor")
"""Kinds of faults that leave the simulation alone to the bit."""


class FaultFacts(Protocol):
    """What the judge needs to know of a fault."""

    @property
    def kind(self) -> str:
        """What it changes: "rendered", "sensor" or "timing"."""

    @property
    def split(self) -> str:
        """Who may look: "DEV" is for tuning, "TEST" for scoring only."""


@dataclass(frozen=True)
class Cell:
    """A fault at a severity."""

    fault: str
    severity: int
    """1 to 5; 0 is the identity through the same code path."""
    kind: str
    split: str

    def __str__(self) -> str:
        return f"{self.fault} {self.severity}"


@dataclass(frozen=True, eq=False)
class Faulted:
    """What the camera gave in one cell. Hold it only while scoring."""

    cell: Cell
    footage: Footage
    changed: NDArray[np.bool_]
    """(N,) which frames differ from the clean twin's: the positives, since the others show no fault."""
    psnr: float | None
    """Against the clean twin, mean over changed frames, decibels; None where none changed."""


def plan(faults: Mapping[str, FaultFacts], names: Iterable[str], severities: Sequence[int]) -> list[Cell]:
    """The cells of some faults, fault by fault.

    Raises:
        JudgeError: there is no such fault.
    """
    cells = []
    for name in names:
        if name not in faults:
            raise JudgeError(f"no fault {name!r}; {nearest(name, list(faults))}")
        facts = faults[name]
        cells += [Cell(name, severity, facts.kind, facts.split) for severity in severities]
    return cells


@dataclass
class Run:
    """One episode as it happened."""

    frames: list[Frames] = field(default_factory=list)
    positions: list[Doubles] = field(default_factory=list)
    actions: list[Any] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)

    def see(self, observation: Mapping[str, Any], info: Mapping[str, Any]) -> None:
        """Remember what the environment gave."""
        self.frames.append(np.asarray(observation["image"]))
        if "qpos" in info:
            self.positions.append(np.array(info["qpos"], np.float64))


class Twins:
    """Nominal episodes, and the same ones under any fault.

    Args:
        make_env: makes the environment of a cell.
        seeds: of the episodes.
        steps: after how many an episode is cut.
        policy: who acts in the nominal episodes, as `robovae collect` names it; twins repeat its actions.

    Raises:
        JudgeError: no seed, or no step.
    """

    def __init__(
        self, make_env: MakeEnv, seeds: Sequence[int], *, steps: int, policy: str = "random"
    ) -> None:
        if not seeds or steps < 1:
            raise JudgeError(f"expected seeds and at least 1 step, received {len(seeds)} and {steps}")
        self.make_env, self.seeds = make_env, tuple(seeds)
        env = make_env(None, 0)
        try:
            self._runs = list(play(env, self.seeds, steps, policy))
        finally:
            env.close()
        self.clean = joined(self._runs)
        """The nominal episodes."""
        for run in self._runs:
            run.frames.clear()  # the joined copy serves

    def faulted(self, cell: Cell, episodes: int | None = None) -> Faulted:
        """The twins of the first so many episodes (all if None) in a cell.

        Raises:
            JudgeError: the fault does nothing, or it touches the physics though its kind must not.
        """
        count = len(self.seeds) if episodes is None else min(episodes, len(self.seeds))
        clean = self.clean.first(count)
        frames, changed = np.empty_like(clean.frames), np.zeros(len(clean), np.bool_)
        decibels: list[Doubles] = []
        ends = np.cumsum(clean.lengths)
        env = self.make_env(cell.fault, cell.severity)
        try:
            for index in range(count):
                rows = slice(int(ends[index] - clean.lengths[index]), int(ends[index]))
                frames[rows] = self._twin(env, index, cell)
                changed[rows] = (frames[rows] != clean.frames[rows]).any(axis=(1, 2, 3))
                decibels.append(psnr(frames[rows][changed[rows]], clean.frames[rows][changed[rows]]))
        finally:
            env.close()
        _check_effect(cell, changed)
        found = float(np.concatenate(decibels).mean()) if changed.any() else None
        return Faulted(cell, Footage(frames, clean.lengths, clean.action, clean.qpos), changed, found)

    def glimpse(self, cell: Cell) -> Frames:
        """The frames of the first episode alone, (T + 1, H, W, 3), whether or not they changed."""
        env = self.make_env(cell.fault, cell.severity)
        try:
            return self._twin(env, 0, cell)
        finally:
            env.close()

    def each(self, cells: Iterable[Cell]) -> Iterator[Faulted]:
        """One cell after the other, made when it is asked for.

        Raises:
            JudgeError: see `faulted`.
        """
        for cell in cells:
            yield self.faulted(cell)

    def _twin(self, env: gym.Env[Any, Any], index: int, cell: Cell) -> Frames:
        """The frames of one faulted episode, once its physics were compared."""
        clean, seed = self._runs[index], self.seeds[index]
        twin = _roll(env, seed, len(clean.actions), lambda _, step: clean.actions[step])
        same = len(twin.actions) == len(clean.actions)
        if same and cell.kind in SAME_PHYSICS:
            same = twin.rewards == clean.rewards and np.array_equal(twin.positions, clean.positions)
        if not same:
            raise JudgeError(
                f"{cell}: expected the physics of the clean twin to the bit, received others at seed {seed}; "
                f"a {cell.kind} fault must leave the simulation alone"
            )
        return np.stack(twin.frames)


def psnr(frames: Frames, reference: Frames) -> Doubles:
    """Peak signal-to-noise ratio of each frame (B, H, W, 3), (B,) dB; infinite where nothing differs."""
    error = np.square(frames.astype(np.float32) - reference).mean(axis=(1, 2, 3), dtype=np.float64)
    with np.errstate(divide="ignore"):
        decibels: Doubles = 10.0 * np.log10(255.0**2 / error)
    return decibels


def play(env: gym.Env[Any, Any], seeds: Iterable[int], steps: int, policy: str) -> Iterator[Run]:
    """Play an episode of each seed when it is asked for, cut after `steps` steps.

    The policy is named as `robovae collect` names it.
    """
    actor = make_policy(policy, env)
    for seed in seeds:
        limit = min(steps, actor.reset(seed) or steps)
        yield _roll(env, seed, limit, lambda seen, _: actor(seen))


def _roll(
    env: gym.Env[Any, Any], seed: int, steps: int, choose: Callable[[Mapping[str, Any], int], Any]
) -> Run:
    run = Run()
    observation, info = env.reset(seed=seed)
    run.see(observation, info)
    ended = False
    while not ended and len(run.actions) < steps:
        action = choose(observation, len(run.actions))
        observation, reward, terminated, truncated, info = env.step(action)
        run.actions.append(action)
        run.rewards.append(float(reward))
        run.see(observation, info)
        ended = terminated or truncated
    return run


def joined(runs: Sequence[Run]) -> Footage:
    """Episodes one after the other."""
    lengths = np.array([len(run.frames) for run in runs])
    rows = [np.array(run.actions, np.float32).reshape(len(run.actions), -1) for run in runs]
    told = [np.stack(run.positions) for run in runs if run.positions]
    return Footage(
        np.concatenate([np.stack(run.frames) for run in runs]),
        lengths,
        padded(rows, lengths),
        np.concatenate(told) if told else None,
    )


def _check_effect(cell: Cell, changed: NDArray[np.bool_]) -> None:
    if cell.severity and not changed.any():
        raise JudgeError(
            f"{cell}: expected other pixels than the clean twin's, received the same in all {len(changed)} "
            "frames; this fault does nothing in this environment: leave it out by name"
        )
    if not cell.severity and changed.any():
        raise JudgeError(
            f"{cell}: expected the clean twin's pixels, received others in {changed.sum()} frames; "
            "severity 0 must be the identity"
        )
