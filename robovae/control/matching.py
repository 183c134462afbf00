"""See that the parts of a guard belong together, before a robot moves."""

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import nn

from robovae.belief import Belief, Perceiver
from robovae.control.errors import ControlError
from robovae.control.fallbacks import Actions
from robovae.control.features import BeliefFeatures
from robovae.filter import BeliefFilter
from robovae.gaussian import Gaussian
from robovae.run.directory import RunModel
from robovae.uncertainty import FrameMonitor

_CLOSE = 1e-4
"""Difference that the order of sums may make."""


def said_by(policy: Any, name: str, kind: type) -> Any:
    """What a policy says of itself under `name`, if it is of this kind; else None."""
    found = getattr(policy, name, None)
    return found if isinstance(found, kind) else None


def own_or(policy: Any, name: str, kind: type, given: Any, default: Any) -> Any:
    """What the policy itself says of `name`, or else the caller, or else the default.

    Raises:
        ControlError: policy and caller differ.
    """
    own = said_by(policy, name, kind)
    if own is not None and given is not None and own != given:
        raise ControlError(
            f"{name}: expected {own}, which the policy learnt with, received {given}; leave it out"
        )
    return next(value for value in (own, given, default) if value is not None)


def space_of(policy: Any, given: gym.Space[Any] | None) -> gym.Space[Any]:
    """The action space of a robot.

    Args:
        policy: asked if it knows.
        given: by the caller; it need not have the bounds that the policy learnt with.

    Raises:
        ControlError: nobody knows it.
    """
    space: gym.Space[Any] | None = said_by(policy, "action_space", gym.Space) if given is None else given
    if space is None:
        raise ControlError("action_space: expected that of the robot, received none; pass env.action_space")
    return space


def check_actions(actions: Actions, run: RunModel, belief_filter: BeliefFilter | None) -> None:
    """Refuse a robot with another number of actions than what the run or the filter knows.

    Raises:
        ControlError: it has.
    """
    known = {"run": run.facts.action_dim}
    if belief_filter is not None:
        known["filter"] = belief_filter.action_dim
    for part, width in known.items():
        if width != actions.size:
            raise ControlError(
                f"action_space: expected {width} numbers, which the {part} learnt with, received "
                f"{actions.space}; load all from one run of this robot"
            )


def check_policy(policy: Any, name: str, features: BeliefFeatures, actions: Actions, run: RunModel) -> None:
    """Refuse a policy or fallback that wants other features, gives other actions, or learnt on another run.

    Raises:
        ControlError: it says that it does.
    """
    looked = said_by(policy, "perceiver", Perceiver)
    if looked is not None and not same_weights(looked.model.vae, run.vae):
        raise ControlError(
            f"{name}: expected one that learnt on the monitor's run, received one of other weights; "
            "load both from one run"
        )
    kind, stack = said_by(policy, "features", str), said_by(policy, "stack", int)
    if kind not in (None, features.features) or stack not in (None, features.stack):
        raise ControlError(
            f"{name}: expected one that sees {features.features} x {features.stack}, received one that sees "
            f"{kind} x {stack}; train one with these features"
        )
    seen = getattr(getattr(policy, "observation_space", None), "shape", None)
    if seen not in (None, (features.size,)):
        raise ControlError(
            f"{name}: expected one that sees {features.size} numbers, {features.features} x {features.stack},"
            f" received one that sees {seen}; pass the features= and stack= it was trained with"
        )
    own = said_by(policy, "action_space", gym.Space)
    if own is not None and (type(own), own.shape, getattr(own, "n", 0)) != (
        type(actions.space),
        actions.space.shape,
        getattr(actions.space, "n", 0),
    ):
        raise ControlError(
            f"{name}: expected actions {actions.space}, received {own}; choose one of this robot"
        )


def check_filter(belief_filter: BeliefFilter | None, monitor: FrameMonitor) -> None:
    """Refuse the filter of another run.

    Raises:
        ControlError: it filters another number of latents, or has other weights.
    """
    if belief_filter is None:
        return
    latents = monitor.scorer.model.vae.config.latent_dim
    if belief_filter.latent_dim != latents:
        raise ControlError(
            f"belief_filter: expected {latents} latents, received {belief_filter.latent_dim}; "
            "load the perceiver and the filter from one run"
        )
    if not same_weights(belief_filter.dynamics, monitor.scorer.dynamics):
        raise ControlError(
            "belief_filter: expected that of the monitor's run, received one of other weights; "
            "load both from one run"
        )


def shares_beliefs(perceiver: Any, monitor: FrameMonitor) -> bool:
    """Whether the monitor's own look at a frame gives the belief that the perceiver would.

    Args:
        perceiver: a `Perceiver`; or any callable frames -> Belief, which is always asked itself.
        monitor: of the same run.

    Raises:
        ControlError: the perceiver has other weights.
    """
    if not isinstance(perceiver, Perceiver):
        return False
    if not same_weights(perceiver.model.vae, monitor.scorer.model.vae):
        raise ControlError(
            f"monitor: expected one of the weights of {perceiver!r}, received one of others "
            f"({monitor!r}); load both from one run"
        )
    if not perceiver.is_calibrated:
        return False
    frame = np.full((1, *perceiver.frame_shape), 127, np.uint8)
    own, seen = perceiver(frame), belief_of(monitor.scorer.insight(frame).total)
    return np.allclose(own.mu, seen.mu, atol=_CLOSE) and np.allclose(own.sigma, seen.sigma, atol=_CLOSE)


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    """Whether two networks are the same to the bit."""
    own, given = one.state_dict(), other.state_dict()
    return own.keys() == given.keys() and all(torch.equal(own[name], given[name]) for name in own)


def belief_of(total: Gaussian) -> Belief:
    """The same for numpy."""
    return Belief(total.mu.numpy(), total.sigma.numpy())
