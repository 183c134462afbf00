"""`robovae bench ...`: measurements that anyone can repeat."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from robovae.bench.reading import ReadingConfig
from robovae.cli.collect import env_factory
from robovae.cli.console import log, show, table_of


@dataclass(frozen=True)
class Read:
    """Time random training batches from the episode store, beside the formats users would pick.

    All formats hold the same frames and take turns, warm and cold. The other formats come with
    pip install 'robovae[bench]'; those that are missing are left out and named.

    Examples:
      robovae bench read
      robovae bench read --data data/reacher --frames 10000 --json
    """

    data: Path | None = None
    """A dataset; without one, frames of --env are collected first."""
    env: str = "Reacher-v5"
    """Environment to take frames from."""
    size: str = "64"
    """Pixels of a frame: a side, or HxW."""
    config: ReadingConfig = field(default_factory=ReadingConfig)
    json: bool = False
    """Print one JSON object."""

    def run(self) -> int:
        """Measure, and print a row for each format."""
        from robovae.bench import reading

        source = self.data or env_factory(self.env, self.size, "fast")
        found = reading.run(source, self.config, on_event=log)
        show(found, self.json, *tables(found))
        return 0


def tables(found: dict[str, Any]) -> list[RenderableType]:
    """A benchmark's rows and ratios as people read them."""
    ratios = [{"times as fast as": name, **values} for name, values in found.get("ratios", {}).items()]
    return [table_of(found["rows"]), *(["", table_of(ratios)] if ratios else [])]
