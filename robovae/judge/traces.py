"""What a monitor decided in whole episodes, remembered by what was seen and by whom."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from robovae import __version__
from robovae.config import to_plain
from robovae.judge.alarms import Watched
from robovae.judge.cells import Run, joined
from robovae.judge.footage import Footage
from robovae.monitor import Calibration, Monitor
from robovae.records import digest, read_json, write_json

FORMAT = 1
"""Version of the records; raise it when a decision changes its meaning."""
TOGETHER = 20
"""Episodes whose frames are in memory at a time."""


class Watches(Protocol):
    """What is needed of a `FrameMonitor`."""

    @property
    def calibration(self) -> Calibration:
        """Its limits."""

    def sequence_scores(self, footage: Footage) -> Mapping[str, NDArray[np.floating]]:
        """Footage of N frames -> (N,) by name; at least the scores of the calibration."""


@dataclass(frozen=True, eq=False)
class Trace:
    """What a monitor decided in one episode."""

    alarm: int | None
    """Step of the first alarm."""
    distrusted: NDArray[np.bool_]
    """(T,) frames that the gate shut out."""

    def __len__(self) -> int:
        return len(self.distrusted)

    def watched(self, onset: int | None = None) -> Watched:
        """With the onset of a fault; an episode that ended before it is a clean one."""
        reached = onset if onset is not None and onset < len(self) else None
        return Watched(len(self), reached, self.alarm)

    def plain(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "alarm": self.alarm,
            "frames": len(self),
            "distrusted": np.flatnonzero(self.distrusted).tolist(),
        }

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Self:
        """From what `plain` gave."""
        distrusted = np.zeros(plain["frames"], np.bool_)
        distrusted[plain["distrusted"]] = True
        return cls(plain["alarm"], distrusted)


def watch(monitor: Watches, footage: Footage) -> list[Trace]:
    """What the monitor decides in each episode; all frames are encoded together, which is faster."""
    scores = monitor.sequence_scores(footage)
    watcher, ends = Monitor(monitor.calibration), np.cumsum(footage.lengths)
    traces = []
    for first, end in zip(ends - footage.lengths, ends, strict=True):
        own = {name: scores[name][first:end] for name in monitor.calibration.evidence.scores}
        verdicts = watcher.watch(own)
        alarm = next((step for step, verdict in enumerate(verdicts) if verdict.alarm), None)
        traces.append(Trace(alarm, np.array([not verdict.trusted for verdict in verdicts])))
    return traces


def watch_each(
    monitor: Watches, runs: Iterable[Run], told: Sequence[Any], cache: Path | None = None
) -> list[Trace]:
    """Watch episodes as they are played, or read what was decided in the very same ones.

    Args:
        monitor: who watches.
        runs: at least one episode, each played when it is asked for.
        told: JSON-able, all that decides the episodes after the first.
        cache: directory of one small JSON for all of them. It is read if `told`, what is seen in the first
            episode, and what the monitor says of it are the same to the bit.
    """
    left = iter(runs)
    first = joined([next(left)])
    path = None if cache is None else cache / f"{_key(monitor, first, told)[:16]}.json"
    known = None if path is None else read_json(path)
    if known is not None:
        return [Trace.of(plain) for plain in known["traces"]]
    traces = watch(monitor, first)
    while some := list(islice(left, TOGETHER)):
        traces += watch(monitor, joined(some))
    if path is not None:
        write_json(path, {"told": list(told), "traces": [trace.plain() for trace in traces]})
    return traces


def _key(monitor: Watches, first: Footage, told: Sequence[Any]) -> str:
    """Digest of all that the traces follow from."""
    said = sha256()
    for name, values in sorted(monitor.sequence_scores(first).items()):
        said.update(name.encode() + np.asarray(values, np.float64).tobytes())
    calibration = to_plain(monitor.calibration)
    return digest([FORMAT, __version__, list(told), first.digest(), said.hexdigest(), calibration])
