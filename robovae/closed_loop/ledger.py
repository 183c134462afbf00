"""The ledger: episodes that were played, a line each, so that the same command goes on where it stopped."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robovae.records import read_lines

Row = dict[str, Any]


class Ledger:
    """Rows by key in a file of JSON lines; what does not hold a whole row is passed over.

    Args:
        path: the file; it is made with the first row.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows = {row["key"]: row for row in read_lines(path) if isinstance(row.get("key"), str)}

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, key: str) -> bool:
        return key in self._rows

    def __getitem__(self, key: str) -> Mapping[str, Any]:
        return self._rows[key]

    def add(self, rows: Sequence[Row]) -> None:
        """Write rows; each has a "key".

        Raises:
            OSError: the disk is full or not writable.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            if file.tell():
                file.seek(-1, 2)
                whole = file.read(1) == b"\n"
            else:
                whole = True
            lines = "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows)
            file.write(("" if whole else "\n").encode() + lines.encode())
        self._rows.update({row["key"]: row for row in rows})
