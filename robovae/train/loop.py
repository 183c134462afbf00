"""The training loop: one phase after the other, resumable at any update."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from robovae.episodes import EpisodeStore
from robovae.run.directory import RunModel, model_tensors, set_model_tensors
from robovae.train.checkpoint import Progress, Tensors, load_checkpoint, restore, save_checkpoint
from robovae.train.config import TrainConfig, TrainError
from robovae.train.device import Hardware
from robovae.train.journal import Journal
from robovae.train.muon import Muon
from robovae.train.objectives import Loss, learning_rate
from robovae.train.phases import GlobalPhase, LocalPhase, Metrics, Phase

PHASES: dict[str, type[LocalPhase | GlobalPhase]] = {"local": LocalPhase, "global": GlobalPhase}
EV_LEVELS = (0.5, 0.8, 0.9)
"""The time to reach each of these is remembered."""


@dataclass(frozen=True)
class TrainEvent:
    """What a listener hears."""

    kind: str
    """ "start", "resume", "step", "evaluation", "stop", "skip"."""
    phase: str = ""
    step: int = 0
    steps: int = 0
    frames_per_second: float = 0.0
    metrics: Metrics | None = None
    message: str = ""


OnTrain = Callable[[TrainEvent], None]


@dataclass
class Trainer:
    """The collaborators of a run; nothing is made inside of the loop."""

    model: RunModel
    data: EpisodeStore
    held_out: EpisodeStore
    config: TrainConfig
    hw: Hardware
    journal: Journal
    key: str
    on_event: OnTrain

    def __post_init__(self) -> None:
        self.progress = Progress()
        self.best: Tensors = {}
        self._saved, self._torn = time.monotonic(), False
        self._checkpoint = self.journal.run / "checkpoint.safetensors"

    def fit(self) -> Progress:
        """Train from where the checkpoint stands to the end of the last phase.

        Raises:
            TrainError: the loss is not finite.
            KeyboardInterrupt: after writing a checkpoint, unless it came amid an update: then the one before
                is the last.
        """
        found = load_checkpoint(self._checkpoint, self.key)
        self.progress = found[0] if found else Progress()
        tensors = found[1] if found else None
        self.journal.cut(self.progress)
        names = list(PHASES)
        for name in names[names.index(self.progress.phase) :]:
            if name != self.progress.phase:
                self.progress = Progress(name, seconds=self.progress.seconds, first_ev=self.progress.first_ev)
                self.best = {}
            if tensors:  # the local level must stand before the global phase encodes the data with it
                own = {n: t for n, t in tensors.items() if n.split(".")[0] in ("vae", "dynamics")}
                set_model_tensors(self.model, own, self._checkpoint)
            begin = time.monotonic()
            phase: Phase = PHASES[name](self.model, self.data, self.held_out, self.config, self.hw)
            self.progress.seconds += time.monotonic() - begin
            self._fit_phase(phase, tensors)
            tensors = None
        return self.progress

    def _fit_phase(self, phase: Phase, tensors: Tensors | None) -> None:
        trained = [p for p in phase.objective.parameters() if p.requires_grad]
        optimizer = Muon(trained, phase.peak_lr, self.hw.matrix_dtype)
        if tensors:
            self.best = restore(tensors, self._checkpoint, self.model, phase.objective, optimizer)
        kind = "resume" if tensors else "start"
        self.on_event(TrainEvent(kind, phase.name, self.progress.step, phase.steps, message=self.hw.word))
        objective = self._wrap(phase.objective)
        mark = time.monotonic()
        try:
            while True:
                if self._is_due(phase):
                    self._judge(phase)
                    mark = time.monotonic()
                if self.progress.step == phase.steps or self.progress.stale >= self.config.patience:
                    break
                self._update(phase, objective, optimizer, trained)
                now = time.monotonic()
                self.progress.seconds, mark = self.progress.seconds + now - mark, now
                self._save(phase, optimizer, due=self.config.checkpoint_seconds)
        except KeyboardInterrupt:
            if not self._torn:
                self._save(phase, optimizer, due=0.0)
            raise
        if self.best:
            set_model_tensors(self.model, self.best, self._checkpoint)
        if self.progress.step < phase.steps:
            message = f"no better held-out ELBO in {self.config.patience} evaluations"
            self.on_event(TrainEvent("stop", phase.name, self.progress.step, phase.steps, message=message))

    def _is_due(self, phase: Phase) -> bool:
        """Whether to judge now; asked before an update, so that a resumed run misses no evaluation."""
        step = self.progress.step
        due = step == phase.steps or (step > 0 and step % self.config.evaluate_every == 0)
        return due and step > self.progress.judged

    def _wrap(self, objective: nn.Module) -> nn.Module:
        if self.hw.world > 1:
            ids = [self.hw.device] if self.hw.device.type == "cuda" else None
            # Deterministic models leave the temporal prior out.
            return DistributedDataParallel(objective, device_ids=ids, find_unused_parameters=True)
        return torch.compile(objective) if self.config.compile else objective  # type: ignore[return-value]

    def _update(
        self,
        phase: Phase,
        objective: nn.Module,
        optimizer: torch.optim.Optimizer,
        trained: list[nn.Parameter],
    ) -> None:
        progress = self.progress
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(progress.step, phase.steps, phase.peak_lr)
        with self.hw.autocast():
            loss, numbers = phase.loss(objective, progress.step)
        self._check(loss, numbers, phase)
        optimizer.zero_grad(set_to_none=True)
        loss.total.backward()
        nn.utils.clip_grad_norm_(trained, phase.clip)
        with self._whole():
            optimizer.step()
            progress.step += 1
            progress.frames += len(numbers) * self.hw.world
        self._tell(phase, loss)

    def _check(self, loss: Loss, numbers: NDArray[np.int64], phase: Phase) -> None:
        """Refuse a loss that is not finite, naming the first frame it comes from."""
        if torch.isfinite(loss.total):
            return
        broken = torch.nonzero(~torch.isfinite(loss.by_frame)).flatten().cpu().numpy()
        where = f"{phase.name} phase, update {self.progress.step}"
        if len(broken):
            episodes, times = self.data.locate(numbers[broken[:1]])
            where += f", episode {self.data.seeds[int(episodes[0])]}, frame {int(times[0])}"
        raise TrainError(
            f"expected a finite loss, received {loss.total.item()} in the {where}; "
            f"check the data with `robovae data verify`, or lower {phase.name}_lr"
        )

    def _tell(self, phase: Phase, loss: Loss) -> None:
        step, seconds = self.progress.step, self.journal.phase_seconds(self.progress)
        shown = {name: float(value) for name, value in loss.shown.items()} if step % 10 == 0 else None
        rate = self.progress.frames / max(seconds, 1e-9)
        self.on_event(TrainEvent("step", phase.name, step, phase.steps, rate, shown))

    def _judge(self, phase: Phase) -> None:
        progress, metrics = self.progress, phase.judge()
        elbo = torch.tensor(metrics["elbo"], device=self.hw.device)
        self.hw.share(elbo)  # so that every process stops at the same update
        with self._whole():
            if progress.best_elbo is None or float(elbo) > progress.best_elbo:
                progress.best_elbo, progress.stale = float(elbo), 0
                self.best = {name: tensor.clone() for name, tensor in model_tensors(self.model).items()}
            else:
                progress.stale += 1
            for level in EV_LEVELS:
                if metrics.get("ev", 0.0) >= level:
                    progress.first_ev.setdefault(str(level), round(progress.seconds, 3))
            progress.judged = progress.step
            row = self.journal.add(progress, metrics)
        rate = row["frames_per_second"]
        self.on_event(TrainEvent("evaluation", phase.name, progress.step, phase.steps, rate, metrics))

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """What is done here is done whole, or never saved: an interrupt may come between any two lines."""
        self._torn = True
        yield
        self._torn = False

    def _save(self, phase: Phase, optimizer: torch.optim.Optimizer, due: float) -> None:
        if self.hw.rank == 0 and time.monotonic() - self._saved >= due:
            save_checkpoint(
                self._checkpoint, self.key, self.progress, self.model, phase.objective, optimizer, self.best
            )
            self._saved = time.monotonic()

    def result(self) -> dict[str, Any]:
        """Where the run ended, JSON-able."""
        rows = self.journal.last()
        return {"seconds": self.progress.seconds, "seconds_to_ev": self.progress.first_ev, "final": rows}
