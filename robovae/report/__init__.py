"""The report of a run: one page that a person wants to look at, and its numbers for machines."""

from pathlib import Path

from robovae.records import write_bytes, write_json
from robovae.report.material import Effort, gather
from robovae.report.page import render

__all__ = ["Effort", "write"]


def write(run: Path, data: Path, effort: Effort | None = None) -> Path:
    """Draw the report of a run into `run/report/`.

    Args:
        run: a trained run; a plain autoencoder in `run/ae`, where there is one, is compared with.
        data: the dataset with its train and test splits.
        effort: how much is measured; by default about a minute's worth on 2 cores.

    Returns:
        index.html; figures.json and filmstrip.png lie beside it. Each is written whole or not at all.

    Raises:
        RobovaeError: no model in `run`, or the dataset is missing or another one than the model's.
        OSError: the disk is full or not writable.
    """
    material = gather(run, data, effort or Effort())
    out = run / "report"
    write_bytes(out / "filmstrip.png", material.film_png)
    write_json(out / "figures.json", material.figures)
    return write_bytes(out / "index.html", render(material).encode("utf-8"))
