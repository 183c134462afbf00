"""A stopwatch for training: time until held-out frames are explained well enough, judging not counted."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from robovae.errors import RobovaeError

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


def count_flops(forward: Callable[[], object]) -> float:
    """Floating-point operations of the convolutions and matrix products in one call."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        forward()
    return float(counter.get_total_flops())
