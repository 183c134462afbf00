"""What the filter is worth: how well it predicts, how it coasts, and what it makes of frames that fail.

Errors are root mean squares against the encoder's mu of the clean frame, over active latents, in deviations
of each over nominal frames. Intervals are bootstraps by episode, 95 %.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robovae.dynamics import FilterDynamics
from robovae.episodes import EpisodeStore
from robovae.evaluate.codes import Codes, Doubles, EvaluateError, column
from robovae.evaluate.intervals import interval, mean
from robovae.evaluate.probe import STILL, ProbeConfig, Target, probe_table
from robovae.evaluate.smoothness import BURN_IN
from robovae.filter.beliefs import Beliefs, Ruler, follow
from robovae.filter.fitting import silenced
from robovae.gaussian import Gaussian
from robovae.tracker import innovations

GAPS = (1, 2, 5, 10, 20)
"""Frames that are coasted over, the last of them being the one that is predicted."""
LEVELS = {"50": 0.6745, "90": 1.6449}
"""Central intervals of a Gaussian and their half widths in deviations."""
ARMS = ("raw", "calibrated", "filtered", "oracle", "constant")
"""The encoder's belief; the calibrated one; the filter's; the filter's when it is told which frames fail; the
filter's when every frame has one sigma, whatever it shows."""
FILTERED = ("filtered", "oracle", "constant")
"""Those of them that the filter gives."""
WIDTHS = {"free": 6, "ball": 3}
"""Numbers in the velocity of a joint, where it is not one."""

Facts = dict[str, Any]
Sums = dict[str, Doubles]
"""By arm: what each of E episodes adds to squares and to their count, (E, 2)."""
_FIRST = 1 + BURN_IN
"""The first frame whose prediction counts: velocity takes two frames to see."""


def predicted(dynamics: FilterDynamics, clean: Beliefs, ruler: Ruler) -> Facts:
    """How well the next frame of clean episodes is predicted.

    Returns:
        "rmse" of the prediction's mean, "hold_rmse" of the frame before, their "ratio"; "nis", the normalised
        innovation squared (Bar-Shalom et al. 2001, 5.4) of the frames' messages, 1 where the prediction's
        width is true, and "coverage" of its intervals by level.

    Raises:
        EvaluateError: no episode is long enough.
    """
    counts = clean.here[:, _FIRST:]
    if not counts.any():
        raise EvaluateError(
            f"expected episodes of at least {_FIRST + 1} frames, received at most {clean.lengths.max()}; "
            "collect longer ones"
        )
    prior, truth = follow(dynamics, clean.total, clean.action).prior, clean.raw
    error = ruler.squares(prior.mu - truth.mu)[:, _FIRST:]
    hold = ruler.squares(truth.mu[:, :-1] - truth.mu[:, 1:])[:, BURN_IN:]
    squared = innovations(prior, truth)[0][:, _FIRST:]
    return {
        "rmse": _rooted(summed(error, counts)),
        "hold_rmse": _rooted(summed(hold, counts)),
        "ratio": ratio(summed(error, counts), summed(hold, counts)),
        "coverage": {
            name: _averaged(summed(ruler.mean((squared <= wide**2).float()), counts))
            for name, wide in LEVELS.items()
        },
        "nis": _averaged(summed(ruler.mean(squared), counts)),
    }


@torch.no_grad()
def coasted(dynamics: FilterDynamics, clean: Beliefs, ruler: Ruler) -> list[Facts]:
    """Prediction error against the length of a gap without frames, from every frame of clean episodes.

    Returns:
        A row a gap that some episode is long enough for: "gap"; "rmse" and "hold_rmse" of the last frame
        before it; "frame_rmse", what the encoder's own sigma allows the frame at its end; "sigma", what the
        prediction's allows, and "coverage_90" of its interval (see `predicted`).
    """
    trace, truth, length = follow(dynamics, clean.total, clean.action), clean.raw, clean.here.shape[1]
    onward = dynamics.fade(trace.posterior, dynamics.heard(clean.total))
    last, memory = onward.map(lambda part: part[:, BURN_IN:]), trace.memory[:, BURN_IN:]
    rows = []
    for gap in range(1, min(max(GAPS), length - _FIRST) + 1):
        # One start less each time: the last has no frame left to be predicted.
        last, memory = last.map(lambda part: part[:, :-1]), memory[:, :-1]
        action, counts = clean.action[:, BURN_IN + gap - 1 : length - 1], clean.here[:, BURN_IN + gap :]
        last, memory = _stepped(dynamics, last, action, memory)
        if gap not in GAPS or not counts.any():
            continue
        end = Gaussian(truth.mu[:, BURN_IN + gap :], truth.log_sigma[:, BURN_IN + gap :])
        squares = {
            "rmse": ruler.squares(last.mu - end.mu),
            "hold_rmse": ruler.squares(truth.mu[:, BURN_IN : length - gap] - end.mu),
            "frame_rmse": ruler.squares(end.sigma),
            "sigma": ruler.squares(last.sigma),
        }
        facts = {name: _rooted(summed(each, counts)) for name, each in squares.items()}
        inside = ruler.mean((innovations(last, end)[0] <= LEVELS["90"] ** 2).float())
        rows.append({"gap": gap, **facts, "coverage_90": _averaged(summed(inside, counts))})
    return rows


def arms(
    dynamics: FilterDynamics, clean: Beliefs, faulted: Beliefs, lost: Tensor, constant: Tensor
) -> dict[str, Tensor]:
    """The means of every arm, (E, L, D) each, when some frames of clean episodes fail.

    Args:
        dynamics: of the filter.
        clean: the episodes.
        faulted: the same with every frame faulted.
        lost: (E, L) which frames fail.
        constant: (D,) the sigma of the last arm.
    """
    raw, total = (
        Gaussian.where(lost[..., None], bad, good)
        for bad, good in ((faulted.raw, clean.raw), (faulted.total, clean.total))
    )
    taken = {
        "filtered": total,
        "oracle": silenced(clean.total, lost),
        "constant": silenced(Gaussian(total.mu, constant.log().expand_as(total.mu)), torch.zeros_like(lost)),
    }
    held = {name: follow(dynamics, lone, clean.action).posterior.mu for name, lone in taken.items()}
    return {"raw": raw.mu, "calibrated": total.mu, **held}


def summed(values: Tensor, counts: Tensor) -> Doubles:
    """Values (E, L) of the frames that count (E, L), summed by episode, and their number: (E, 2)."""
    weight = counts.double()
    sums: Doubles = torch.stack([(values.double() * weight).sum(1), weight.sum(1)], 1).numpy()
    return sums


def pooled(cells: Iterable[Sums]) -> Sums:
    """The sums of several cells of the same episodes."""
    every = list(cells)
    return {name: np.sum([sums[name] for sums in every], axis=0) for name in every[0]}


def compared(sums: Sums) -> Facts:
    """Error of every arm under its name, and "filtered/raw", "filtered/oracle", "constant/filtered"."""
    pairs = (("filtered", "raw"), ("filtered", "oracle"), ("constant", "filtered"))
    return {
        **{name: _rooted(sums[name]) for name in ARMS},
        **{f"{a}/{b}": ratio(sums[a], sums[b]) for a, b in pairs},
    }


def ratio(above: Doubles, below: Doubles) -> Facts | None:
    """Root mean square error over another's of the same frames: value, low, high; None over no error at all.

    Args:
        above: (E, 2) sums.
        below: the same of the other.
    """
    both = np.stack([above[:, 0], below[:, 0]], axis=1)[below[:, 1] > 0]
    return _facts(both, lambda sums: np.sqrt(mean(sums))) if both[:, 1].all() else None


def joint_velocities(store: EpisodeStore) -> list[Target]:
    """The velocity of every joint in the frames of a store; nothing where it does not describe its joints."""
    record = store.records[0]
    joints: Sequence[Mapping[str, Any]] = record.meta.get("joints") or []
    if not joints or "qvel" not in record.spans:
        return []
    qvel, targets = column(store, "qvel"), []
    for number, joint in enumerate(joints):
        name, kind, first = joint.get("name") or f"joint {number}", joint["type"], joint["qvel_index"]
        values = qvel[:, first : first + WIDTHS.get(kind, 1)]
        moves = float(values.std(axis=0).max()) >= 1e-6
        targets.append(Target(name, kind, values if moves else None, None if moves else STILL))
    return targets


def velocities(
    dynamics: FilterDynamics,
    train: tuple[Beliefs, list[Target]],
    test: tuple[Beliefs, list[Target]],
    config: ProbeConfig,
) -> list[Facts]:
    """R² of every joint's velocity on test episodes, read by a probe off the filtered mean and the memory.

    Args:
        dynamics: of the filter.
        train: beliefs and velocities (`joint_velocities`) of whole episodes, to fit on.
        test: those of other episodes.
        config: of the probe.

    Returns:
        The rows of `probe_table`; beside each "mu_r2", read off the encoder's mu of the frame alone, which
        cannot know a velocity. The first frames of an episode are left out, as in `predicted`.
    """
    tables = []
    for alone in (False, True):
        (a, targets), (b, held_out) = (_readable(dynamics, *part, alone) for part in (train, test))
        tables.append(probe_table(a, b, targets, held_out, config))
    return [{**row, "mu_r2": other.get("r2")} for row, other in zip(*tables, strict=True)]


def _readable(
    dynamics: FilterDynamics, beliefs: Beliefs, targets: list[Target], alone: bool
) -> tuple[Codes, list[Target]]:
    """Features and velocities of the frames that have some frames before them."""
    trace = follow(dynamics, beliefs.total, beliefs.action)
    features = beliefs.raw.mu if alone else torch.cat([trace.posterior.mu, trace.memory], 2)
    settled = beliefs.here.clone()
    settled[:, :BURN_IN] = False
    rows = settled[beliefs.here].numpy()
    lengths = settled.sum(1).numpy()
    codes = features[settled].numpy()
    action = beliefs.action[settled].numpy()
    own = [t if t.values is None else replace(t, values=t.values[rows]) for t in targets]
    return Codes(codes, np.ones_like(codes), action, lengths[lengths > 0]), own


def _stepped(
    dynamics: FilterDynamics, last: Gaussian, action: Tensor, memory: Tensor
) -> tuple[Gaussian, Tensor]:
    """A step of (E, S, ...) states at once."""
    shape = memory.shape[:2]
    flat = last.map(lambda part: part.flatten(0, 1))
    prior, after = dynamics.step(flat, *(part.flatten(0, 1) for part in (action, memory)))
    return prior.map(lambda part: part.unflatten(0, shape)), after.unflatten(0, shape)


def _averaged(sums: Doubles) -> Facts:
    return _facts(sums[sums[:, 1] > 0], mean)


def _rooted(sums: Doubles) -> Facts:
    return _facts(sums[sums[:, 1] > 0], lambda some: np.sqrt(mean(some)))


def _facts(sums: Doubles, statistic: Callable[[Doubles], NDArray[np.float64]]) -> Facts:
    low, high = interval(sums, statistic)
    return {"value": float(statistic(sums.sum(axis=0, keepdims=True))[0]), "low": low, "high": high}
