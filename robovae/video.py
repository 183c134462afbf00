"""Videos that a browser shows, written by OpenCV: no other program is needed."""

import os
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from robovae.errors import RobovaeError

Frames = NDArray[np.uint8]

ENDINGS = (".webp", ".mp4")
"""A picture that moves, without loss (an <img> shows it), and VP9 in MP4 (a <video> does). OpenCV's wheels
cannot encode H.264, browsers do not decode the MPEG-4 that those can, and their GIFs have coarse colours."""
WIDTH = 512
"""Pixels, about: small frames are enlarged, each pixel a square of pixels."""
_LOSSLESS = 101
"""WebP's quality above which nothing is lost."""


class VideoError(RobovaeError):
    """A video that cannot be written as asked."""


def write_video(path: Path, frames: Frames, fps: float) -> Path:
    """Write frames as a video, whole or not at all; the directory is made.

    Args:
        path: ends in one of `ENDINGS`.
        frames: (T, H, W, 3) uint8, RGB.
        fps: frames a second, above 0.

    Returns:
        `path`.

    Raises:
        VideoError: another ending, no such speed, or no space.
        OSError: the directory is not writable.
    """
    if path.suffix not in ENDINGS:
        raise VideoError(
            f"{path}: expected a name ending in {', '.join(ENDINGS)}, received {path.suffix!r}; rename it"
        )
    if not 0.0 < fps <= 1000.0:
        raise VideoError(f"fps: expected above 0 and at most 1000, received {fps:g}")
    factor = max(1, round(WIDTH / frames.shape[2]))
    large = frames.repeat(factor, axis=1).repeat(factor, axis=2)[..., ::-1]
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        write = _write_film if path.suffix == ".mp4" else _write_animation
        if not write(aside, np.ascontiguousarray(large), fps):
            raise VideoError(f"{path}: cannot be written; free space, or choose another place")
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    return path


def _write_animation(path: Path, frames: Frames, fps: float) -> bool:
    animation = cv2.Animation()
    animation.frames = list(frames)
    animation.durations = [max(1, round(1000.0 / fps))] * len(frames)
    return bool(cv2.imwriteanimation(str(path), animation, [cv2.IMWRITE_WEBP_QUALITY, _LOSSLESS]))


def _write_film(path: Path, frames: Frames, fps: float) -> bool:
    height, width = frames.shape[1:3]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"vp09"), fps, (width, height))
    for frame in frames:
        writer.write(frame)
    writer.release()
    written = cv2.VideoCapture(str(path))  # the writer tells of no full disk
    try:
        return int(written.get(cv2.CAP_PROP_FRAME_COUNT)) == len(frames) and bool(written.read()[0])
    finally:
        written.release()
