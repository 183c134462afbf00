"""`robovae faults`."""

import math
from dataclasses import dataclass

from robovae.cli.console import number, show, table_of
from robovae_envs.faults import FAULTS, Fault


@dataclass(frozen=True)
class Faults:
    """List the ways in which a camera fails: name, kind, severities 1 to 5, split.

    Nothing may be tuned on faults of the split TEST. `rest` is the rest of the episode.

    Examples:
      robovae faults
      robovae faults --json | jq '.faults[].name'
    """

    json: bool = False
    """Print one JSON object."""

    def run(self) -> int:
        """Print them."""
        faults = FAULTS.values()
        rows = [
            {
                "fault": fault.name,
                "kind": fault.kind,
                "severities 1-5": " ".join(number(amount) for amount in amounts(fault)),
                "unit": fault.unit,
                "split": fault.split,
                "what": fault.summary,
            }
            for fault in faults
        ]
        show({"faults": [described(fault) for fault in faults]}, self.json, table_of(rows))
        return 0


def described(fault: Fault) -> dict[str, object]:
    """A fault as JSON-able data."""
    return {
        "name": fault.name,
        "kind": fault.kind,
        "split": fault.split,
        "severities": amounts(fault),
        "unit": fault.unit,
        "summary": fault.summary,
    }


def amounts(fault: Fault) -> list[float | str]:
    """The amounts of severities 1 to 5; JSON knows no infinity."""
    return ["rest" if math.isinf(amount) else amount for amount in fault.severities]
