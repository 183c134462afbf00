"""Where frames come from: what an environment tells of itself, its camera and the versions behind it."""

import os
from typing import Any

import gymnasium as gym

from robovae import __version__


def describe(env: gym.Env[Any, Any]) -> dict[str, Any]:
    """The JSON-able facts that go with every episode: the environment's own `describe()` if it has one."""
    if env.has_wrapper_attr("describe"):
        facts: dict[str, Any] = env.get_wrapper_attr("describe")()
    else:
        name = env.spec.id if env.spec is not None else type(env.unwrapped).__name__
        facts = {
            "env_id": name,
            "render_spec": None,
            "joints": [],
            "versions": {"gymnasium": gym.__version__},
        }
    ours = {"robovae": __version__, "gl": os.environ.get("MUJOCO_GL", "")}
    return {**facts, "versions": {**facts.get("versions", {}), **ours}}
