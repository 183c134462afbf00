"""What other commands left in a run, for the page to show: whole, or absent, or a line that mends."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from robovae.errors import RobovaeError
from robovae.records import read_json

T = TypeVar("T")


class ReportError(RobovaeError):
    """A file of the run is not what the page can show."""


def read_findings(path: Path, condense: Callable[[dict[str, Any]], T], command: str) -> T | None:
    """The figures of a JSON file; None if there is none.

    Args:
        path: the file.
        condense: takes what the page shows out of it.
        command: what writes it.

    Raises:
        ReportError: it is damaged, or of an older version.
    """
    if not path.is_file():
        return None
    found = read_json(path)
    try:
        if found is None:
            raise ValueError("no JSON object")
        return condense(found)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ReportError(
            f"{path}: expected what `{command}` writes, received another file ({type(error).__name__}: "
            f"{error}); run it again"
        ) from error
