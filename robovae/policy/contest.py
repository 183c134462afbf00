"""The arms of a comparison of policies: the same training on beliefs, the true state, and rivals' codes.

Policies of a run are kept as RUN/policy-ARM-sSEED. Rivals have directories of their own (RUN/rivals/pca,
RUN/rivals/random-sSEED, RUN/ae), so that nobody takes their policies for ones that act on the run's beliefs.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robovae import provenance
from robovae.config import to_plain
from robovae.episodes import EpisodeStore
from robovae.episodes.episode import split_of
from robovae.evaluate.codes import spread_frames
from robovae.policy.clock import camera_speed, pixel_speed, recorded
from robovae.policy.config import OnPolicy, PolicyConfig, PolicyError
from robovae.policy.curves import Trained
from robovae.policy.network import Floats
from robovae.policy.rivals import MakeEnv, Pca, coded, untrained
from robovae.policy.saving import policy_dir, read_record
from robovae.policy.senses import StateSense, play, state_env
from robovae.policy.session import TEST_SEED
from robovae.policy.targets import BELIEFS
from robovae.policy.training import train_policy
from robovae.records import file_digest
from robovae.run import Stage, dataset_digest, run_stage
from robovae.run.directory import check_data, load_model, save_model
from robovae.run.stages import OnStage
from robovae.uncertainty.model import FILE as UNCERTAINTY

STACK = 3
"""Codes or frames at once, wherever one knows no velocity."""
_STACKED: dict[str, Any] = {"features": "mu", "stack": STACK}
SEES: dict[str, dict[str, Any]] = {
    "state": {"observation": "state"},
    "mu": _STACKED,
    "mu_sigma": {"features": "mu_sigma", "stack": STACK},
    "filtered": {"features": "filtered"},
    "taught": {"features": "filtered", "algo": "dagger"},  # by the policy on the state of the same seed
    "pca": {"observation": "state"},  # of an environment whose state is the codes
    "random": _STACKED,
    "ae": _STACKED,
}
"""Arms that are trained, and how they differ."""
FITTED = ("pca", "random")
"""Those that need training frames."""
FRAMES = 4000
"""Training frames that these are fitted on, at most."""
TIMED = 300
"""Steps that tell the speed of collecting, where no record does."""


@dataclass(frozen=True)
class Contest:
    """The arms of one run.

    Raises:
        RunError: no trained run, or a dataset of another environment or camera.
    """

    run: Path
    make_env: MakeEnv
    """Environments with the camera of the run."""
    bare_env: MakeEnv
    """The same without a camera."""
    base: PolicyConfig
    """What all arms have in common."""
    on_stage: OnStage
    """Told of rivals that are made."""
    data: Path | None = None
    """The dataset of the run; `FITTED` need it."""

    def __post_init__(self) -> None:
        if self.data is not None:
            check_data(load_model(self.run).facts, EpisodeStore(self.data))

    def config(self, arm: str, seed: int) -> PolicyConfig:
        """Of one policy; a pupil, who comes on top of its teacher, learns for half of the steps."""
        taught: dict[str, Any] = {}
        if arm == "taught":
            taught = {"teacher": f"state-s{seed}", "steps": math.ceil(self.base.steps / 2)}
        return replace(self.base, seed=seed, **SEES[arm] | taught)

    def trained(self, arm: str, seed: int, on_event: OnPolicy | None = None) -> Trained:
        """A policy of an arm, trained if it is not yet.

        Raises:
            RobovaeError: see `train_policy`; data are missing.
        """
        make_env, run = self.make_env, self.run
        if arm == "taught":
            self.trained("state", seed, on_event)
        if arm == "state":
            make_env = self.bare_env
        elif arm == "ae":
            run = self.run / "ae"
        elif arm == "random":
            run = self._random(seed)
        elif arm == "pca":
            run = self._pca()
            codes = Pca.load(run / "pca.safetensors", load_model(self.run).facts)
            make_env = partial(coded, self.make_env, codes, STACK)
        name = f"{arm}-s{seed}"
        train_policy(run, make_env, self.config(arm, seed), on_event, name=name)
        return Trained.read(policy_dir(run, name))

    def zero(self) -> list[float]:
        """Returns of zero action in the held-out episodes."""
        env = state_env(self.bare_env())
        shape = env.action_space.shape or ()

        def still(x: Floats) -> NDArray[Any]:
            return np.zeros((len(x), *shape), env.action_space.dtype)

        try:
            return play([env], StateSense(), still, range(TEST_SEED, TEST_SEED + self.base.test_episodes))
        finally:
            env.close()

    def pixels(self, steps: int) -> dict[str, Any]:
        """Of `pixel_speed`, measured once."""
        config = replace(self.base, steps=steps)
        plain = {"stack": STACK, "policy": to_plain(config)}
        return self._timed("pixels", plain, lambda: pixel_speed(self.make_env, config, steps, STACK))

    def before(self, arm: str) -> tuple[dict[str, float], list[str]]:
        """Seconds that an arm costs before its training, by stage, and what has to be said of them."""
        if arm == "state":
            return {}, []
        known, notes = self._collecting
        stages: dict[str, float | None] = {"collect": known}
        if arm == "taught":
            teachers = [read_record(path) for path in self.run.glob("policy-state-s*")]
            taken = [record["seconds"] for record in teachers if record is not None]
            stages["teach"] = float(np.mean(taken)) if taken else None
        if arm in FITTED:
            stages["fit"] = self._fitting(arm)
        else:
            source = self.run / "ae" if arm == "ae" else self.run
            stages["train"] = recorded(source, "train", "training.json")
        if arm in BELIEFS and (self.run / UNCERTAINTY).is_file():
            stages["calibrate"] = recorded(self.run, "calibrate", "calibrate.json")
        notes = [
            *notes,
            *(f"seconds of {name}: not known" for name, seconds in stages.items() if seconds is None),
        ]
        return {name: seconds for name, seconds in stages.items() if seconds is not None}, notes

    @cached_property
    def _collecting(self) -> tuple[float | None, list[str]]:
        """Seconds by a record of the run or of its data, or from the speed of a camera."""
        known = recorded(self.run, "collect", "collect.json")
        if self.data is None or known is not None:
            return known, []
        known = recorded(self.data, "collect", "collect.json")
        if known is not None:
            return known, []
        store = EpisodeStore(self.data)
        used = [split_of(seed) in ("train", "calibrate") for seed in store.seeds]
        timed = self._timed("collecting", {"steps": TIMED}, lambda: camera_speed(self.make_env, TIMED))
        seconds = float(store.lengths[used].sum() / timed["steps_per_second"])
        return seconds, ["seconds of collect: from the speed of one process"]

    def _fitting(self, arm: str) -> float | None:
        folders = [self.run / "rivals" / arm, *(self.run / "rivals").glob(f"{arm}-s*")]
        found = [recorded(one, arm, "rival.json") for one in folders if "." not in one.name]
        known = [seconds for seconds in found if seconds is not None]
        return float(np.mean(known)) if known else None

    def _timed(
        self, name: str, config: Mapping[str, Any], run: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """A measurement of speed, made once on a machine."""
        folder = self.run / "rivals" / name
        facts = {"machine": provenance.machine(), "versions": provenance.versions()}
        stage = Stage(
            name=name,
            artefact=folder,
            record=folder / "speed.json",
            config={**config, **facts},
            inputs={"run": file_digest(self.run / "config.json")},
            run=run,
            is_there=lambda: True,
            sets_aside=False,
        )
        found: dict[str, Any] = run_stage(stage, self.on_stage)["result"]
        return found

    def _frames(self) -> NDArray[np.uint8]:
        return spread_frames(self._store().split("train"), FRAMES)

    def _store(self) -> EpisodeStore:
        if self.data is None:
            raise PolicyError(f"arms {' and '.join(FITTED)}: expected the dataset of the run, received none")
        return EpisodeStore(self.data)

    def _pca(self) -> Path:
        model = load_model(self.run)
        width = model.vae.config.latent_dim

        def fit(folder: Path) -> None:
            Pca.fit(self._frames(), model.facts, width).save(folder / "pca.safetensors")

        return self._made("pca", fit, {"components": width})

    def _random(self, seed: int) -> Path:
        def draw(folder: Path) -> None:
            save_model(folder, untrained(load_model(self.run), self._frames(), seed))

        return self._made(f"random-s{seed}", draw, {"seed": seed})

    def _made(self, name: str, make: Callable[[Path], None], config: Mapping[str, Any]) -> Path:
        """The directory of a rival, filled once; one of other data or another model is set aside."""
        folder = self.run / "rivals" / name

        def run() -> dict[str, Any]:
            make(folder)
            return {}

        stage = Stage(
            name=name,
            artefact=folder,
            record=folder / "rival.json",
            config={**config, "frames": FRAMES},
            inputs={"data": dataset_digest(self._store().path, "train"), **_model_digest(self.run)},
            run=run,
            is_there=lambda: any(folder.glob("*.safetensors")),
        )
        run_stage(stage, self.on_stage)
        return folder


def _model_digest(run: Path) -> dict[str, str]:
    return {name: file_digest(run / name) for name in ("config.json", "model.safetensors")}
