"""`robovae export`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from robovae.cli.console import facts, log, number, show
from robovae.export import export_run


@dataclass(frozen=True)
class Export:
    """Write a calibrated run as one ONNX graph: RUN/export/robovae.onnx, described in robovae.json beside it.

    A frame in; its belief, its scores and the filtered belief out, and what the next frame needs to know of
    this one. The graph is compared with torch before it counts. `robovae.load(run, engine="onnx")` and
    `robovae.load_monitor(run, engine="onnx")` then use it, at less than half of the time a frame.

    Examples:
      robovae export runs/reacher
    """

    run_dir: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The run directory."""
    json: bool = False
    """Print one JSON object."""

    def run(self) -> int:
        """Export, and say what came out."""
        log("exporting")
        result = export_run(self.run_dir)
        rows = {
            "graph": result["path"],
            "takes": ", ".join(result["inputs"]),
            "gives": ", ".join(result["outputs"]),
            "differs from torch": f"by {number(result['largest_difference'])} at most",
            "seconds": number(result["seconds"]),
        }
        show({"run": str(self.run_dir), **result}, self.json, facts(rows))
        return 0
