"""A calibrated run before the judge: what judge, battery and sanity rows need of it and of its dataset."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import gymnasium as gym
import numpy as np

from robovae.belief import Perceiver
from robovae.episodes import EpisodeStore, split_of
from robovae.errors import RobovaeError
from robovae.evaluate import ProbeConfig
from robovae.evaluate.codes import spread, spread_frames
from robovae.judge import Footage, Ground, JointReader, JudgeConfig, Subject, baselines, plan
from robovae.judge.cells import MakeEnv, joined, play
from robovae.judge.detector import Remembering
from robovae.judge.glance import Glance
from robovae.records import file_digest
from robovae.report.films import Film
from robovae.run.directory import check_data
from robovae.uncertainty import FrameMonitor

if TYPE_CHECKING:
    from robovae_envs.camera import Camera

Frames = np.ndarray[Any, np.dtype[np.uint8]]


WEIGHTS = "model.safetensors"
FILM_STEPS, FILMED_SEED = 48, 40_003
"""Length and seed of an episode that is kept as a film."""


@dataclass(frozen=True)
class Scale:
    """How much is judged."""

    judge: JudgeConfig = field(default_factory=JudgeConfig)
    """Its steps are cut to the length of the calibration episodes."""
    episodes: int = 200
    """Of test and of rare at most, to tell faults from."""
    calibration: int = 200
    """Of calibrate at most, for the limits of baselines."""
    train_frames: int = 20_000
    """Training frames at most, for baselines and the reader of joints."""
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    """Of the reader."""

    @classmethod
    def quick(cls) -> Self:
        """Minutes."""
        return cls(JudgeConfig.quick(), 20, 20, 4000, ProbeConfig(steps=1000))


class LateFault(gym.Wrapper[Any, Any, Any, Any]):
    """A fault that sets in at a random step of every episode: a freeze of its first frame would show nothing.

    Args:
        env: the camera that fails.
        fail: onset -> the same camera under the fault.
        latest: onset.
    """

    def __init__(self, env: gym.Env[Any, Any], fail: Callable[[int], gym.Env[Any, Any]], latest: int) -> None:
        super().__init__(env)
        self._fail, self._latest = fail, max(latest, 1)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Draw the onset from the seed of the episode, and begin."""
        onset = np.random.default_rng([seed or 0, 1]).integers(1, self._latest + 1)
        self.env = self._fail(int(onset))
        return self.env.reset(seed=seed, options=options)


class Trial:
    """A calibrated run and its dataset.

    Args:
        run: the run directory.
        data: its dataset, with the splits train, calibrate and test; rare, where it is there.

    Raises:
        NotCalibratedError: the run is not calibrated.
        RobovaeError: run and dataset do not fit each other, or a split is missing.
    """

    def __init__(self, run: Path, data: Path) -> None:
        self.run = run
        self.monitor = FrameMonitor.load(run)
        self.total = Perceiver.load(run, calibrated=True)
        self.raw = Perceiver(self.total.model)
        self.store = EpisodeStore(data)
        check_data(self.total.model.facts, self.store)

    @property
    def steps(self) -> int:
        """Steps of the longest calibration episode: the monitor promises nothing beyond."""
        return self.monitor.calibration.longest - 1

    @property
    def policy(self) -> str:
        """Who acted in the calibration episodes, as `robovae collect` names it."""
        return str(self.store.split("calibrate").records[0].meta.get("policy", "random"))

    @cached_property
    def step_seconds(self) -> float:
        """Seconds of a control step, as the environment says.

        Raises:
            RobovaeError: it does not.
        """
        env = self.make_env()
        try:
            rate = env.metadata.get("render_fps")
            seconds = getattr(env.unwrapped, "dt", None) or (1 / rate if rate else None)
        finally:
            env.close()
        if seconds is None:
            raise RobovaeError(
                f"{self.store.env_id}: expected `dt` or render_fps in its metadata, found none"
            )
        return float(seconds)

    def make_env(self, fault: str | None = None, severity: int = 0, onset: int = 0) -> gym.Env[Any, Any]:
        """The environment of the dataset, with its camera and starts; under a fault from a step on."""
        from robovae_envs.faults import Faulty

        seen = self._camera()
        return seen if fault is None else Faulty(seen, fault, severity, onset=onset)

    def cells(self, steps: int) -> MakeEnv:
        """What makes the same for the judge, on episodes that are cut after some steps.

        Scenes and sensors fail from the first frame on, timing later: within the first half of an episode.
        """
        from robovae_envs.faults import FAULTS, Faulty

        latest = min(self._usual, steps + 1) // 2

        def make(fault: str | None, severity: int) -> gym.Env[Any, Any]:
            if fault is None or FAULTS[fault].kind != "timing":
                return self.make_env(fault, severity)
            seen = self._camera()
            return LateFault(seen, lambda onset: Faulty(seen, fault, severity, onset=onset), latest)

        return make

    def film(self, fault: str, severity: int) -> Film:
        """An episode in which a fault sets in after a third of a usual one, for the report."""
        seed, steps = FILMED_SEED, min(FILM_STEPS, self.steps)
        onset = max(1, min(steps, self._usual) // 3)
        env = self.make_env(fault, severity, onset)
        try:
            footage = joined(list(play(env, [seed], steps, "random")))
        finally:
            env.close()
        return Film(fault, severity, footage.frames, footage.action, min(onset, len(footage) - 1))

    def faults(self) -> tuple[str, ...]:
        """Names of those that the environment can show: only MuJoCo's scenes can be drawn otherwise."""
        from robovae_envs.camera import is_mujoco
        from robovae_envs.faults import FAULTS

        env = self.make_env()
        try:
            redrawn = is_mujoco(env)
        finally:
            env.close()
        return tuple(name for name, fault in FAULTS.items() if redrawn or fault.kind != "rendered")

    def config(self, scale: Scale, faults: Sequence[str] | None = None) -> JudgeConfig:
        """The judge's, on episodes no longer than those of the calibration.

        Raises:
            JudgeError: there is no such fault.
        """
        from robovae_envs.faults import FAULTS

        plan(FAULTS, faults or (), (0,))
        steps = min(scale.judge.steps, self.steps)
        return replace(scale.judge, steps=steps, faults=tuple(faults) if faults else None)

    def subject(self, scale: Scale, ensemble: Sequence[Perceiver] = ()) -> Subject:
        """The monitor's scores, the baselines on raw beliefs, and both beliefs.

        Args:
            scale: how many training frames.
            ensemble: models of other runs, see `members`.
        """
        glance = Glance(self.monitor, self.raw)
        raw, frames = Remembering(glance), spread_frames(self.store.split("train"), scale.train_frames)
        panel = baselines(self.raw, frames, ensemble=ensemble, sees=raw)
        return Subject([glance, panel], glance.total, raw, self._reader(scale))

    def members(self, runs: Sequence[Path]) -> list[Perceiver]:
        """The models of other runs, which make an ensemble with this one; they need no calibration.

        Raises:
            RobovaeError: one is of another environment, camera or frame shape, or the same model again.
            RunError: one has no model, or one that cannot be read.
        """
        known, found = {file_digest(self.run / WEIGHTS)}, []
        for run in runs:
            member = Perceiver.load(run, calibrated=False)
            _check_alike(self.raw, member, run)
            weights = file_digest(run / WEIGHTS)
            if weights in known:
                raise RobovaeError(
                    f"{run}: expected a model that was trained apart, received the same weights again; "
                    "train one with another --seed"
                )
            known.add(weights)
            found.append(member)
        return found

    def ground(self, scale: Scale) -> Ground:
        """Nominal footage: test and, where there are some, rare episodes; and calibration ones."""
        steps = min(scale.judge.steps, self.steps)
        rare = any(split_of(seed) == "rare" for seed in self.store.seeds)
        return Ground(
            self.footage("test", scale.episodes, steps),
            self.footage("rare", scale.episodes, steps) if rare else None,
            Footage.of(self._limiting(scale.calibration), steps=steps),
        )

    def _limiting(self, episodes: int) -> EpisodeStore:
        """The last calibration episodes; the first ones set the scales of the monitor's scores."""
        store = self.store.split("calibrate")
        count = min(episodes, len(self.monitor.calibration.maxima))
        return store.select(range(len(store) - count, len(store)))

    def footage(self, split: str, episodes: int, steps: int) -> Footage:
        """The first episodes of a split, at most so many."""
        store = self.store.split(split)
        return Footage.of(store, episodes=min(episodes, len(store)), steps=steps)

    def _reader(self, scale: Scale) -> JointReader | None:
        """Reads joints off calibrated mu; None where the dataset does not describe them."""
        train = spread(self.store.split("train"), scale.train_frames)
        joints = self._meta("joints")
        if not joints or "qpos" not in train.records[0].spans:
            return None
        return JointReader(self.total, Footage.of(train), joints, scale.probe)

    @property
    def _usual(self) -> int:
        """Frames of a usual episode."""
        return int(np.median(self.store.split("calibrate").lengths))

    def _camera(self) -> "Camera":
        from robovae_envs import camera

        spec = camera.RenderSpec.from_dict(self.store.render_spec or {})
        return camera.make(self.store.env_id, spec, spread=self._meta("spread") or 0.0)

    def _meta(self, name: str) -> Any:
        return self.store.records[0].meta.get(name)


def _check_alike(own: Perceiver, other: Perceiver, run: Path) -> None:
    for name, mine, received in (
        ("environment", own.env_id, other.env_id),
        ("camera", own.render_spec, other.render_spec),
        ("frame shape", own.frame_shape, other.frame_shape),
    ):
        if mine != received:
            raise RobovaeError(
                f"{run}: expected the {name} of the ensemble's first run, {mine}, received {received}; "
                "give runs of one task"
            )
