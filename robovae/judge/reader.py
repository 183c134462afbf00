"""What an error of mu costs: how much worse a probe reads the joints off it.

A stand-in for the return of a policy: there the loss would be of reward, here it is of explained variance of
the joints' positions.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from robovae.evaluate.probe import Probe, ProbeConfig
from robovae.judge.detector import Sees
from robovae.judge.errors import JudgeError, UnreadableError
from robovae.judge.footage import Doubles, Footage

READABLE = 0.5
"""R² on nominal frames from which a value counts: what nominal frames do not tell cannot be lost."""
HARMLESS, HARMFUL = 0.05, 0.20
"""Loss below the first is harmless, from the second on harmful."""


class Reader(Protocol):
    """Measures what an error of mu costs."""

    def lost(self, clean: Doubles, faulted: Doubles, qpos: Doubles, changed: NDArray[np.bool_]) -> float:
        """Share of what clean mu (N, D) tell that faulted mu (N, D) do not on changed frames (N,), 0 to 1.

        Raises:
            UnreadableError: clean mu tell nothing.
        """


class JointReader:
    """An MLP from mu to the joints' positions.

    Args:
        sees: whose mu; the one that is judged.
        train: training footage with qpos.
        joints: as `Camera.describe()` and the episodes' metadata give them.
        config: of the MLP.

    Raises:
        JudgeError: the footage has no qpos, or no joint moves.
    """

    def __init__(
        self,
        sees: Sees,
        train: Footage,
        joints: Sequence[Mapping[str, Any]],
        config: ProbeConfig | None = None,
    ) -> None:
        if train.qpos is None:
            raise JudgeError("expected training footage with qpos, received none; collect with a Camera")
        self._joints = list(joints)
        values = joint_values(train.qpos, self._joints)
        self._moving = values.std(axis=0) > 1e-6
        if not self._moving.any():
            raise JudgeError("expected a joint that moves, received none; collect with another policy")
        self._probe = Probe(sees(train.frames).mu, values[:, self._moving], config or ProbeConfig())

    def lost(self, clean: Doubles, faulted: Doubles, qpos: Doubles, changed: NDArray[np.bool_]) -> float:
        """Share of explained variance that is lost, over the values that clean mu tell with R² >= 0.5.

        Raises:
            UnreadableError: clean mu tell none of them.
        """
        truth = joint_values(qpos, self._joints)[:, self._moving]
        variance = truth.var(axis=0) + 1e-12
        missed = np.square(self._probe(clean) - truth)
        kept = 1 - missed.mean(axis=0) / variance
        readable = kept >= READABLE
        if not readable.any():
            raise UnreadableError(
                f"expected a joint that mu tells with R² >= {READABLE}, received {kept.max():.2f} at best; "
                "train longer"
            )
        # Both on the changed frames: what is hard to read there is no doing of a fault that sets in late.
        told = 1 - missed[changed].mean(axis=0) / variance
        left = 1 - np.square(self._probe(faulted[changed]) - truth[changed]).mean(axis=0) / variance
        whole = max(float(told[readable].clip(0.0).mean()), 1e-12)
        return float(np.clip(1 - left[readable].clip(0.0).mean() / whole, 0.0, 1.0))


def joint_values(qpos: Doubles, joints: Sequence[Mapping[str, Any]]) -> Doubles:
    """Positions (N, nq) -> values (N, k): hinges as points (cos, sin) of the circle, all else as it is."""
    columns: list[Doubles] = []
    for joint in joints:
        first, kind = joint["qpos_index"], joint["type"]
        own = qpos[:, first : first + {"free": 7, "ball": 4}.get(kind, 1)]
        columns += [np.cos(own), np.sin(own)] if kind == "hinge" else [own]
    return np.concatenate(columns, axis=1)


def harm_class(loss: float | None) -> str | None:
    """The name of a loss: "harmless" below 5 %, "harmful" from 20 % on, else "between"; None of None."""
    if loss is None:
        return None
    return "harmless" if loss < HARMLESS else "harmful" if loss >= HARMFUL else "between"
