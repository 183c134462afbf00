"""The cast: which policies of a run play which arm."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path
from typing import Any, Self

import gymnasium as gym
import numpy as np

from robovae.belief import Perceiver
from robovae.closed_loop.arms import Arm, Frames, Guarded, Random, Reflex, Still, constant_sigma
from robovae.closed_loop.errors import ClosedLoopError
from robovae.closed_loop.playing import play
from robovae.control.guard import HORIZON, Guard
from robovae.filter import FILE as FILTER
from robovae.policy.belief_policy import BeliefPolicy
from robovae.policy.saving import RECORD, WEIGHTS, policy_dir, read_record
from robovae.records import digest, file_digest, read_json
from robovae.run.files import policy_places
from robovae.uncertainty.frame_monitor import FILE as MONITOR
from robovae.uncertainty.model import FILE as UNCERTAINTY

MODEL = ("config.json", "model.safetensors", UNCERTAINTY)
USUAL_SEEDS = range(10_000, 10_004)
"""Clean episodes in which sigma is usual; they are of the calibrate split, and never scored."""


@dataclass(frozen=True)
class Cast:
    """The policies of a run by the part they play, None where there is none; picklable.

    Calling it gives the arms, each with models and memory of its own.
    """

    run: Path
    nominal: str | None
    """Name of a policy on beliefs as they come."""
    filtered: str | None
    """Name of a policy on filtered beliefs."""
    state: str | None
    """Name of a policy on the true state."""
    fallback: str = "hold"
    """Of the guard."""
    horizon: int = HORIZON
    """Frames in a row that "both" and "oracle" coast through at most; "guard" falls back at once."""
    sigma: tuple[float, ...] | None = None
    """(D,) what is usual; without it there is no arm "constant sigma"."""
    augmented: str | None = None
    """Name of a policy on beliefs as they come that learnt on corrupted frames, beside one that did not."""

    @classmethod
    def find(cls, run: Path, fallback: str = "hold", prefer: Collection[str] = ()) -> Self:
        """Look through the policies of a run, the unnamed one first; each part goes to the first that can.

        Args:
            run: the directory.
            fallback: of the guard.
            prefer: names that come before all others.

        Raises:
            ClosedLoopError: none of them acts on beliefs, or there is no policy of a preferred name.
        """
        found: dict[str, str] = {}
        names = [
            place.removeprefix("policy").removeprefix("-")
            for place in policy_places(run)
            if (run / place / RECORD).is_file()
        ]
        missing = [name for name in prefer if name not in names]
        if missing:
            there = ", ".join(map(repr, sorted(names))) or "none"
            raise ClosedLoopError(f"{run}: expected a policy {missing[0]!r}, received {there}")
        for name in sorted(names, key=lambda name: (name not in prefer, name)):
            found.setdefault(_part(read_record(policy_dir(run, name)) or {}), name)
        if "nominal" not in found and "augmented" in found:
            found["nominal"] = found.pop("augmented")
        if not {"nominal", "filtered"} & set(found):
            raise ClosedLoopError(
                f"{run}: expected a policy on beliefs, received {', '.join(found) or 'none'}; run "
                f"`robovae policy {run}`"
            )
        nominal, filtered, state = map(found.get, ("nominal", "filtered", "state"))
        return cls(run, nominal, filtered, state, fallback, augmented=found.get("augmented"))

    @property
    def leading(self) -> str:
        """Name of the policy that stands for an unguarded one."""
        name = self.nominal if self.nominal is not None else self.filtered
        assert name is not None  # find() saw to it
        return name

    def measured(self, env: gym.Env[Any, Any], steps: int) -> Self:
        """The same with the median of sigma over clean episodes, dimension by dimension."""
        frames: list[Frames] = []
        arm = Reflex(BeliefPolicy.load(self.run, self.leading))
        for seed in USUAL_SEEDS:
            play(env, arm, seed, steps, lambda frame, *_: frames.append(frame))
        sigma = np.median(Perceiver.load(self.run)(np.stack(frames)).sigma, axis=0)
        return replace(self, sigma=tuple(map(float, sigma)))

    def policies(self) -> list[dict[str, Any]]:
        """How each part's policy learnt: a difference between arms may also be one of their training."""
        found = []
        for part in ("nominal", "augmented", "filtered", "state"):
            name = getattr(self, part)
            if name is not None:
                record = read_record(policy_dir(self.run, name)) or {}
                config, judged = record.get("config") or {}, record.get("evaluation") or {}
                found.append(
                    {
                        "part": part,
                        "name": name,
                        **{key: config.get(key) for key in ("steps", "seed", "drop_share", "corrupt_share")},
                        "return": judged.get("mean"),
                    }
                )
        return found

    def facts(self) -> dict[str, Any]:
        """All that decides what each arm does, by its name, JSON-able."""
        config = read_json(self.run / "config.json") or {}
        task = {"env_id": config.get("env_id"), "render_spec": config.get("render_spec")}
        eyes = _digests(self.run, MODEL)
        filter_ = _digests(self.run, (FILTER,))
        guard = {**_digests(self.run, (FILTER, MONITOR)), "fallback": self.fallback}
        coasts = {**guard, "horizon": self.horizon}
        blind: dict[str, Any] = dict.fromkeys(("zero", "random", "fallback"), task)
        if self.state is not None:
            blind["state"] = {**task, **self._policy(self.state)}
        found: dict[str, Any] = {}
        for arm, name, more in (
            ("nominal", self.nominal, {}),
            ("augmented", self.augmented, {}),
            ("filter", self.filtered, filter_),
            ("guard", self.nominal, guard),
            ("both", self.filtered, coasts),
            ("oracle", self.filtered, {**coasts, "oracle": True}),
            ("constant sigma", self.filtered, {**filter_, "sigma": self.sigma, "mu": "calibrated"}),
        ):
            if name is not None and (arm != "constant sigma" or self.sigma is not None):
                found[arm] = {**task, **eyes, **self._policy(name), **more}
        return {**found, **blind}

    def __call__(self) -> Mapping[str, Arm]:
        """The arms by name."""
        space = BeliefPolicy.load(self.run, self.leading).action_space
        makers: dict[str, Callable[[], Arm]] = {
            "nominal": lambda: Reflex(self._load(self.nominal)),
            "augmented": lambda: Reflex(self._load(self.augmented)),
            "filter": lambda: Reflex(self._load(self.filtered)),
            "guard": lambda: Guarded(self._guard(self.nominal, 0)),
            "both": lambda: Guarded(self._guard(self.filtered, self.horizon)),
            "oracle": lambda: Guarded(self._guard(self.filtered, self.horizon), oracle=True),
            "constant sigma": self._constant,
            "state": lambda: Reflex(self._load(self.state), itemgetter("state")),
            "zero": lambda: Still(space),
            "random": lambda: Random(space),
            "fallback": lambda: Still(space, "fallback"),
        }
        return {name: makers[name]() for name in self.facts()}

    def _load(self, name: str | None) -> BeliefPolicy:
        return BeliefPolicy.load(self.run, name or "")

    def _guard(self, name: str | None, horizon: int) -> Guard:
        return Guard.load(self.run, name=name or "", fallback=self.fallback, horizon=horizon)

    def _constant(self) -> Arm:
        # The same means, which the denoising encoder has its part in: only their widths are another's.
        perceive, sigma = Perceiver.load(self.run), np.array(self.sigma, np.float32)
        return Reflex(self._load(self.filtered), constant_sigma(perceive, sigma))

    def _policy(self, name: str) -> dict[str, str]:
        where = policy_dir(self.run, name)
        record = read_record(where) or {}
        how = {
            key: record.get(key) for key in ("observation", "features", "stack", "network", "action_space")
        }
        return {"policy": file_digest(where / WEIGHTS), "policy settings": digest(how)}


def _part(record: Mapping[str, Any]) -> str:
    """The part that a policy plays."""
    if record.get("observation") == "state":
        return "state"
    if record.get("features") == "filtered":
        return "filtered"
    return "augmented" if (record.get("config") or {}).get("corrupt_share") else "nominal"


def _digests(run: Path, names: tuple[str, ...]) -> dict[str, str]:
    """Of the files that are there; what is missing is for those to say who need it."""
    return {name: file_digest(run / name) for name in names if (run / name).is_file()}
