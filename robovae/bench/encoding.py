"""How long one frame takes on one thread: our encoder beside World Models', in torch and ONNX Runtime.

All take the camera's bytes, (1, H, W, 3) uint8. Ours gives the global belief and the grid's; World Models'
(Ha & Schmidhuber, 1803.10122: four convolutions of 32-64-128-256 maps, kernel 4, stride 2, 32 latents) its
mu and sigma. Theirs comes twice: padded by 1, as it is mostly built (27 million multiply-adds at 64x64; the
one the target is about), and unpadded, as in the paper (15 million). All ways take turns in one process, so
that a busy machine slows them alike.
"""

import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from robovae import provenance
from robovae.config import check_least
from robovae.device import threads
from robovae.errors import RobovaeError
from robovae.export.graph import check_installed
from robovae.run.directory import load_model
from robovae.vae import VAE, ModelConfig

PACKAGES = ("onnx", "onnxruntime")
TARGET_RATIO = 0.45 / 0.66
"""Milliseconds of ours in ONNX Runtime over World Models', padded: 0.45 where theirs takes 0.66."""
OURS, PADDED, UNPADDED = "robovae", "World Models", "World Models unpadded"
UNPADDED_LEAST = 46
"""Pixels along a side below which nothing is left after four convolutions without padding."""

Frame = NDArray[np.uint8]
Call = Callable[[], object]


@dataclass(frozen=True)
class EncodingConfig:
    """What to measure.

    Raises:
        RobovaeError: no rounds or no calls.
    """

    rounds: int = 20
    """Turns of each way."""
    calls: int = 50
    """Frames in a turn; the figures are over all of them."""
    size: tuple[int, int] = (64, 64)
    """Height and width of a frame where there is no run to say it."""
    seed: int = 0
    """Of the frame and of fresh weights."""

    def __post_init__(self) -> None:
        check_least(self, RobovaeError, seed=0)
        if min(self.rounds, self.calls) < 1:
            raise RobovaeError(f"expected at least one round and one call, received {self}; raise them")


class OurEncoder(nn.Module):
    """A frame's bytes to both beliefs."""

    def __init__(self, vae: VAE) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, frame: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(1, H, W, 3) uint8 -> global mu and sigma (1, D), local mu and sigma (1, c, h, w)."""
        local, belief = self.vae(_images(frame))
        return belief.mu, belief.sigma, local.mu, local.sigma


class WorldModelsEncoder(nn.Module):
    """The encoder of World Models, with so much padding."""

    def __init__(self, size: tuple[int, int], padding: int, latents: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for wide, narrow in zip((3, 32, 64, 128), (32, 64, 128, 256), strict=True):
            layers += [nn.Conv2d(wide, narrow, 4, stride=2, padding=padding), nn.ReLU()]
        self.body = nn.Sequential(*layers, nn.Flatten(1))
        features = self.body(torch.zeros(1, 3, *size)).shape[1]
        self.head = nn.Linear(features, 2 * latents)

    def forward(self, frame: Tensor) -> tuple[Tensor, Tensor]:
        """(1, H, W, 3) uint8 -> mu and sigma (1, 32)."""
        mu, log_sigma = self.head(self.body(_images(frame))).chunk(2, dim=1)
        return mu, log_sigma.exp()


def _images(frame: Tensor) -> Tensor:
    return frame.permute(0, 3, 1, 2).float() / 255.0


def run(
    source: Path | ModelConfig | None = None,
    config: EncodingConfig | None = None,
    on_event: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Measure one frame at a time on one thread.

    Args:
        source: a run directory, or sizes of a fresh model (weights do not matter to its speed); by default
            the default sizes.
        config: what to measure.
        on_event: told in a line what is being done.

    Returns:
        JSON-able: "rows" (a way each: encoder, engine, million multiply-adds, median_ms, p99_ms), "ratio" of
        the medians in ONNX Runtime, ours over World Models' padded one, "target" for it, "config", "machine".

    Raises:
        RobovaeError: ONNX Runtime is not installed, or there is no model in the run.
    """
    config, say = config or EncodingConfig(), on_event or (lambda line: None)
    check_installed(*PACKAGES)
    vae = _model(source, config)
    height, width, _ = vae.frame_shape
    frame = np.random.default_rng(config.seed).integers(0, 256, (1, height, width, 3), dtype=np.uint8)
    encoders = _encoders(vae)
    with threads(1), tempfile.TemporaryDirectory() as folder:
        calls: dict[tuple[str, str], Call] = {}
        for name, encoder in encoders.items():
            say(f"exporting {name}")
            calls[name, "torch"] = _eager(encoder, frame)
            calls[name, "onnxruntime"] = _onnx(encoder, frame, Path(folder) / f"{name}.onnx")
        say(f"{config.rounds} rounds of {config.calls} frames")
        times = _take_turns(calls, config)
    sizes = {name: _million_macs(encoder, frame) for name, encoder in encoders.items()}
    rows = [
        {
            "encoder": name,
            "engine": engine,
            "million_macs": sizes[name],
            "median_ms": round(float(np.median(each)), 4),
            "p99_ms": round(float(np.quantile(each, 0.99)), 4),
        }
        for (name, engine), each in times.items()
    ]
    medians = {name: float(np.median(times[name, "onnxruntime"])) for name in encoders}
    return {
        "rows": rows,
        "ratio": round(medians[OURS] / medians[PADDED], 4),
        "target": round(TARGET_RATIO, 4),
        "frame": [height, width, 3],
        "config": asdict(config) | {"size": [height, width]},
        "machine": provenance.machine(),
        "versions": provenance.versions(),
    }


def _model(source: Path | ModelConfig | None, config: EncodingConfig) -> VAE:
    if isinstance(source, Path):
        return load_model(source).vae.eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return VAE(source or ModelConfig(), (*config.size, 3)).eval()


def _encoders(vae: VAE) -> dict[str, nn.Module]:
    """Ours and World Models', for the frames of `vae`; unpadded only where the frame is large enough."""
    height, width, _ = vae.frame_shape
    encoders: dict[str, nn.Module] = {OURS: OurEncoder(vae)}
    encoders[PADDED] = WorldModelsEncoder((height, width), padding=1)
    if min(height, width) >= UNPADDED_LEAST:
        encoders[UNPADDED] = WorldModelsEncoder((height, width), padding=0)
    return {name: encoder.eval() for name, encoder in encoders.items()}


def _eager(encoder: nn.Module, frame: Frame) -> Call:
    def call() -> object:
        with torch.inference_mode():
            return [part.numpy() for part in encoder(torch.from_numpy(frame))]

    return call


def _onnx(encoder: nn.Module, frame: Frame, path: Path) -> Call:
    """A session on one thread, checked to give what torch gives.

    Raises:
        RobovaeError: the exported encoder gives other numbers.
    """
    import onnxruntime

    with warnings.catch_warnings():  # the exporter without dynamo is deprecated, and three times as quick
        warnings.simplefilter("ignore")
        torch.onnx.export(encoder, (torch.from_numpy(frame),), str(path), dynamo=False, input_names=["frame"])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    inputs = {"frame": frame}
    with torch.inference_mode():
        expected = encoder(torch.from_numpy(frame))
    for own, other in zip(expected, session.run(None, inputs), strict=True):
        if not np.allclose(own.numpy(), other, rtol=1e-3, atol=1e-4):
            raise RobovaeError(f"{path.stem}: ONNX Runtime gives other beliefs than torch; report this")
    return lambda: session.run(None, inputs)


def _take_turns(
    calls: dict[tuple[str, str], Call], config: EncodingConfig
) -> dict[tuple[str, str], NDArray[np.float64]]:
    """Milliseconds of each call, the ways alternating; the first two calls of a turn warm the caches up."""
    times: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    for _ in range(config.rounds):
        for key, call in calls.items():
            call()
            call()
            for _ in range(config.calls):
                begin = time.perf_counter_ns()
                call()
                times[key].append((time.perf_counter_ns() - begin) / 1e6)
    return {key: np.array(each) for key, each in times.items()}


def _million_macs(encoder: nn.Module, frame: Frame) -> float:
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        encoder(torch.from_numpy(frame))
    return round(float(counter.get_total_flops()) / 2e6, 2)
