"""Sensor and timing faults: streams that give what is delivered of an episode's frames, one after the other.

A stream is made once an episode, from the amount of a severity and a random generator. It is asked at every
step, so that timing faults know what came before their onset, and changes frames only while the fault is
active. It sees the camera's frame only if it wants to: one that nobody sees need not be drawn.
"""

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from robovae_envs.faults.registry import FaultError, find_fault

Frame = NDArray[np.uint8]
See = Callable[[], Frame]
"""Draws the camera's own frame of this step, (H, W, 3), in fresh memory."""
REFERENCE_SIZE = 64  # height in pixels for which amounts in pixels and rows are given


class Stream(Protocol):
    """One episode of a fault."""

    def __call__(self, see: See, active: bool) -> Frame:
        """The next frame (H, W, 3) as delivered; what it sees stays as it is."""


class GaussianNoise:
    """Adds N(0, sigma²) to every channel of [0, 1] pixels, afresh each frame, and clips."""

    def __init__(self, sigma: float, rng: np.random.Generator) -> None:
        self._sigma, self._rng = sigma, rng

    def __call__(self, see: See, active: bool) -> Frame:
        """The frame with noise."""
        frame = see()
        if not active:
            return frame
        noise = self._rng.standard_normal(frame.shape, np.float32)
        return _to_bytes(frame + np.float32(255.0 * self._sigma) * noise)


class Defocus:
    """Blurs with a Gaussian whose sigma grows with the frame's height."""

    def __init__(self, sigma: float, rng: np.random.Generator) -> None:
        self._sigma = sigma

    def __call__(self, see: See, active: bool) -> Frame:
        """The frame, blurred."""
        frame = see()
        sigma = self._sigma * frame.shape[0] / REFERENCE_SIZE
        if not active or sigma == 0.0:
            return frame
        return np.asarray(cv2.GaussianBlur(frame, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101), np.uint8)


class Exposure:
    """Multiplies linear light by 2^EV or 2^-EV, one sign an episode, and clips at white.

    Pixels are taken as sRGB (IEC 61966-2-1), as a camera's files are, and are sRGB again afterwards.
    """

    def __init__(self, stops: float, rng: np.random.Generator) -> None:
        light = _linear(np.arange(256) / 255.0) * 2.0 ** (stops * (1.0 if rng.random() < 0.5 else -1.0))
        self._table = _to_bytes(255.0 * _srgb(np.clip(light, 0.0, 1.0)))

    def __call__(self, see: See, active: bool) -> Frame:
        """The frame, brighter or darker."""
        frame = see()
        return self._table[frame] if active else frame


class Jpeg:
    """Compresses each frame as JPEG (chroma at half resolution, libjpeg's quality) and decodes it."""

    def __init__(self, quality: float, rng: np.random.Generator) -> None:
        self._quality = quality

    def __call__(self, see: See, active: bool) -> Frame:
        """The frame with the traces of compression."""
        frame = see()
        if not active or np.isinf(self._quality):
            return frame
        options = (cv2.IMWRITE_JPEG_QUALITY, int(self._quality))
        _, packed = cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), options)
        return np.asarray(cv2.cvtColor(cv2.imdecode(packed, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB), np.uint8)


class DeadRows:
    """Sets rows, the same through an episode, to 0, to 255 or to what they were in the first faulted frame.

    Each row's own kind is drawn. The rows of a lower severity are among those of a higher one.
    """

    def __init__(self, count: float, rng: np.random.Generator) -> None:
        self._count, self._rng = count, rng
        self._rows: NDArray[np.intp] | None = None
        self._values: Frame = np.empty(0, np.uint8)

    def __call__(self, see: See, active: bool) -> Frame:
        """The frame with its dead rows."""
        frame = see()
        if not active:
            return frame
        if self._rows is None:
            self._rows, self._values = self._draw(frame)
        dead = frame.copy()
        dead[self._rows] = self._values
        return dead

    def _draw(self, frame: Frame) -> tuple[NDArray[np.intp], Frame]:
        """Which rows are dead, and what they give: (rows,), (rows, W, 3)."""
        height = frame.shape[0]
        count = min(height, int(np.ceil(self._count * height / REFERENCE_SIZE)))
        rows = self._rng.permutation(np.arange(height))[:count]
        kinds = self._rng.integers(0, 3, size=(height,))[rows]
        values = frame[rows]
        values[kinds == 0], values[kinds == 1] = 0, 255
        return rows, values


class Freeze:
    """Delivers the last frame before the fault for as long as it is active (the first, if there is none).

    The amount of a freeze is a time, so it decides how long the fault is active, and not what this does.
    """

    def __init__(self, steps: float, rng: np.random.Generator) -> None:
        self._held: Frame | None = None

    def __call__(self, see: See, active: bool) -> Frame:
        """The held frame, or the live one."""
        if self._held is None or not active:
            self._held = see()
        return self._held.copy()


class Delay:
    """Delivers the frame of so many steps ago while active; the first frame until there are so many."""

    def __init__(self, steps: float, rng: np.random.Generator) -> None:
        self._past: deque[Frame] = deque(maxlen=int(steps) + 1)

    def __call__(self, see: See, active: bool) -> Frame:
        """The late frame, or the live one."""
        self._past.append(see())
        return self._past[0 if active else -1].copy()


STREAMS: dict[str, Callable[[float, np.random.Generator], Stream]] = {
    "gaussian_noise": GaussianNoise,
    "defocus": Defocus,
    "exposure": Exposure,
    "jpeg": Jpeg,
    "dead_rows": DeadRows,
    "freeze": Freeze,
    "delay": Delay,
}
"""Maker of each sensor and timing fault's stream: (amount, generator) -> stream."""


def sensor_fault(name: str, frames: Frame, severity: int, rng: np.random.Generator) -> Frame:
    """One episode's frames as a faulty sensor gives them.

    Args:
        name: a sensor fault.
        frames: (B, H, W, 3) uint8, in the order of an episode, all of them faulted; they stay as they are.
        severity: 0 (unchanged) to 5.
        rng: what is drawn once an episode is drawn once here.

    Returns:
        (B, H, W, 3) uint8, fresh memory.

    Raises:
        FaultError: no such fault or severity, no sensor fault, or no such frames.
    """
    fault = find_fault(name)
    if fault.kind != "sensor":
        raise FaultError(
            f"sensor_fault: expected a sensor fault, received {name!r} ({fault.kind}); use Faulty"
        )
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
        raise FaultError(
            f"sensor_fault: expected frames (B, H, W, 3) uint8, received {frames.shape} {frames.dtype}"
        )
    stream = STREAMS[name](fault.amount(severity), rng)
    faulted = np.empty_like(frames)
    for index in range(len(frames)):
        faulted[index] = stream(partial(frames.__getitem__, index), True)
    return faulted


def _to_bytes(values: NDArray[np.floating]) -> Frame:
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)


def _linear(srgb: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def _srgb(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
