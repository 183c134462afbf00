"""Who acts while collecting: random, zero, a replay, a trained policy, or the user's own code.

A policy is built once a worker and told of every episode:

    policy.reset(seed)              # all its randomness comes from this seed
    action = policy(observation)    # observation: {"image": (H, W, 3) uint8, "state": array}

The user's own code is "module:name": a plain function `act(observation) -> action`, or a class, which is
called once with `(observation_space, action_space)`; its objects are callable and may have `reset(seed)`,
and `acted(action)`, which is told what was done where that is not what they said.
"""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, cast

import gymnasium as gym
import numpy as np

from robovae.collect.config import CollectError, exploring, trained_policy
from robovae.collect.random_policies import (
    Action,
    BangBangPolicy,
    Observation,
    RandomDiscretePolicy,
    Space,
    random_policy,
)
from robovae.episodes import EpisodeStore


class Policy(Protocol):
    """What the rollout needs of a policy."""

    looks: bool
    """Whether it looks at observations; if not, it may be given an empty one."""

    def reset(self, seed: int) -> int | None:
        """A new episode begins; returns how many actions there are, None without an end."""

    def __call__(self, observation: Observation) -> Action:
        """The action to take."""


class ConstantPolicy:
    """Always the same action."""

    looks = False

    def __init__(self, action: Action) -> None:
        self.action = action

    def reset(self, seed: int) -> None:
        """Nothing to prepare."""

    def __call__(self, observation: Observation) -> Action:
        """The action."""
        return self.action


class ReplayPolicy:
    """The recorded actions of the episode with the same seed."""

    looks = False

    def __init__(self, path: Path, space: gym.Space[Any]) -> None:
        self.store = EpisodeStore(path)
        self.index_of = {seed: index for index, seed in enumerate(self.store.seeds)}
        self.space = space

    def reset(self, seed: int) -> int:
        """Take up the episode of this seed; returns its length.

        Raises:
            CollectError: if the store has no such episode, or actions of another shape.
        """
        if seed not in self.index_of:
            raise CollectError(f"the store to replay has no episode of seed {seed}: choose seeds that it has")
        self.actions = np.array(self.store[self.index_of[seed]].action)
        expected = int(np.prod(self.space.shape or ()))
        if self.actions.shape[1] != expected:
            raise CollectError(
                f"the store to replay has {self.actions.shape[1]} actions a step, not {expected}"
            )
        self.index = 0
        return len(self.actions)

    def __call__(self, observation: Observation) -> Action:
        """The next recorded action."""
        self.index += 1
        action = self.actions[self.index - 1]
        if isinstance(self.space, gym.spaces.Discrete):
            return int(action[0])
        return action.reshape(self.space.shape).astype(self.space.dtype)


class UserPolicy:
    """The user's function or object, with `reset` made optional."""

    looks = True

    def __init__(self, act: Callable[[Observation], Action]) -> None:
        self.act = act

    def reset(self, seed: int) -> None:
        """Pass the seed on, if the user's object wants it."""
        if hasattr(self.act, "reset"):
            self.act.reset(seed)

    def __call__(self, observation: Observation) -> Action:
        """What the user's code says."""
        return self.act(observation)

    def acted(self, action: Action) -> None:
        """Pass on what was done instead, if the user's object wants it."""
        if hasattr(self.act, "acted"):
            self.act.acted(action)


class ExploringPolicy:
    """Another policy's actions with a share of random ones: what one policy alone shows of a task is narrow.

    The random policy is quiet in most episodes and loud in some, so some stay close to what the other wants.

    Args:
        policy: who acts.
        space: of its actions.
        share: of the random policy's action that is added, from its middle, or of choices that are random's.
    """

    def __init__(self, policy: Policy, space: Space, share: float) -> None:
        self.policy, self.random, self.share = policy, random_policy(space), share
        self.looks = policy.looks

    def reset(self, seed: int) -> int | None:
        """Both start afresh."""
        self.rng = np.random.default_rng([seed, 1])
        self.random.reset(seed)
        return self.policy.reset(seed)

    def __call__(self, observation: Observation) -> Action:
        """The action, moved; within the bounds."""
        taken = self._mixed(self.policy(observation), self.random(observation))
        if hasattr(self.policy, "acted"):  # a filter predicts from what was done, not from what was wanted
            self.policy.acted(taken)
        return taken

    def _mixed(self, action: Action, other: Action) -> Action:
        if isinstance(self.random, RandomDiscretePolicy):
            return other if self.rng.random() < self.share else action
        space, middle = self.random.space, self.random.middle.reshape(other.shape)
        moved = action + self.share * (other - middle)
        return moved.clip(space.low, space.high).astype(space.dtype)


def make_policy(name: str, env: gym.Env[Any, Any]) -> Policy:
    """Build the policy called `name` for an environment.

    Args:
        name: "random", "bang" (Box only), "zero", the path of an episode store or of a run with a trained
            policy (RUN, or RUN/policy-NAME), or "module:name"; any of them with "~SHARE" after it explores.
        env: with a Box or Discrete action space.

    Raises:
        CollectError: if there is no such policy, or the action space is of another kind.
    """
    space = env.action_space
    if not isinstance(space, gym.spaces.Box | gym.spaces.Discrete):
        raise CollectError(f"actions must be a Box or Discrete space, this environment has {space}")
    name, share = exploring(name)
    policy = _named(name, env, space)
    return ExploringPolicy(policy, space, share) if share else policy


def _named(name: str, env: gym.Env[Any, Any], space: Space) -> Policy:
    """The policy called `name`."""
    if name == "random":
        return random_policy(space)
    if name == "bang":
        if not isinstance(space, gym.spaces.Box):
            raise CollectError(f'policy "bang": expected actions in a Box, this environment has {space}')
        return BangBangPolicy(space)
    if name == "zero":
        return ConstantPolicy(rest_action(space))
    if (where := trained_policy(Path(name))) is not None:
        from robovae.policy.collecting import RunPolicy  # brings torch, which no other policy needs

        return RunPolicy(where, env)
    if (Path(name) / "model.safetensors").is_file():
        raise CollectError(
            f"{name}: expected a run with a policy, received one without; robovae policy {name}"
        )
    if Path(name).exists():
        return ReplayPolicy(Path(name), space)
    return UserPolicy(_import(name, env))


def rest_action(space: gym.Space[Any]) -> Action:
    """No action: zeros, moved to the nearest bound where 0 is not allowed, or the first of discrete ones."""
    if isinstance(space, gym.spaces.Box):
        return np.zeros(space.shape, space.dtype).clip(space.low, space.high)
    return int(space.start) if isinstance(space, gym.spaces.Discrete) else 0


def _import(name: str, env: gym.Env[Any, Any]) -> Callable[[Observation], Action]:
    """The object behind "module:name"; a class is instantiated."""
    module, colon, attribute = name.partition(":")
    if not colon or not attribute:
        raise CollectError(
            f'policy {name!r} is none of "random", "bang" and "zero", nor an episode store or a '
            'run with a policy that is there, nor "module:name"'
        )
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise CollectError(f"policy {name!r} cannot be imported: {error}") from error
    act = found(env.observation_space, env.action_space) if isinstance(found, type) else found
    if not callable(act):
        raise CollectError(f"policy {name!r} must be a function or a class, it is {type(found).__name__}")
    return cast(Callable[[Observation], Action], act)
