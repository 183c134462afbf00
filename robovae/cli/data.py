"""`robovae data info|verify|pack`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robovae import episodes
from robovae.cli.console import facts, number, progress, show
from robovae.cli.parse import Positional
from robovae.errors import RobovaeError


@dataclass(frozen=True)
class Info:
    """Say what a dataset holds: environment, episodes, frames, splits, camera, versions.

    Examples:
      robovae data info data/reacher
      robovae data info data/reacher --json | jq .splits
    """

    path: Positional[Path]
    """The dataset."""
    json: bool = False
    """Print one JSON object."""

    def run(self) -> int:
        """Print it."""
        found = episodes.info(self.path)
        height, width, _ = found["frame_shape"]
        rows = {
            "dataset": found["path"],
            "environment": found["env_id"],
            "episodes": f"{number(found['episodes'])} in {number(found['files'])} files",
            "frames": f"{number(found['frames'])} of {height}x{width}, {found['bytes'] / 1e6:.1f} MB",
            "splits": ", ".join(f"{name} {count}" for name, count in found["splits"].items()),
            "seeds": "{} to {}".format(*found["seeds"]),
            "steps": spread_of(found["steps"]),
            "return": spread_of(found["returns"]),
            "policy": found["policy"],
            "camera": listed(found["render_spec"] or {}),
            "versions": listed(found["versions"]),
        }
        show(found, self.json, facts(rows))
        return 0


def spread_of(summary: Mapping[str, float | None]) -> str:
    """Mean and range of a summary of numbers."""
    mean, least, most = (summary[name] for name in ("mean", "min", "max"))
    if mean is None or least is None or most is None:
        return "not finite; see robovae data verify"
    return f"mean {mean:.4g}, {least:.4g} to {most:.4g}"


def listed(values: Any) -> str:
    """What is set in a mapping as `name value, name value`; anything else as it is."""
    if not isinstance(values, dict):
        return str(values)
    return ", ".join(f"{name} {value}" for name, value in values.items() if value is not None)


@dataclass(frozen=True)
class Verify:
    """Read every byte of a dataset and list what is damaged; exits with 1 if anything is.

    Examples:
      robovae data verify data/reacher
    """

    path: Positional[Path]
    """The dataset, or one file of it."""
    json: bool = False
    """Print one JSON object."""

    def run(self) -> int:
        """Verify, with progress."""
        count = 0
        with progress("verifying") as update:

            def on_progress(done: int, total: int, file: Path) -> None:
                nonlocal count
                count = total
                update(done, total, file.name)

            problems = episodes.verify(self.path, on_progress)
        lines = [str(problem) for problem in problems]
        word = f"{len(problems)} problems" if problems else "no problem"
        result = {"path": str(self.path), "files": count, "problems": lines}
        show(result, self.json, "\n".join([*lines, f"{self.path}: {number(count)} files, {word}"]))
        return 1 if problems else 0


@dataclass(frozen=True)
class Pack:
    """Merge the episodes of a dataset into large files, for datasets of millions of frames.

    The packed dataset is read exactly like the other; the other stays. An interrupted pack goes on.

    Examples:
      robovae data pack data/reacher --out data/reacher-packed
    """

    path: Positional[Path]
    """The dataset."""
    out: Path
    """Another directory."""
    shard_mb: int = 512
    """Megabytes of a file."""
    json: bool = False
    """Print one JSON object."""

    def run(self) -> int:
        """Pack, with progress."""
        if self.shard_mb < 1:
            raise RobovaeError(f"--shard-mb: expected at least 1, received {self.shard_mb}")
        with progress("packing") as update:

            def on_progress(done: int, total: int, file: Path) -> None:
                update(done, total, file.name)

            shards = episodes.pack(self.path, self.out, self.shard_mb * 2**20, on_progress)
        size = sum(shard.stat().st_size for shard in shards)
        result = {"path": str(self.out), "shards": [shard.name for shard in shards], "bytes": size}
        show(result, self.json, f"{self.out}: {len(shards)} files, {size / 1e6:.1f} MB")
        return 0
