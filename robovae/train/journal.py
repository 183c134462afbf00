"""metrics.jsonl: one row an evaluation, consistent with the checkpoint after a crash."""

import json
from pathlib import Path
from typing import Any

from robovae.errors import RobovaeError
from robovae.records import read_lines, write_lines
from robovae.train.checkpoint import Progress

_ORDER = ("local", "global")


class Journal:
    """Rows of figures in a run directory.

    Args:
        run: the directory.
        writes: False in all processes but the first.
    """

    def __init__(self, run: Path, writes: bool = True) -> None:
        self.run, self._writes = run, writes
        self.path = run / "metrics.jsonl"
        self.rows: list[dict[str, Any]] = []
        self._phase, self._before = "", 0.0

    def cut(self, progress: Progress) -> None:
        """Forget the rows past a checkpoint: their updates will be done again."""
        self.rows = [row for row in read_metrics(self.run) if _is_before(row, progress)]
        if self._writes:
            write_lines(self.path, self.rows)

    def add(self, progress: Progress, metrics: dict[str, Any]) -> dict[str, Any]:
        """Append a row; returns it."""
        seconds = self.phase_seconds(progress)
        row = {
            "phase": progress.phase,
            "step": progress.step,
            "frames": progress.frames,
            "seconds": round(progress.seconds, 3),
            "frames_per_second": round(progress.frames / max(seconds, 1e-9), 1),
            **metrics,
        }
        self.rows.append(row)
        if self._writes:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        return row

    def phase_seconds(self, progress: Progress) -> float:
        """Seconds of training in the present phase, over all attempts."""
        if progress.phase != self._phase:
            earlier = [row["seconds"] for row in self.rows if row["phase"] != progress.phase]
            self._phase, self._before = progress.phase, max(earlier, default=0.0)
        return progress.seconds - self._before

    def last(self) -> dict[str, dict[str, Any]]:
        """The row of the best ELBO of each phase."""
        best: dict[str, dict[str, Any]] = {}
        for row in self.rows:
            if row["phase"] not in best or row["elbo"] > best[row["phase"]]["elbo"]:
                best[row["phase"]] = row
        return best


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The rows of a run, oldest first; a row cut short by a crash is left out.

    Raises:
        RobovaeError: the file cannot be read.
    """
    path = run / "metrics.jsonl"
    try:
        return read_lines(path)
    except (OSError, UnicodeDecodeError) as error:
        raise RobovaeError(f"{path}: expected lines of JSON, received {error}; delete the file") from error


def _is_before(row: dict[str, Any], progress: Progress) -> bool:
    here, there = _ORDER.index(row["phase"]), _ORDER.index(progress.phase)
    return here < there or (here == there and row["step"] <= progress.judged)
