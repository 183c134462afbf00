"""Dreaming: the latent dynamics rolled forward without a camera, decoded to frames, judged by what came."""

from robovae.dreaming.dreamer import Dreamer, dream
from robovae.dreaming.errors import DreamError
from robovae.dreaming.result import Comparison, Dream, Imagined, latent_deviation

__all__ = [
    "Comparison",
    "Dream",
    "DreamError",
    "Dreamer",
    "Imagined",
    "dream",
    "latent_deviation",
]
