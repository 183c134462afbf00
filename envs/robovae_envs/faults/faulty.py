"""Faulty: an environment whose camera fails at given steps."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np

from robovae_envs.camera import Camera, Observation, is_mujoco
from robovae_envs.faults.registry import Fault, FaultError, find_fault
from robovae_envs.faults.scenery import Scenery
from robovae_envs.faults.streams import STREAMS, Frame, See, Stream
from robovae_envs.spec import RenderSpec

IDLE_AT_FIRST = frozenset({"dead_rows"})
"""Sensor faults that may leave their first frame as it is: a stuck row shows only when the scene moves."""


class Faulty(gym.Wrapper[Observation, Any, Observation, Any], gym.utils.RecordConstructorArgs):
    """Delivers a camera's frames through a fault; all else of the environment stays as it is, to the bit.

    The fault is active on steps `onset <= t < onset + duration`, where the reset's frame is step 0, or in
    several such windows; a freeze lasts no longer than its severity says, and begins anew in every window, as
    a delay does. `info["fault"]` tells whether it is active at this step, also at severity 0 (but for a
    freeze, which lasts no step there), which runs the same code and delivers the camera's own frames. What an
    episode draws (places, colours, signs, noise) depends on `seed` and on the reset's seed, or the count of
    resets since the last seeded one: severities draw the same and differ by their amount (a colour or a
    camera that it would lead out of bounds goes the other way), and a faulted episode has its clean twin's
    states.

    Args:
        env: the camera that fails.
        fault: a name in `FAULTS`.
        severity: 0 (nominal) to 5.
        onset: first step of the fault.
        duration: steps that it lasts; to the end of the episode if None.
        seed: of the fault's own random generator.
        windows: (onset, duration) of each time that it comes, in place of the two above; none at all is a
            camera that works.

    Raises:
        FaultError: no such fault or severity, a value out of range, windows that are not one after the other,
            or a rendered fault on an environment that is not MuJoCo's; at `reset` or `step`: the fault
            changes no pixel of its first frame.
    """

    def __init__(
        self,
        env: Camera,
        fault: str,
        severity: int,
        *,
        onset: int = 0,
        duration: int | None = None,
        seed: int = 0,
        windows: Sequence[tuple[int, int]] | None = None,
    ) -> None:
        gym.utils.RecordConstructorArgs.__init__(
            self, fault=fault, severity=severity, onset=onset, duration=duration, seed=seed, windows=windows
        )
        gym.Wrapper.__init__(self, env)
        self.fault = find_fault(fault)
        self.severity = severity
        self._amount = self.fault.amount(severity)
        _check(env, self.fault, onset=(onset, 0), seed=(seed, 0), duration=(duration, 1))
        if windows is not None:
            _check_windows(windows, onset, duration)
        self._camera = env
        self._spans = _spans(
            self.fault, self._amount, windows if windows is not None else [(onset, duration)]
        )
        self._seed, self._episode = seed, (0, 0)
        self._scenery = Scenery(env, self.fault, self._amount)
        self._step, self._has_shown = 0, severity == 0 or fault in IDLE_AT_FIRST
        self._stream: Stream | None = None
        self._delivered: Frame | None = None

    @property
    def render_spec(self) -> RenderSpec:
        """What the camera's frames look like when nothing fails."""
        return self._camera.render_spec

    @property
    def is_active(self) -> bool:
        """Whether the fault is active at the present step."""
        return any(first <= self._step < end for first, end in self._spans)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Reset the environment, draw this episode's fault and deliver the first frame."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._episode = (self._episode[0], self._episode[1] + 1) if seed is None else (seed + 1, 0)
        rng = np.random.default_rng((self._seed, *self._episode))
        if self.fault.kind == "rendered":
            self._stream = self._scenery.begin(rng)
        else:
            self._stream = STREAMS[self.fault.name](self._amount, rng)
        self._step = 0
        clean = observation["image"]
        return {**observation, "image": self._deliver(lambda: clean)}, self._tell(info)

    def step(self, action: Any) -> tuple[Observation, SupportsFloat, bool, bool, dict[str, Any]]:
        """Step the environment and deliver the frame that follows."""
        state, reward, terminated, truncated, info = self._camera.step_unseen(action)
        self._step += 1
        image = self._deliver(self._camera.frame)
        return {"image": image, "state": state}, reward, terminated, truncated, self._tell(info)

    def frame(self) -> Frame:
        """The last frame as it was delivered: (H, W, 3), fresh memory.

        Raises:
            FaultError: there was no `reset` yet.
        """
        if self._delivered is None:
            raise FaultError("Faulty.frame: expected a reset before it, received none; call reset()")
        return self._delivered.copy()

    def describe(self) -> dict[str, Any]:
        """What a dataset must remember of its source, as JSON-able data."""
        return {**self._camera.describe(), "fault": {"name": self.fault.name, "severity": self.severity}}

    def close(self) -> None:
        """Free what the fault draws with, and close the camera."""
        self._scenery.close()
        super().close()

    def _deliver(self, see: See) -> Frame:
        assert self._stream is not None  # Gymnasium refuses a step before the reset
        image = self._stream(see, self.is_active)
        if self.is_active and not self._has_shown and self.fault.kind != "timing":
            self._check_shows(see(), image)
        self._delivered = image.copy()
        return image

    def _tell(self, info: dict[str, Any]) -> dict[str, Any]:
        return {**info, "fault": self.is_active}

    def _check_shows(self, clean: Frame, image: Frame) -> None:
        """Refuse a fault that changes nothing: scored, it would look like one that nothing can detect."""
        if np.array_equal(clean, image):
            raise FaultError(
                f"{self.fault.name} at severity {self.severity} changes no pixel of"
                f" {type(self.unwrapped).__name__}: expected {self.fault.needs} in view, received none;"
                " choose another fault or camera"
            )
        self._has_shown = True


def _spans(
    fault: Fault, amount: float, windows: Sequence[tuple[int, int | None]]
) -> tuple[tuple[int, float], ...]:
    """First step and the step after the last, window by window: a freeze's amount is a time."""
    longest = amount if fault.name == "freeze" else np.inf
    return tuple(
        (first, first + min(longest, np.inf if steps is None else steps)) for first, steps in windows
    )


def _check(env: gym.Env[Any, Any], fault: Fault, **least: tuple[int | None, int]) -> None:
    """Refuse what cannot work. `least` gives each number and the least that it may be."""
    if not isinstance(env, Camera):
        raise FaultError(
            f"Faulty: expected a Camera, received {type(env).__name__}; wrap the environment in one first"
        )
    if fault.kind == "rendered" and not is_mujoco(env):
        raise FaultError(
            f"{fault.name}: expected a MuJoCo environment, received {type(env.unwrapped).__name__};"
            " choose a sensor or timing fault"
        )
    for name, (value, lowest) in least.items():
        if value is not None and (isinstance(value, bool) or value < lowest):
            raise FaultError(f"Faulty: expected {name} to be at least {lowest}, received {value!r}")


def _check_windows(windows: Sequence[tuple[int, int]], onset: int, duration: int | None) -> None:
    if onset != 0 or duration is not None:
        raise FaultError(
            f"Faulty: expected windows or an onset with its duration, received both ({onset} and {duration});"
            " leave one out"
        )
    wrong = next((one for one in windows if len(one) != 2 or one[0] < 0 or one[1] < 1), None)
    if wrong is not None:
        raise FaultError(
            f"Faulty: expected windows of an onset from 0 and a duration from 1, received {wrong}"
        )
    for (first, steps), (then, _) in pairwise(windows):
        if then <= first + steps:
            raise FaultError(
                f"Faulty: expected windows in their order with a step between, received {(first, steps)} "
                f"before one at {then}; those that touch are one"
            )
