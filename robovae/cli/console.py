"""What a command shows: results on stdout, everything else on stderr, progress on a terminal only."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

Update = Callable[[int, int, str], None]
"""Told of things done, things in all, and a note."""

WIDE = 200  # a table in a pipe is read by a program or a pager: never folded


def log(message: str) -> None:
    """One line on stderr; silent in the processes that only help another (torchrun's ranks above 0)."""
    if os.environ.get("RANK", "0") == "0":
        print(message, file=sys.stderr, flush=True)


def show(data: Mapping[str, Any], as_json: bool, *human: RenderableType) -> None:
    """The result on stdout: one JSON object, or what people read."""
    if as_json:
        print(json.dumps(data, ensure_ascii=False, allow_nan=False))
        return
    console = Console(width=None if sys.stdout.isatty() else WIDE)
    with console.capture() as said:
        for item in human:
            console.print(item, highlight=False, soft_wrap=isinstance(item, str), markup=False)
    print("\n".join(line.rstrip() for line in said.get().splitlines()))


def facts(rows: Mapping[str, Any], title: str | None = None) -> Table:
    """Names and values as a plain two-column table."""
    table = Table(title=title, title_justify="left", show_header=False, box=None, pad_edge=False)
    table.add_column(style="dim")
    table.add_column()
    for name, value in rows.items():
        table.add_row(name, str(value))
    return table


def table_of(rows: Sequence[Mapping[str, Any]], title: str | None = None) -> Table:
    """Rows as a table, numbers to the right; lists among the values are left to --json."""
    columns = dict.fromkeys(
        name for row in rows for name, value in row.items() if not isinstance(value, list)
    )
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in columns:
        numeric = all(isinstance(row.get(name, 0), int | float) for row in rows)
        table.add_column(name.replace("_", " "), justify="right" if numeric else "left")
    for row in rows:
        table.add_row(*(number(row.get(name)) for name in columns))
    return table


def number(value: Any) -> str:
    """A value as people read it: four digits, thousands in groups, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.4g}"


@contextmanager
def progress(title: str) -> Iterator[Update]:
    """A progress bar on a terminal; nothing in a pipe. Yields what is called with (done, total, note)."""
    console = Console(stderr=True)
    if not console.is_terminal or os.environ.get("RANK", "0") != "0":
        yield lambda done, total, note: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", style="dim"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=None, note="")
        yield lambda done, total, note: bar.update(task, completed=done, total=total, note=note)
