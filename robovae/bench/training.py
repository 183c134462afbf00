"""Training speed: time to a held-out EV beside a plain World-Models loop and pythae; share of the peak.

All arms see the same frames and are judged on the same held-out ones; judging does not count as training.
"""

import importlib.util
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robovae.bench import rivals
from robovae.bench.clock import Clock, Reconstruct, TrainingConfig, count_flops
from robovae.episodes import EpisodeStore
from robovae.errors import RobovaeError
from robovae.frames import to_tensor
from robovae.provenance import machine, versions
from robovae.run.directory import RunFacts, build_model
from robovae.train.config import TrainConfig
from robovae.train.data import mean_frame
from robovae.train.device import hardware
from robovae.train.muon import Muon
from robovae.train.objectives import learning_rate
from robovae.train.phases import LocalPhase

OnEvent = Callable[[str], None]


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
        raise RobovaeError(f"bench train: expected 64x64 frames, received {store.frame_shape}; collect some")
    centre = mean_frame(store)
    judged = to_tensor(held_out.frames(np.linspace(0, held_out.num_frames - 1, 512).astype(np.int64)))
    total = float((judged - centre).square().sum())

    def judge(reconstruct: Reconstruct) -> float:
        with torch.no_grad():
            parts = [reconstruct(judged[i : i + 128]) for i in range(0, len(judged), 128)]
        return 1.0 - float((torch.cat(parts) - judged).square().sum()) / total

    arms: dict[str, Callable[[Clock], float]] = {
        "robovae": lambda clock: _ours(store, held_out, centre, clock),
        "plain World-Models loop, fp32": lambda clock: rivals.plain(store, centre, clock),
        "pythae trainer, same network": lambda clock: rivals.pythae(store, centre, clock),
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
        "peak": peak,
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
        optimizer = Muon(trained, phase.peak_lr, hw.matrix_dtype)

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
            loss.total.backward()
            nn.utils.clip_grad_norm_(trained, phase.clip)
            optimizer.step()
            if clock.tick(len(numbers), reconstruct):
                break
    return flops
