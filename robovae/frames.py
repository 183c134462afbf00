"""The pixel boundary: the only place where uint8 (H, W, 3) becomes float (3, H, W) in [0, 1], and back."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robovae.errors import RobovaeError


class FrameError(RobovaeError):
    """Frames of another shape, dtype or range than were expected."""


BATCH = 256
"""Frames in one pass of a network: what the caches hold; larger batches gain nothing."""


def batched(frames: NDArray[np.uint8], size: int = BATCH) -> Iterator[NDArray[np.uint8]]:
    """At most `size` frames at a time."""
    for first in range(0, len(frames), size):
        yield frames[first : first + size]


def check_frames(frames: Any, frame_shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Check a batch of frames.

    Args:
        frames: (B, H, W, 3) uint8, RGB.
        frame_shape: the (H, W, 3) that is expected.

    Returns:
        The same frames; C-contiguous, copied only where they were not.

    Raises:
        FrameError: another shape, dtype or channel order, naming the mend.
    """
    expected = f"expected (B, {', '.join(map(str, frame_shape))}) uint8 frames"
    if not isinstance(frames, np.ndarray):
        raise FrameError(f"{expected}, received {type(frames).__name__}; pass a numpy array")
    received = f"{expected}, received {frames.shape} {frames.dtype}"
    if frames.dtype != np.uint8:
        raise FrameError(f"{received}; {_dtype_mend(frames)}")
    if frames.ndim != 4 or frames.shape[1:] != frame_shape:
        raise FrameError(f"{received}; {_shape_mend(frames.shape, frame_shape)}")
    return np.ascontiguousarray(frames)


def _dtype_mend(frames: NDArray[Any]) -> str:
    own_bytes = "give the camera's own bytes"
    if not np.issubdtype(frames.dtype, np.floating) or not frames.size:
        return f"{own_bytes} (uint8)"
    if not np.isfinite(frames).all():
        return "received NaN or infinity; mend what made these frames"
    low, high = float(frames.min()), float(frames.max())
    if low < 0.0 or high > 255.0:
        return f"range {low:g} to {high:g}; {own_bytes} (uint8)"
    scale = "frames * 255" if high <= 1.0 else "frames"
    return f"{own_bytes}, or ({scale}).round().astype(np.uint8)"


def _shape_mend(shape: tuple[int, ...], frame_shape: tuple[int, int, int]) -> str:
    height, width, channels = frame_shape
    if shape == frame_shape:
        return "add the batch axis: frames[None]"
    if shape in ((channels, height, width), (len(shape) and shape[0], channels, height, width)):
        return "channels go last: np.moveaxis(frames, -3, -1)"
    return f"render at {height}x{width} with the RenderSpec of the run (perceiver.render_spec)"


def to_tensor(frames: NDArray[np.uint8], device: torch.device | str = "cpu") -> Tensor:
    """Frames (B, H, W, 3) uint8 -> (B, 3, H, W) float32 in [0, 1], laid out channels last."""
    if not frames.flags.writeable:  # views on an episode's file: torch would warn of undefined writes
        frames = frames.copy()
    batch = torch.from_numpy(frames).to(device).permute(0, 3, 1, 2)
    return batch.float().div_(255.0)


def to_frames(images: Tensor) -> NDArray[np.uint8]:
    """Images (B, 3, H, W) around [0, 1] -> (B, H, W, 3) uint8, clipped and rounded."""
    pixels = images.detach().float().clamp(0.0, 1.0).mul(255.0).round().to(torch.uint8)
    array: NDArray[np.uint8] = pixels.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return array
