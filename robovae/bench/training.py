"""Training speed: time to a held-out EV beside a plain World-Models loop and pythae; share of the peak.

All arms see the same frames and are judged on the same held-out ones; judging does not count as training.
"""

import contextlib
import importlib.util
import io
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robovae.elbo import optimal_log_likelihood
from robovae.episodes import EpisodeStore
from robovae.errors import RobovaeError
from robovae.frames import to_tensor
from robovae.gaussian import Gaussian, kl
from robovae.provenance import machine, versions
from robovae.run.directory import RunFacts, build_model
from robovae.train.config import TrainConfig
from robovae.train.data import mean_frame
from robovae.train.device import hardware
from robovae.train.objectives import learning_rate
from robovae.train.phases import LocalPhase

OnEvent = Callable[[str], None]
Reconstruct = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of `robovae bench train`.

    Raises:
        RobovaeError: a value is out of range.
    """

    target_ev: float = 0.80
    """Held-out EV to be reached."""
    cap_seconds: float = 240.0
    """An arm that has not got there by then is stopped; its time is a lower bound."""
    judge_seconds: float = 4.0
    """Training time between two looks at the held-out frames."""
    rounds: int = 1
    """How often the arms take turns."""

    def __post_init__(self) -> None:
        if not 0 < self.target_ev < 1 or min(self.cap_seconds, self.judge_seconds, self.rounds) <= 0:
            raise RobovaeError("bench train: expected target_ev between 0 and 1, and the rest above 0")


@dataclass
class Clock:
    """Training time to a level of EV; judging is not counted."""

    config: TrainingConfig
    judge: Callable[[Reconstruct], float]
    seconds: float = 0.0
    frames: int = 0
    ev: float = 0.0
    reached: float | None = None
    _next: float = 0.0
    _mark: float = 0.0

    def start(self) -> None:
        """Begin to count."""
        self._mark, self._next = time.perf_counter(), self.config.judge_seconds

    def tick(self, frames: int, reconstruct: Reconstruct) -> bool:
        """Count an update; True when the arm is to stop."""
        self.seconds += time.perf_counter() - self._mark
        self.frames += frames
        over = self.seconds >= self.config.cap_seconds
        if self.seconds >= self._next or over:
            self.ev = self.judge(reconstruct)
            self._next = self.seconds + self.config.judge_seconds
            if self.ev >= self.config.target_ev:
                self.reached = self.seconds
        self._mark = time.perf_counter()
        return over or self.reached is not None


class WorldModelsVAE(nn.Module):
    """The VAE of World Models (Ha & Schmidhuber, 1803.10122, appendix A.1) for 64x64 frames, latent 32."""

    def __init__(self, latent_dim: int = 32) -> None:
        super().__init__()
        self.encoder = world_models_encoder()
        self.head = nn.Linear(1024, 2 * latent_dim)
        self.widen = nn.Linear(latent_dim, 1024)
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(1024, 128, 5, 2),
            nn.ReLU(),
            nn.ConvTranspose2d(128, 64, 5, 2),
            nn.ReLU(),
            nn.ConvTranspose2d(64, 32, 6, 2),
            nn.ReLU(),
            nn.ConvTranspose2d(32, 3, 6, 2),
        )

    def encode(self, images: Tensor) -> Gaussian:
        """Images (B, 3, 64, 64) -> q(z | x), (B, D)."""
        return Gaussian.of(*self.head(self.encoder(images)).chunk(2, dim=-1))

    def decode(self, z: Tensor) -> Tensor:
        """Draw z (B, D) as (B, 3, 64, 64)."""
        out: Tensor = self.decoder(self.widen(z)[:, :, None, None])
        return out


def world_models_encoder() -> nn.Sequential:
    """Four convolutions of 4x4 at stride 2, 32-64-128-256 maps, flattened to 1024."""
    widths = (3, 32, 64, 128, 256)
    layers: list[nn.Module] = []
    for narrow, wide in itertools.pairwise(widths):
        layers += [nn.Conv2d(narrow, wide, 4, 2), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten())


def run(data: Path, config: TrainingConfig | None = None, on_event: OnEvent | None = None) -> dict[str, Any]:
    """Time the arms on a dataset of 64x64 frames.

    Args:
        data: an episode store with a train split.
        config: see there.
        on_event: told of progress in words.

    Returns:
        {"rows": [...], "peak": GFLOP/s by precision, "config", "machine", "versions"}, JSON-able.

    Raises:
        RobovaeError: the frames are not 64x64, or the dataset cannot be read.
    """
    config, tell = config or TrainingConfig(), on_event or (lambda text: None)
    store, held_out = EpisodeStore(data).split("train").holdout(0.05, seed=0)
    if store.frame_shape != (64, 64, 3):
        raise RobovaeError(f"bench train: expected 64x64 frames, received {store.frame_shape}; --size 64")
    centre = mean_frame(store)
    judged = to_tensor(held_out.frames(np.linspace(0, held_out.num_frames - 1, 512).astype(np.int64)))
    total = float((judged - centre).square().sum())

    def judge(reconstruct: Reconstruct) -> float:
        with torch.no_grad():
            parts = [reconstruct(judged[i : i + 128]) for i in range(0, len(judged), 128)]
        return 1.0 - float((torch.cat(parts) - judged).square().sum()) / total

    arms: dict[str, Callable[[Clock], float]] = {
        "robovae": lambda clock: _ours(store, held_out, centre, clock),
        "plain World-Models loop, fp32": lambda clock: _plain(store, centre, clock),
        "pythae trainer, same network": lambda clock: _pythae(store, centre, clock),
    }
    if importlib.util.find_spec("pythae") is None:
        del arms["pythae trainer, same network"]
        tell("pythae is not installed, its arm is left out: pip install 'robovae[bench]'")
    rows = []
    for turn in range(config.rounds):
        for name, arm in arms.items():
            tell(f"{name}, round {turn + 1} of {config.rounds}")
            clock = Clock(config, judge)
            flops = arm(clock)
            rows.append(_row(name, turn, clock, flops))
    peak = matrix_peak()
    for row in rows:
        precision = "bf16" if row["arm"] == "robovae" and "bf16" in _precision() else "fp32"
        row["share_of_peak"] = row["gflops"] / peak[precision]
    return {
        "rows": rows,
        "peak_gflops": peak,
        "config": vars(config),
        "machine": machine(),
        "versions": versions(),
    }


def _row(name: str, turn: int, clock: Clock, flops: float) -> dict[str, Any]:
    speed = clock.frames / max(clock.seconds, 1e-9)
    return {
        "arm": name,
        "round": turn,
        "frames_per_second": speed,
        "gflops": 3.0 * flops * speed / 1e9,
        "seconds_to_target": clock.reached,
        "seconds": clock.seconds,
        "frames": clock.frames,
        "ev": clock.ev,
    }


def _precision() -> str:
    with hardware(TrainConfig()) as hw:
        return hw.word


def matrix_peak(size: int = 1024, repeats: int = 20) -> dict[str, float]:
    """GFLOP/s of square matrix products in fp32 and bf16, on all threads."""
    peak = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
        for _ in range(3):
            a @ b
        begin = time.perf_counter()
        for _ in range(repeats):
            a @ b
        peak[name] = 2.0 * size**3 * repeats / (time.perf_counter() - begin) / 1e9
    return peak


def count_flops(forward: Callable[[], object]) -> float:
    """Floating-point operations of the convolutions and matrix products in one call."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        forward()
    return float(counter.get_total_flops())


def _ours(store: EpisodeStore, held_out: EpisodeStore, centre: Tensor, clock: Clock) -> float:
    """The local phase of `robovae train` with its defaults."""
    config = TrainConfig()
    facts = RunFacts(store.frame_shape, store.array("action", 0).shape[1], store.env_id, store.render_spec)
    with hardware(config) as hw:
        torch.manual_seed(0)
        model = build_model(config.model, facts)
        model.vae.mean_frame.copy_(centre)
        phase = LocalPhase(model, store, held_out, config, hw)
        trained = [p for p in phase.objective.parameters() if p.requires_grad]
        optimizer = torch.optim.Adam(trained, lr=phase.peak_lr, betas=(0.9, 0.99))

        def reconstruct(images: Tensor) -> Tensor:
            with hw.autocast():
                return model.vae.decode_grid(model.vae.encode_local(images).mu)

        flops = count_flops(lambda: reconstruct(torch.rand(1, *centre.shape)))
        clock.start()
        for step in range(phase.steps):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, phase.steps, phase.peak_lr)
            with hw.autocast():
                loss, numbers = phase.loss(phase.objective, step)
            optimizer.zero_grad(set_to_none=True)
            loss.total.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(trained, phase.clip)
            optimizer.step()
            if clock.tick(len(numbers), reconstruct):
                break
    return flops


def _batches(store: EpisodeStore, size: int) -> Iterator[NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    while True:
        yield store.frames(rng.integers(store.num_frames, size=size))


def _plain(store: EpisodeStore, centre: Tensor, clock: Clock) -> float:
    """An eager fp32 loop with what made it fastest: centred frames, optimal pixel_std, lr 1e-3, batch 64."""
    torch.manual_seed(0)
    model = WorldModelsVAE()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def reconstruct(images: Tensor) -> Tensor:
        return model.decode(model.encode(images - centre).mu) + centre

    flops = count_flops(lambda: reconstruct(torch.rand(1, *centre.shape)))
    clock.start()
    for frames in _batches(store, 64):
        images = to_tensor(frames).contiguous()
        belief = model.encode(images - centre)
        decoded = model.decode(belief.sample(torch.randn_like(belief.mu))) + centre
        nats = kl(belief, Gaussian.standard(belief.mu)).sum(1).mean()
        loss = nats - optimal_log_likelihood(images, decoded)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 500.0)
        optimizer.step()
        if clock.tick(len(frames), reconstruct):
            break
    return flops


def _pythae(store: EpisodeStore, centre: Tensor, clock: Clock) -> float:
    """The VAE and trainer of pythae around the same network; its loss as it is (squared error + KL)."""
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig
    from pythae.trainers.training_callbacks import TrainingCallback

    torch.manual_seed(0)
    network = WorldModelsVAE()

    class Encoder(BaseEncoder):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, x: Tensor) -> Any:
            belief = network.encode(x - centre)
            return ModelOutput(embedding=belief.mu, log_covariance=2.0 * belief.log_sigma)

    class Decoder(BaseDecoder):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, z: Tensor) -> Any:
            return ModelOutput(reconstruction=network.decode(z) + centre)

    def reconstruct(images: Tensor) -> Tensor:
        return network.decode(network.encode(images - centre).mu) + centre

    class StopError(Exception):
        pass

    class Watch(TrainingCallback):  # type: ignore[misc]
        def on_train_step_end(self, training_config: Any, **_: Any) -> None:
            if clock.tick(64, reconstruct):
                raise StopError  # its trainer knows no other way to stop early

    flops = count_flops(lambda: reconstruct(torch.rand(1, *centre.shape)))
    sample = to_tensor(store.frames(np.linspace(0, store.num_frames - 1, 8192).astype(np.int64)))
    model = VAE(VAEConfig(input_dim=(3, 64, 64), latent_dim=32), Encoder(), Decoder())
    with tempfile.TemporaryDirectory() as place, contextlib.redirect_stdout(io.StringIO()):
        settings = BaseTrainerConfig(
            output_dir=place,
            num_epochs=10_000,
            learning_rate=1e-3,
            per_device_train_batch_size=64,
            no_cuda=True,
        )
        trainer = BaseTrainer(
            model, _Images(sample.contiguous()), training_config=settings, callbacks=[Watch()]
        )
        clock.start()
        with contextlib.suppress(StopError):
            trainer.train()
    return flops


class _Images(torch.utils.data.Dataset[Any]):
    """Frames as pythae reads them."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        from pythae.data.datasets import DatasetOutput

        return DatasetOutput(data=self.images[index])
