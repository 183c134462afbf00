"""What is shown while stages run: a bar a phase on a terminal, and the few words that matter anywhere."""

from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from robovae.cli.console import Update, log, number, progress
from robovae.run import StageEvent

WORTH_A_LINE = frozenset({"restart", "fallback", "resume", "skip"})
SHOWN = {
    "ev": "EV",
    "elbo": "ELBO",
    "local_kl": "grid KL",
    "global_kl": "KL",
    "information": "information",
    "active_dims": "active",
}
"""Figures of training that the bar has room for, and their names there."""


class Watcher:
    """Listens to collecting and training: `watcher(stage, event)`. A context manager, so that bars end."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._title = ""
        self._update: Update = lambda done, total, note: None
        self._figures = ""

    def __enter__(self) -> Self:
        """Nothing is shown before the first event."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the bar."""
        self._stack.close()

    def __call__(self, stage: str, event: Any) -> None:
        """Show an event of a stage: a CollectEvent, TrainEvent, CalibrateEvent or PolicyEvent."""
        if stage == "calibrate":
            self._show(f"calibrate, {event.part}", event.done, event.total, "")
            return
        if event.message and (event.kind in WORTH_A_LINE or (event.kind == "stop" and stage != "collect")):
            log(f"{stage}: {event.message}")
        if stage == "collect":
            self._show("collect", event.episodes, event.total, _speed(event.fps))
        elif stage.startswith("policy"):
            known = "" if event.episode_return is None else f"  return {number(event.episode_return)}"
            note = _speed(event.steps_per_second, "steps") + known
            self._show(stage, event.steps, event.total, note)
        elif event.phase:
            self._figures = _figures(event.metrics) if event.kind == "evaluation" else self._figures
            note = f"{_speed(event.frames_per_second)}  {self._figures}"
            self._show(f"{stage}, {event.phase}", event.step, event.steps, note)

    def _show(self, title: str, done: int, total: int, note: str) -> None:
        if title != self._title:
            self._stack.close()
            self._title, self._update = title, self._stack.enter_context(progress(title))
        self._update(done, total, note)


def log_stage(event: StageEvent) -> None:
    """One line a stage, for benchmarks."""
    log(f"{event.stage}: {event.state}: {event.message}")


def _speed(rate: float, unit: str = "frames") -> str:
    return f"{number(round(rate))} {unit}/s" if rate else "starting"


def _figures(metrics: Mapping[str, Any] | None) -> str:
    found = metrics or {}
    return "  ".join(f"{word} {number(found[name])}" for name, word in SHOWN.items() if name in found)
