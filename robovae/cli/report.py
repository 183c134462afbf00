"""`robovae report`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from robovae import report
from robovae.cli.console import facts, show
from robovae.errors import RobovaeError
from robovae.records import read_json


@dataclass(frozen=True)
class Report:
    """Measure a run on the test split of its dataset and draw one self-contained page: RUN/report/index.html.

    Examples:
      robovae report runs/reacher --data data/reacher
    """

    run_dir: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The run directory."""
    data: Path
    """The dataset, with episodes of the test split."""
    json: bool = False
    """Print the path of the page and every figure on it as one JSON object."""

    def run(self) -> int:
        """Draw it, and say where it is."""
        page = report.write(self.run_dir, self.data)
        figures = read_json(page.with_name("figures.json"))
        if figures is None:
            raise RobovaeError(f"{page.parent}: expected figures.json beside the page; draw it again")
        show({"report": str(page), "figures": figures}, self.json, facts({"report": page.resolve()}))
        return 0
