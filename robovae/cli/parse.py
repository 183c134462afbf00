"""Words of a command line -> a command, through tyro; what does not fit becomes one line."""

import contextlib
import inspect
import io
import re
from collections.abc import Sequence
from typing import Annotated, Protocol, TypeVar

import tyro

from robovae.errors import RobovaeError


class Command(Protocol):
    """A command: a frozen dataclass whose fields are its options."""

    def run(self) -> int:
        """Do it; returns the exit code."""


C = TypeVar("C", bound=Command)
T = TypeVar("T")

Positional = Annotated[T, tyro.conf.Positional]
"""An option without a name: `out: Positional[Path]`."""


def parse(command: type[C], words: Sequence[str], prog: str) -> C:
    """Build a command from the words after its name; its docstring is the help.

    Raises:
        RobovaeError: a word does not fit, in one line.
        SystemExit: help was asked for.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(
                command,
                prog=prog,
                description=inspect.getdoc(command),
                args=list(words),
                config=(tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes),
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise RobovaeError(f"{one_line(said.getvalue())}; see {prog} --help") from None


def one_line(box: str) -> str:
    """The message in one of tyro's boxes, without frame, rules and the pointer to the help."""
    text = re.sub(r"[╭╰│├─╮╯┤]+|-{5,}", " ", "\n".join(box.splitlines()[1:]))
    return " ".join(re.split(r"For full helptext|Argument helptext", text)[0].split()).rstrip(".")
