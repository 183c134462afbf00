"""BeliefFeatures: beliefs in, the vectors that a policy sees out."""

from copy import deepcopy

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robovae.belief import Belief
from robovae.control.errors import ControlError
from robovae.filter import BeliefFilter

Floats = NDArray[np.float32]
FEATURES = ("mu", "mu_sigma", "filtered")
"""Means; means and standard deviations; filtered means, moves, the memory of the filter, and last actions."""
_PACE = 3.0
"""Steps over which a filtered mean's last move is drawn out: that of one step is small beside the mean."""
_RECALL = 4
"""Actions that filtered features show: where a limb is hard to see, what drove it tells its pose and pace."""


class BeliefFeatures:
    """What a policy sees of the beliefs of B robots.

    "mu" gives D numbers, "mu_sigma" 2 D (mu, then sigma), of the last `stack` beliefs, oldest first.
    "filtered" gives 2 D + M + 4 A: the mean of the filtered belief, how far it would go in three steps at its
    last pace, what the filter remembers of all before, and the last four actions, oldest first, each in its
    usual size. A stack shows the last moves, each drawn out likewise, the mean and the actions,
    D x stack + 4 A: less, and easier to learn from for a robot that balances.

    Beliefs go in, not frames: for a frame that is not to be trusted, put in `BeliefFilter.silence()`.

    Args:
        latent_dim: D.
        features: one of `FEATURES`.
        stack: how many beliefs to see at once, at least 1.
        belief_filter: what "filtered" filters with, of the same D. It is copied: one filter can serve several
            of these, and each remembers its own robots.

    Raises:
        ControlError: settings that do not go together.
    """

    def __init__(
        self,
        latent_dim: int,
        features: str = "mu",
        stack: int = 1,
        belief_filter: BeliefFilter | None = None,
    ) -> None:
        _check(latent_dim, features, stack, belief_filter)
        self.latent_dim, self.features, self.stack = latent_dim, features, stack
        self._filter = deepcopy(belief_filter) if features == "filtered" else None
        self._depth = stack if self._filter is None else max(stack, 2)  # a move takes two
        self.reset()

    def __repr__(self) -> str:
        return f"BeliefFeatures({self.features}, {self.latent_dim} latents x {self.stack} -> {self.size})"

    @property
    def size(self) -> int:
        """F, width of the features."""
        if self._filter is not None:
            memory = self._filter.memory_dim if self.stack == 1 else 0
            return self.latent_dim * self._depth + memory + _RECALL * self._filter.action_dim
        return self.latent_dim * self.stack * (2 if self.features == "mu_sigma" else 1)

    @property
    def belief(self) -> Belief:
        """The beliefs that the last features were built on, (B, D); of "filtered", the filtered ones.

        Raises:
            ControlError: nothing has begun since `reset`.
        """
        if self._belief is None:
            raise ControlError("expected sequences under way, received none; call begin() first")
        return self._belief

    def reset(self) -> None:
        """Forget all sequences; `begin` starts others, of any number."""
        self._belief: Belief | None = None
        self._seen: Floats = np.zeros((0, self._depth, 1), np.float32)
        if self._filter is not None:
            self._filter.reset()
            self._actions = RecentActions(self._filter.action_scale)

    def begin(self, belief: Belief, rows: ArrayLike | None = None) -> Floats:
        """Take in the first beliefs of sequences; a stack is filled with copies of them.

        Args:
            belief: (R, D).
            rows: numbers of the sequences (R,) that end and give way to these; None: all do, so that B = R.

        Returns:
            Features of those that begin, (R, F).

        Raises:
            ControlError: a belief of another width or not finite; rows that are not R of the B, each once.
        """
        if rows is None:
            _check_belief(belief, (len(belief), self.latent_dim))
            self.reset()
            self._belief = belief if self._filter is None else self._filter.update(belief)
            self._seen = np.repeat(self._latest(self._belief)[:, None], self._depth, axis=1)
            if self._filter is not None:
                self._actions.begin(len(belief))
            return self._flat()
        chosen = self._checked_rows(rows)
        _check_belief(belief, (len(chosen), self.latent_dim))
        first = belief if self._filter is None else self._filter.begin(belief, chosen)
        self._belief = _with_rows(self.belief, first, chosen)
        self._seen[chosen] = self._latest(self._belief)[chosen, None]
        if self._filter is not None:
            self._actions.forget(chosen)
        return self._flat()[chosen]

    def update(self, belief: Belief, action: ArrayLike | None = None) -> Floats:
        """Take in the next beliefs of all sequences.

        Args:
            belief: of the frames on their own, (B, D).
            action: what led to these frames, (B, A); "filtered" must have it, the others do not look at it.

        Returns:
            Features, (B, F).

        Raises:
            ControlError: nothing has begun; a belief of another number or width, or not finite; no action.
            BeliefError: an action of another width than the filter's, or not finite.
        """
        _check_belief(belief, (len(self.belief), self.latent_dim))
        if self._filter is not None:
            if action is None:
                raise ControlError('action: expected what led to these frames for "filtered", received none')
            belief = self._filter.update(belief, action)
            self._actions.add(np.asarray(action, np.float32).reshape(len(belief), -1))
        self._belief = belief
        self._seen = np.concatenate([self._seen[:, 1:], self._latest(belief)[:, None]], axis=1)
        return self._flat()

    def _latest(self, belief: Belief) -> Floats:
        """What is kept of one moment, (B, D) or (B, 2 D)."""
        if self.features == "mu_sigma":
            return np.concatenate([belief.mu, belief.sigma], axis=1)
        return belief.mu

    def _flat(self) -> Floats:
        if self._filter is not None:
            memory = self._filter.memory if self.stack == 1 else None
            return filtered_features(self._seen, memory, self._actions.seen)
        flat: Floats = self._seen.reshape(len(self._seen), -1).copy()
        return flat

    def _checked_rows(self, rows: ArrayLike) -> NDArray[np.int64]:
        chosen, count = np.atleast_1d(np.asarray(rows, np.int64)), len(self.belief)
        if len(set(chosen.tolist())) < len(chosen) or not ((chosen >= 0) & (chosen < count)).all():
            raise ControlError(
                f"rows: expected different numbers from 0 to {count - 1}, received {chosen.tolist()}"
            )
        return chosen


class RecentActions:
    """The last actions of B robots, in their usual sizes; before the first ones were zeros.

    Args:
        scale: usual size of each, (A,).
    """

    def __init__(self, scale: Floats) -> None:
        self._scale = scale
        self.begin(0)

    @property
    def seen(self) -> Floats:
        """Oldest first, (B, 4 A)."""
        return self._rows.reshape(len(self._rows), -1)

    def begin(self, count: int) -> None:
        """So many robots have not acted yet."""
        self._rows = np.zeros((count, _RECALL, len(self._scale)), np.float32)

    def forget(self, rows: NDArray[np.int64]) -> None:
        """Some of them begin anew."""
        self._rows[rows] = 0.0

    def add(self, action: Floats) -> None:
        """All of them have acted, (B, A)."""
        self._rows = np.concatenate([self._rows[:, 1:], (action / self._scale)[:, None]], axis=1)


def filtered_features(means: Floats, memory: Floats | None, actions: Floats) -> Floats:
    """What "filtered" shows.

    Args:
        means: the last filtered means, oldest first, (B, K, D).
        memory: of the filter, (B, M), where there is no stack.
        actions: the last ones, (B, 4 A).

    Returns:
        The K - 1 moves, drawn out, then the last mean, and the actions, (B, K D + 4 A); with a memory mean,
        moves, memory, actions, (B, K D + M + 4 A).
    """
    mean, moves = means[:, -1], (_PACE * np.diff(means, axis=1)).reshape(len(means), -1)
    parts = [moves, mean] if memory is None else [mean, moves, memory]
    return np.concatenate([*parts, actions], axis=1, dtype=np.float32)


def _check(latent_dim: int, features: str, stack: int, belief_filter: BeliefFilter | None) -> None:
    if features not in FEATURES:
        raise ControlError(f"features: expected one of {', '.join(FEATURES)}, received {features!r}")
    if stack < 1:
        raise ControlError(f"stack: expected 1 or more, received {stack}")
    if features != "filtered":
        return
    if belief_filter is None:
        raise ControlError(
            'features "filtered": expected a belief_filter, received none; pass BeliefFilter.load(run)'
        )
    if belief_filter.latent_dim != latent_dim:
        raise ControlError(
            f"belief_filter: expected {latent_dim} latents, received {belief_filter.latent_dim}; "
            "load the perceiver and the filter from one run"
        )


def _check_belief(belief: Belief, shape: tuple[int, int]) -> None:
    if belief.mu.shape != shape:
        raise ControlError(
            f"belief: expected mu {shape}, received {belief.mu.shape}; begin() starts other sequences"
        )
    if not (np.isfinite(belief.mu).all() and np.isfinite(belief.sigma).all()):
        raise ControlError("belief: expected finite numbers, received NaN or infinity; pass silence()")


def _with_rows(belief: Belief, first: Belief, rows: NDArray[np.int64]) -> Belief:
    mu, sigma = belief.mu.copy(), belief.sigma.copy()
    mu[rows], sigma[rows] = first.mu, first.sigma
    return Belief(mu, sigma)
