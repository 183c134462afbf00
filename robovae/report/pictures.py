"""Pictures for the page: frames in rows, heat maps, and PNG bytes as data: URIs."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

PALETTES = {"error": cv2.COLORMAP_INFERNO, "sigma": cv2.COLORMAP_VIRIDIS, "nats": cv2.COLORMAP_MAGMA}
"""Each kind of map has its own colours, all of them even to the eye and safe for the colour-blind."""


@dataclass(frozen=True)
class Picture:
    """A PNG and what it shows."""

    png: bytes
    alt: str
    """What a person who cannot see it should know."""
    size: tuple[int, int]
    """(width, height) in pixels."""

    @property
    def uri(self) -> str:
        """The PNG as a data: URI."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode("ascii")


def picture(image: Image, alt: str) -> Picture:
    """An RGB or RGBA image (H, W, 3 or 4) uint8 as a PNG."""
    return Picture(png(image), alt, (image.shape[1], image.shape[0]))


def png(image: Image) -> bytes:
    """RGB or RGBA (H, W, 3 or 4) uint8 -> PNG bytes, lossless."""
    order = cv2.COLOR_RGB2BGR if image.shape[2] == 3 else cv2.COLOR_RGBA2BGRA
    _, coded = cv2.imencode(".png", cv2.cvtColor(image, order), [cv2.IMWRITE_PNG_COMPRESSION, 9])
    return bytes(coded)


def row(frames: Image, gap: int = 2) -> Image:
    """Frames (N, H, W, 3) side by side, nothing between them: RGBA."""
    return sheet([frames], gap)


def sheet(rows: Sequence[Image], gap: int = 2) -> Image:
    """Rows of frames, each (N, H, W, 3) of one shape, under one another; RGBA, transparent between them."""
    count, height, width, _ = rows[0].shape
    size = (len(rows) * (height + gap) - gap, count * (width + gap) - gap, 4)
    out = np.zeros(size, np.uint8)
    for line, frames in enumerate(rows):
        for column, frame in enumerate(frames):
            top, left = line * (height + gap), column * (width + gap)
            out[top : top + height, left : left + width, :3] = frame
            out[top : top + height, left : left + width, 3] = 255
    return out


def wrapped(frames: Image, columns: int, gap: int = 2) -> Image:
    """Frames (N, H, W, 3) in as many full rows as they give; what is left over is not shown."""
    columns = min(columns, len(frames))
    full = len(frames) // columns
    return sheet([frames[line * columns : (line + 1) * columns] for line in range(full)], gap)


def heat(values: NDArray[np.floating[Any]], low: float, high: float, palette: str) -> Image:
    """Values (N, H, W) -> colours (N, H, W, 3), `low` darkest, `high` brightest, beyond them clipped."""
    scaled = np.clip((values - low) / max(high - low, 1e-12), 0.0, 1.0)
    flat = (scaled * 255.0).round().astype(np.uint8).reshape(-1, 1)
    coloured = cv2.applyColorMap(flat, PALETTES[palette])[..., ::-1]
    image: Image = np.ascontiguousarray(coloured).reshape(*values.shape, 3)
    return image


def scale_bar(palette: str) -> Image:
    """The colours of a palette from low to high, (8, 128, 3)."""
    ramp = np.broadcast_to(np.linspace(0.0, 1.0, 128), (1, 8, 128))
    bar: Image = heat(ramp, 0.0, 1.0, palette)[0]
    return bar


def shade(value: float, low: float, high: float, palette: str) -> str:
    """CSS of a table's cell: its place in a palette, and black or white words, whichever stand out more."""
    colour = heat(np.array([[[value]]]), low, high, palette)[0, 0, 0]
    linear = np.where(colour <= 10, colour / 3294.6, ((colour / 255.0 + 0.055) / 1.055) ** 2.4)
    light = float(linear @ [0.2126, 0.7152, 0.0722])  # relative luminance, WCAG 2.1
    return f"background:#{bytes(colour).hex()};color:{'#000' if light > 0.179 else '#fff'}"


def enlarge(values: NDArray[Any], factor: int) -> NDArray[Any]:
    """Repeat rows and columns of (N, h, w, ...): what a cell says, said of each of its pixels."""
    return values.repeat(factor, axis=1).repeat(factor, axis=2)


def film(rows: Sequence[Image], width: int = 1000) -> Image:
    """A sheet for a README: rows of frames, each pixel a square of pixels, about `width` pixels wide."""
    small = sheet(rows)
    factor = max(1, round(width / small.shape[1]))
    large: Image = np.ascontiguousarray(enlarge(small[None], factor)[0])
    return large
