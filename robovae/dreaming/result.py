"""What was dreamt: latents and frames, shown beside the future that came, and measured against it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robovae.belief import Belief, Perceiver
from robovae.dreaming.errors import DreamError
from robovae.frames import check_frames, to_frames
from robovae.video import write_video

Floats = NDArray[np.float32]
Frames = NDArray[np.uint8]

FILM_FRAMES = 10
"""Frames of a filmstrip, about."""


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Imagined:
    """Latents of `steps` steps; row k is the first, second... moment after the beginning."""

    z: Floats
    """(steps, D), what was dreamt: the means, or draws where the dream was drawn."""
    mu: Floats
    """(steps, D), mean of p(z_t | z_<t, a_<t) at the latents dreamt before."""
    sigma: Floats
    """(steps, D), its standard deviation: of one step, it does not add up over a dream."""
    actions: Floats
    """(steps, A); actions[k] led to z[k]."""
    start: Belief
    """What the last frame of the beginning says on its own, (1, D)."""

    def __len__(self) -> int:
        return len(self.z)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} steps, z {self.z.shape}, actions {self.actions.shape})"

    def errors(self, real: Floats) -> tuple[Floats, Floats]:
        """RMS error over latents by step, of the dream and of holding what the last frame seen says.

        Args:
            real: mu of the frames that came, (N, D), N <= steps.

        Returns:
            (N,) each, in units of the prior's deviation.
        """
        dreamt = np.sqrt(np.square(self.z[: len(real)] - real).mean(axis=1))
        held = np.sqrt(np.square(self.start.mu - real).mean(axis=1))
        return dreamt, held


@dataclass(frozen=True, eq=False)
class Comparison:
    """Errors of a dream by step, (N,) each."""

    latent: Floats
    """RMS over latents, in deviations."""
    latent_hold: Floats
    """The same of holding what the last frame of the beginning says."""
    pixel: Floats
    """MSE of the dreamt frames, in units of [0, 1] pixels squared."""
    pixel_seen: Floats
    """The same of frames decoded from what the real ones say: what decoding alone costs."""
    pixel_mean: Floats
    """The same of the mean frame of training."""

    def rows(self) -> list[dict[str, float]]:
        """JSON-able: "step" from 1, and each error, by step."""
        names = ("latent", "latent_hold", "pixel", "pixel_seen", "pixel_mean")
        columns = [getattr(self, name).tolist() for name in names]
        lines = enumerate(zip(*columns, strict=True), 1)
        return [{"step": step, **dict(zip(names, line, strict=True))} for step, line in lines]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Dream(Imagined):
    """Latents and what they look like."""

    frames: Frames
    """(steps, H, W, 3), decoded from z."""

    def compare(self, real: Frames, perceiver: Perceiver, deviation: float = 1.0) -> Comparison:
        """How far the dream is from what came.

        Args:
            real: frames that followed the beginning, (N, H, W, 3), N <= steps.
            perceiver: the one that dreamt; reads and decodes the real frames.
            deviation: unit of latent errors, see `latent_deviation`; by default the prior's.

        Raises:
            DreamError: more frames than were dreamt.
            FrameError: frames of another shape or dtype.
        """
        self._check(real)
        seen = perceiver(real).mu
        dreamt, held = (error / deviation for error in self.errors(seen))
        mean = to_frames(perceiver.model.vae.mean_frame[None])
        guesses = (self.frames[: len(real)], perceiver.decode(seen), mean)
        return Comparison(dreamt, held, *(_mse(guess, real) for guess in guesses))

    def filmstrip(self, real: Frames | None = None, every: int | None = None) -> Frames:
        """Every few steps as a picture, what came above what was dreamt: RGBA, about 1000 pixels wide.

        Args:
            real: frames that followed the beginning, (N, H, W, 3), N <= steps; None shows the dream alone.
            every: the first frame shown is that of this step, then every so many; by default about 10 frames.

        Raises:
            DreamError: more frames than were dreamt, or `every` beyond them.
            FrameError: frames of another shape or dtype.
        """
        from robovae.report.pictures import film  # the report shows dreams, so it is above this package

        shown = self.frames if real is None else self.frames[: len(self._check(real))]
        pace = max(1, round(len(shown) / FILM_FRAMES)) if every is None else every
        if not 1 <= pace <= len(shown):
            raise DreamError(f"every: expected 1 to {len(shown)}, received {pace}")
        rows = [shown] if real is None else [real, shown]
        return film([row[pace - 1 :: pace] for row in rows])

    def video(self, path: str | Path, real: Frames | None = None, fps: float = 20.0) -> Path:
        """The dream as a video, the frames that came on its left where they are given.

        Args:
            path: its ending is one of `robovae.video.ENDINGS`.
            real: (N, H, W, 3), N <= steps; the video ends with them.
            fps: frames a second.

        Raises:
            DreamError: another ending, no such speed, or more frames than were dreamt.
            FrameError: frames of another shape or dtype.
            OSError: the directory is not writable.
        """
        if real is None:
            return write_video(Path(path), self.frames, fps)
        both = np.concatenate([self._check(real), self.frames[: len(real)]], axis=2)
        return write_video(Path(path), both, fps)

    def _check(self, real: Any) -> Frames:
        frames = check_frames(real, self.frames.shape[1:])
        if not 1 <= len(frames) <= len(self):
            raise DreamError(f"real: expected 1 to {len(self)} frames, received {len(frames)}; cut them")
        return frames


def latent_deviation(mu: Floats) -> float:
    """RMS standard deviation of latents over frames, (N, D) -> the unit of errors.

    One unit for all latents: those that say nothing would turn noise into large errors in units of their own.
    """
    return float(np.sqrt(mu.var(axis=0).mean()))


def _mse(guess: Frames, real: Frames) -> Floats:
    error = (guess.astype(np.float32) - real.astype(np.float32)) / 255.0
    mse: Floats = np.square(error).reshape(len(error), -1).mean(axis=1)
    return mse
