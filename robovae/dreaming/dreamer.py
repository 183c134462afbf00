"""Dreamer: a real beginning, then latents and frames that the dynamics imagine for a policy's actions."""

from os import PathLike
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from robovae.belief import Belief, Perceiver
from robovae.dreaming.acting import Actor, Policy, actor, checked
from robovae.dreaming.errors import DreamError
from robovae.dreaming.result import Dream, Imagined
from robovae.dynamics import FilterDynamics
from robovae.filter import BeliefFilter
from robovae.gaussian import LOG_SIGMA_RANGE, Gaussian

Start = NDArray[np.uint8] | Belief | tuple[NDArray[np.uint8] | Belief, NDArray[Any]]
"""One frame (H, W, 3), or one belief (1, D); or T of either and the T - 1 actions (T - 1, A) between them."""


class Dreamer:
    """Dreams with the eyes and the dynamics of one run.

    Args:
        perceiver: reads the beginning and decodes the dream.
        dynamics: p(z_t | z_<t, a_<t), which the run's filter predicts with.

    Raises:
        DreamError: they are of different widths.
    """

    def __init__(self, perceiver: Perceiver, dynamics: FilterDynamics) -> None:
        self.perceiver, self.dynamics = perceiver, dynamics
        if (width := BeliefFilter(dynamics).latent_dim) != perceiver.latent_dim:
            raise DreamError(
                f"dynamics: expected {perceiver.latent_dim} latents, received {width}; load both from one run"
            )

    @classmethod
    def load(cls, run: str | PathLike[str]) -> Self:
        """Read a run directory.

        Raises:
            NotCalibratedError: it has no filter, or one of other weights.
            RunError: it has no model, or one that cannot be read.
        """
        return cls(Perceiver.load(run), BeliefFilter.load(run).dynamics)

    def dream(
        self,
        policy: Policy,
        start: Start,
        steps: int,
        *,
        features: str = "mu",
        stack: int = 1,
        rng: np.random.Generator | None = None,
    ) -> Dream:
        """Dream on from a real beginning, and draw what is dreamt; see `robovae.dreaming.dream`."""
        imagined = self.imagine(policy, start, steps, features=features, stack=stack, rng=rng)
        return Dream(**vars(imagined), frames=self.perceiver.decode(imagined.z))

    def imagine(
        self,
        policy: Policy,
        start: Start,
        steps: int,
        *,
        features: str = "mu",
        stack: int = 1,
        rng: np.random.Generator | None = None,
    ) -> Imagined:
        """The same without the frames."""
        if steps < 1:
            raise DreamError(f"steps: expected 1 or more, received {steps}")
        followed = BeliefFilter(self.dynamics)
        acting = actor(policy, steps, followed.action_scale, features, stack)
        beliefs, taken = self._beginning(start, followed.action_dim)
        last = followed.update(beliefs[0])
        acting.follow(last, followed.memory, frame=beliefs[0])
        for step, action in enumerate(taken, 1):
            last = followed.update(beliefs[step], action[None])
            acting.follow(last, followed.memory, action, beliefs[step])
        return Imagined(start=beliefs[-1], **self._onward(last, followed.memory, acting, steps, rng))

    def _beginning(self, start: Start, action_dim: int) -> tuple[Belief, NDArray[np.float32]]:
        """Beliefs (T, D) and the actions between them (T - 1, A)."""
        shown, taken = start if isinstance(start, tuple) else (start, np.zeros((0, action_dim), np.float32))
        if isinstance(shown, Belief):
            belief = shown
        else:
            belief = self.perceiver(shown[None] if np.ndim(shown) == 3 else shown)
        if not len(belief):
            raise DreamError("start: expected one frame or more, received none")
        if len(belief) > 1 and not isinstance(start, tuple):
            raise DreamError(
                f"start: expected the {len(belief) - 1} actions between {len(belief)} frames, received none; "
                "pass (frames, actions)"
            )
        return belief, checked(np.asarray(taken), (len(belief) - 1, action_dim), "start")

    def _onward(
        self,
        last: Belief,
        memory: NDArray[np.float32],
        acting: Actor,
        steps: int,
        rng: np.random.Generator | None,
    ) -> dict[str, NDArray[np.float32]]:
        z, held = torch.from_numpy(last.mu.copy()), torch.from_numpy(memory.copy())
        width = torch.from_numpy(last.sigma).log()
        rows: list[tuple[NDArray[np.float32], ...]] = []
        for _ in range(steps):
            action = acting.act()
            with torch.no_grad():
                prior, held = self.dynamics.step(Gaussian(z, width), torch.from_numpy(action[None]), held)
            if rng is None:
                z, width = prior
            else:  # a draw is known exactly
                z, width = prior.sample(_normal(rng, z)), torch.full_like(z, LOG_SIGMA_RANGE[0])
            belief = Belief(z.numpy(), prior.sigma.numpy())
            acting.follow(belief, held.numpy(), action)
            rows.append((belief.mu[0], prior.mu.numpy()[0], belief.sigma[0], action))
        columns = (np.stack(column) for column in zip(*rows, strict=True))
        return dict(zip(("z", "mu", "sigma", "actions"), columns, strict=True))


def dream(
    run: str | PathLike[str],
    policy: Policy,
    start: Start,
    steps: int,
    *,
    features: str = "mu",
    stack: int = 1,
    rng: np.random.Generator | None = None,
) -> Dream:
    """Roll a policy forward in the imagination of a run, from a real beginning.

    The filter takes in the beginning; from there on its dynamics alone go on, each step on the mean of the
    one before, or, given `rng`, on a draw from it.

    Args:
        run: a run directory with a filter.
        policy: a `BeliefPolicy`; a callable, features (F,) -> action (A,); or actions (steps, A).
        start: one frame (H, W, 3), one belief (1, D), or (frames (T, H, W, 3), actions (T - 1, A)): velocity
            takes two frames to see.
        steps: how many to dream, at least 1.
        features: what a callable sees, one of `robovae.control.FEATURES`; a `BeliefPolicy` knows its own. Of
            the beginning it is, as in a loop, each frame's own belief, unless it is "filtered".
        stack: how many beliefs a callable sees at once.
        rng: draws each z from p(z_t | z_<t, a_<t); None takes its mean.

    Raises:
        NotCalibratedError: the run has no filter.
        RunError: it has no model.
        DreamError: a beginning, actions or a number of steps that do not fit.
        FrameError: frames of another shape or dtype than the run's.
        BeliefError: a belief of another width.
    """
    return Dreamer.load(run).dream(policy, start, steps, features=features, stack=stack, rng=rng)


def _normal(rng: np.random.Generator, like: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(rng.standard_normal(tuple(like.shape), np.float32))
