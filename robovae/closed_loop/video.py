"""The film of the loop: nominal, faulted, and faulted under the guard, side by side, step by step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from robovae.closed_loop.arms import Arm, Frames
from robovae.closed_loop.condition import CLEAN, Condition
from robovae.closed_loop.crew import MakeEnv
from robovae.closed_loop.errors import ClosedLoopError
from robovae.closed_loop.playing import play
from robovae.closed_loop.summary import guarded_arm, plain_arm

SIDE = 192
"""Pixels of a column at least; frames are enlarged by a whole number."""
BAND = 22
"""Height of the words above and below a frame, pixels."""
COLOURS = {
    "policy": (46, 125, 80),
    "coast": (196, 128, 20),
    "fallback": (178, 48, 48),
    "ended": (110, 110, 110),
}
"""Of the band that names the mode, RGB."""
DARK, LIGHT, FAULT = (24, 24, 24), (235, 235, 235), (255, 196, 60)
FPS = 12.0
"""Steps a second when it is shown: slower than life, so that modes can be read."""


class Shot(NamedTuple):
    """A frame as it was delivered, and what was made of it."""

    frame: Frames
    mode: str
    faulted: bool


@dataclass(frozen=True, eq=False)
class Column:
    """An episode beside others."""

    title: str
    shots: Sequence[Shot]
    total: float
    """Its return."""


def record(
    make_env: MakeEnv, arms: Mapping[str, Arm], condition: Condition, seed: int, steps: int, longest: int = 20
) -> list[Column]:
    """The nominal arm in a clean episode, the same under a fault, and the guarded arm under it.

    Args:
        make_env: see `robovae.closed_loop.crew.MakeEnv`.
        arms: "nominal" or "filter", and "both" or "guard" if there is to be a third column.
        condition: of the second and third column.
        seed: of the episode, the same in all.
        steps: after how many it is cut.
        longest: steps in the longest burst.

    Raises:
        ClosedLoopError: there is no arm to show.
    """
    plain, guarded = plain_arm(arms), guarded_arm(arms)
    if plain not in arms:
        raise ClosedLoopError(f"expected an arm nominal or filter, received {', '.join(arms) or 'none'}")
    wanted = [("nominal", CLEAN, plain), (str(condition), condition, plain)]
    if guarded is not None:
        wanted.append(("the same, guarded", condition, guarded))
    return [
        _column(title, make_env, arms[name], one, seed, steps, one.windows(seed, steps, longest))
        for title, one, name in wanted
    ]


def side_by_side(columns: Sequence[Column]) -> Frames:
    """Columns as one film: (T, H, W, 3) uint8, T the steps of the longest; others stay at their last frame.

    A frame stands between its title, yellow while a fault is there, and the mode of the action it led to; at
    the end, the return.
    """
    length = max(len(one.shots) for one in columns)
    return np.stack([np.concatenate([_pane(one, step) for one in columns], axis=1) for step in range(length)])


def _column(
    title: str,
    make_env: MakeEnv,
    arm: Arm,
    condition: Condition,
    seed: int,
    steps: int,
    windows: tuple[tuple[int, int], ...],
) -> Column:
    shots: list[Shot] = []
    env = make_env(condition.fault, condition.severity, windows)
    try:
        played = play(env, arm, seed, steps, lambda *seen: shots.append(Shot(*seen)))
    finally:
        env.close()
    return Column(title, shots, played.total)


def _pane(column: Column, step: int) -> Frames:
    """One column at one step: title, frame, mode."""
    ended = step >= len(column.shots)
    shot = column.shots[-1 if ended else step]
    factor = max(1, round(SIDE / shot.frame.shape[1]))
    frame = shot.frame.repeat(factor, axis=0).repeat(factor, axis=1)
    mode = "ended" if ended else shot.mode
    words = f"return {column.total:.1f}" if ended or step == len(column.shots) - 1 else mode
    top = _band(frame.shape[1], column.title, DARK, FAULT if shot.faulted else LIGHT)
    pane = np.concatenate([top, frame, _band(frame.shape[1], words, COLOURS[mode], LIGHT)])
    return np.pad(pane, ((0, 0), (1, 1), (0, 0)))


def _band(width: int, words: str, ground: tuple[int, int, int], ink: tuple[int, int, int]) -> Frames:
    band = np.full((BAND, width, 3), ground, np.uint8)
    cv2.putText(band, words, (5, BAND - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.4, ink, 1, cv2.LINE_AA)
    return band
