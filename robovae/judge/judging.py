"""One `judge()` for the command line and the benchmark: scores, sigma and harm over the fault suite."""

import hashlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robovae import __version__
from robovae.belief import Belief, Floats
from robovae.config import to_plain
from robovae.judge.cells import Cell, Faulted, FaultFacts, MakeEnv, Twins, plan
from robovae.judge.config import JudgeConfig
from robovae.judge.errors import JudgeError, UnreadableError
from robovae.judge.footage import Footage
from robovae.judge.metrics import auroc
from robovae.judge.reader import harm_class
from robovae.judge.strangeness import Ground, Nominal
from robovae.judge.subject import Subject
from robovae.judge.summary import summarise
from robovae.judge.truth import Reference, widening
from robovae.records import digest, read_json, write_json

FORMAT = 6
"""Version of a cell's record; raise it when a figure changes its meaning."""
CONTROL_EPISODES = 2
"""Episodes on which severity 0 of every fault must change nothing."""

OnCell = Callable[[Cell, Mapping[str, Any], bool], None]
"""Told of each cell, its row, and whether it was read from the cache."""


class _Court:
    """What is computed once for all cells."""

    def __init__(self, subject: Subject, ground: Ground, twins: Twins, config: JudgeConfig) -> None:
        self.subject, self.twins, self.config = subject, twins, config
        self.nominal = Nominal.of(ground, subject.scores)
        clean = twins.clean
        self.clean = {"total": subject.total(clean.frames), "raw": subject.raw(clean.frames)}
        # Both are held against what the encoder says of the clean twin: calibration moves mu too, and its own
        # would be easier to hit, the more alike it makes all frames.
        mu = self.clean["raw"].mu
        self.reference = {
            name: Reference.of(Belief(mu, belief.sigma), clean.episode) for name, belief in self.clean.items()
        }
        self.widening = {name: self._widening(side) for name, side in ground.sides.items()}
        self._clean_scores = subject.scores(clean.first(CONTROL_EPISODES))
        self._known = self._fingerprint()

    def key(self, cell: Cell) -> str:
        """Digest of all that a cell's row follows from: what is seen, and what the subject says."""
        first = hashlib.sha256(self.twins.glimpse(cell).tobytes()).hexdigest()
        how = [FORMAT, __version__, self.config.draws, self.config.seed]
        return digest([*how, to_plain(cell), self._known, first])

    def hear(self, faulted: Faulted) -> dict[str, Any]:
        """The row of a cell."""
        cell, footage, changed = faulted.cell, faulted.footage, faulted.changed
        total = self.subject.total(footage.frames)
        scores = self.subject.scores_beside(footage, total)
        config = self.config
        truth = {
            "total": self.reference["total"].compare(total, changed),
            "raw": self.reference["raw"].compare(self.subject.raw(footage.frames), changed),
        }
        loss = self._loss(total.mu, changed)
        error = truth["total"]["rms_error"]["value"]
        return {
            **to_plain(cell),
            "psnr": faulted.psnr,
            "changed": float(changed.mean()),
            "episodes": len(footage.lengths),
            "frames": len(footage),
            "scores": self.nominal.row(
                scores, footage.lengths, changed, draws=config.draws, seed=config.seed
            ),
            "truth": truth,
            "harm": {"rms_error": error, "loss": loss, "class": harm_class(loss)},
        }

    def check_identity(self, cell: Cell) -> float:
        """AUROC of severity 0 against the clean twins, which must be 0.5 to the bit for every score.

        Raises:
            JudgeError: severity 0 changes pixels, or a score gives the same frames other numbers.
        """
        faulted = self.twins.faulted(cell, CONTROL_EPISODES).footage
        for name, values in self.subject.scores(faulted).items():
            found = auroc(values, self._clean_scores[name])
            if found != 0.5:
                raise JudgeError(
                    f"{cell}, score {name!r}: expected AUROC 0.5 on identical frames, received {found}; "
                    "a score must depend on its frames alone"
                )
        return 0.5

    def _widening(self, side: Footage) -> float:
        total = self.subject.total(side.frames)
        return widening(total, self.subject.raw(side.frames), self.reference["raw"].active)

    def _loss(self, mu: Floats, changed: NDArray[np.bool_]) -> float | None:
        """What the mu of faulted frames no longer tell; None where there is nothing to be read."""
        qpos, clean = self.twins.clean.qpos, self.clean["total"].mu.astype(np.float64)
        if self.subject.reader is None or qpos is None:
            return None
        try:
            return self.subject.reader.lost(clean, mu.astype(np.float64), qpos, changed)
        except UnreadableError:
            return None

    def _fingerprint(self) -> str:
        hashed = hashlib.sha256(self.twins.clean.digest().encode())
        for belief in self.clean.values():
            hashed.update(belief.mu.tobytes() + belief.sigma.tobytes())
        for side, samples in self.nominal.sides.items():
            for name, sample in samples.items():
                hashed.update(f"{side} {name} {self.nominal.limits.get(name)}".encode())
                hashed.update(sample.values.tobytes() + sample.episode.tobytes())
        mu = self.clean["total"].mu
        loss = self._loss(np.roll(mu, 1, axis=0), np.ones(len(mu), np.bool_))
        hashed.update(repr(loss).encode())
        return hashed.hexdigest()


def judge(
    subject: Subject,
    ground: Ground,
    make_env: MakeEnv,
    faults: Mapping[str, FaultFacts],
    config: JudgeConfig | None = None,
    *,
    cache: Path | None = None,
    on_cell: OnCell | None = None,
) -> dict[str, Any]:
    """Judge scores and beliefs over the fault suite.

    Args:
        subject: what is judged.
        ground: nominal footage to tell faults from, cut at the same number of steps.
        make_env: (fault, severity) -> environment, (None, 0) the nominal one.
        faults: all there are, by name.
        config: how much.
        cache: directory of one small JSON a cell. A cell is read from there if what is seen in its first
            episode, and all that the subject says of nominal frames, are the same to the bit.
        on_cell: told of each cell.

    Returns:
        JSON-able. "cells": a row each, with fault, severity, kind, split, psnr, changed (share of the frames
        that differ from the clean twin's; only they count), "scores" (see `Nominal.row`), "truth" (see
        `Reference.compare`) and "harm": error of mu in nominal deviations, loss of what a probe reads and its
        class, both None where nothing can be read.
        "summary": see `summarise`. "nominal": see `Nominal.facts`. "widening": of the nominal frames of each
        side ("test", "rare"), see `robovae.judge.truth.widening`. "controls": AUROC of severity 0 by fault.
        "config", "seconds".

    Raises:
        JudgeError: a fault does nothing or touches the physics, severity 0 changes something, a score is no
            number, or there is no such fault.
    """
    begin = time.monotonic()
    config = config or JudgeConfig()
    names = config.faults or tuple(faults)
    cells, identities = plan(faults, names, config.severities), plan(faults, names, (0,))
    seeds = range(config.first_seed, config.first_seed + config.episodes)
    twins = Twins(make_env, seeds, steps=config.steps, policy=config.policy)
    court = _Court(subject, ground, twins, config)
    controls = {cell.fault: court.check_identity(cell) for cell in identities}
    rows = [_row(court, cell, cache, on_cell) for cell in cells]
    nominal = court.nominal.facts()
    return {
        "config": to_plain(config),
        "cells": rows,
        "summary": summarise(rows, nominal, draws=config.draws, seed=config.seed),
        "nominal": nominal,
        "widening": court.widening,
        "controls": {"severity_0": controls},
        "seconds": round(time.monotonic() - begin, 1),
    }


def _row(court: _Court, cell: Cell, cache: Path | None, on_cell: OnCell | None) -> dict[str, Any]:
    """A cell's row, from the cache where it is there."""
    path = None if cache is None else cache / f"{cell.fault}-{cell.severity}-{court.key(cell)[:16]}.json"
    row = None if path is None else read_json(path)
    cached = row is not None
    if row is None:
        row = court.hear(court.twins.faulted(cell))
        if path is not None:
            write_json(path, row)
    if on_cell is not None:
        on_cell(cell, row, cached)
    return row
