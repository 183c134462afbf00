"""Where training runs and how fast it may: device, precision, threads, processes."""

import contextlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from robovae.device import flushed_denormals, threads, usable_device
from robovae.train.config import TrainConfig, TrainError


@dataclass(frozen=True)
class Hardware:
    """One process of a run."""

    device: torch.device
    bf16: bool
    rank: int
    world: int

    def autocast(self) -> AbstractContextManager[Any]:
        """Convolutions and matrix products in bf16, where this run uses it."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16)

    @property
    def matrix_dtype(self) -> torch.dtype:
        """What matrices are multiplied in."""
        return torch.bfloat16 if self.bf16 else torch.float32

    def share(self, tensor: torch.Tensor) -> None:
        """Overwrite a tensor in every process with that of the first."""
        if self.world > 1:
            dist.broadcast(tensor, 0)

    @property
    def word(self) -> str:
        """For people: "cpu, bf16, 2 threads"."""
        threads = f", {torch.get_num_threads()} threads" if self.device.type == "cpu" else ""
        processes = f", {self.world} processes" if self.world > 1 else ""
        return f"{self.device}, {'bf16' if self.bf16 else 'fp32'}{threads}{processes}"


@contextlib.contextmanager
def hardware(config: TrainConfig) -> Iterator[Hardware]:
    """Set torch up for a run; joins the process group when started by torchrun.

    Raises:
        TrainError: the device is none to train on.
        DeviceError: it is not there.
    """
    kind = config.device
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    if kind.partition(":")[0] not in ("cpu", "cuda"):
        raise TrainError(f"device: expected cpu, cuda or auto, received {kind!r}")
    usable_device(kind)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    count = torch.get_num_threads()
    if kind == "cpu":
        count = config.threads or max(1, len(os.sched_getaffinity(0)) // world)
    # A collapsing run fills up with denormal numbers.
    with threads(count), flushed_denormals(), _process_group(kind, world):
        rank = dist.get_rank() if world > 1 else 0
        if kind == "cuda" and world > 1:
            kind = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        yield Hardware(torch.device(kind), _use_bf16(config.precision, kind), rank, world)


@contextlib.contextmanager
def _process_group(kind: str, world: int) -> Iterator[None]:
    """The processes of a run as one; a run of one needs none."""
    if world == 1:
        yield
        return
    dist.init_process_group("nccl" if kind.startswith("cuda") else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def _use_bf16(precision: str, kind: str) -> bool:
    if precision != "auto":
        return precision == "bf16"
    if kind.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported())
    cpu_info = Path("/proc/cpuinfo")
    flags = cpu_info.read_text() if cpu_info.is_file() else ""
    return "amx_bf16" in flags or "avx512_bf16" in flags
