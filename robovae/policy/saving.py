"""The files of a policy in its run: policy.json that a person can read, policy.safetensors beside it."""

import re
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from robovae.filter import FILE as FILTER
from robovae.monitor import fingerprint_of
from robovae.policy.config import PolicyConfig, PolicyError
from robovae.policy.network import Actor, Space
from robovae.records import read_json, write_json
from robovae.run.directory import read_tensors, write_tensors
from robovae.uncertainty.model import FILE as UNCERTAINTY

FORMAT = 3
"""Version of policy.json, of the names in policy.safetensors, and of what features are."""
RECORD, WEIGHTS = "policy.json", "policy.safetensors"


def policy_dir(run: Path, name: str = "") -> Path:
    """Where a run keeps its policy: RUN/policy, or RUN/policy-NAME.

    Raises:
        PolicyError: a name that is no part of a file name.
    """
    if not re.fullmatch(r"[\w.-]*", name):
        raise PolicyError(f"name: expected letters, digits and . _ -, received {name!r}")
    return run / (f"policy-{name}" if name else "policy")


def fingerprints(run: Path, features: str) -> dict[str, Any]:
    """What the features of a policy depend on: weights of model and filter, and the calibration.

    Args:
        run: the run directory.
        features: of beliefs; "state" depends on nothing.

    Returns:
        Digests of "model" and "filter"; "calibrated", False where nothing is calibrated, else the digest of
        what moves mu and sigma, or True of "filtered": the filter was fitted to it.
    """
    if features == "state":
        return {"model": None, "filter": None, "calibrated": None}
    calibrated = (run / UNCERTAINTY).is_file()
    return {
        "model": fingerprint_of(run / "model.safetensors"),
        "filter": fingerprint_of(run / FILTER) if features == "filtered" else None,
        "calibrated": calibrated and (features == "filtered" or fingerprint_of(run / UNCERTAINTY)),
    }


def inputs_of(run: Path, config: PolicyConfig) -> dict[str, Any]:
    """What a policy of this config depends on.

    Args:
        run: the run directory.
        config: of the policy.

    Returns:
        `fingerprints` of what it sees, and the digest of its "teacher", where it has one.
    """
    found = fingerprints(run, config.sees)
    if config.algo == "dagger":
        weights = policy_dir(run, config.teacher) / WEIGHTS
        found["teacher"] = fingerprint_of(weights) if weights.is_file() else None
    return found


def actor_tensors(actor: Actor) -> dict[str, torch.Tensor]:
    """Its weights by name."""
    return {
        f"{index}.{name}": torch.from_numpy(part)
        for index, layer in enumerate(actor.layers)
        for name, part in zip(("weight", "bias"), layer, strict=True)
    }


def actor_from(tensors: dict[str, torch.Tensor], like: dict[str, Any], space: Space) -> Actor:
    """The actor of these weights.

    Args:
        tensors: as `actor_tensors` names them.
        like: "activation" and "head".
        space: of its actions.

    Raises:
        PolicyError: they do not fit one another.
    """
    count = len(tensors) // 2
    names = {f"{index}.{part}" for index in range(count) for part in ("weight", "bias")}
    if set(tensors) != names:
        raise PolicyError(
            f"expected {count} layers of weight and bias, received {sorted(tensors)}; train again"
        )
    layers = tuple((tensors[f"{i}.weight"].numpy(), tensors[f"{i}.bias"].numpy()) for i in range(count))
    return Actor(layers, like["activation"], like["head"], space)


def save_policy(where: Path, actor: Actor, record: dict[str, Any]) -> dict[str, Any]:
    """Write the weights and then the record, whose presence says that the policy is finished; returns it."""
    where.mkdir(parents=True, exist_ok=True)
    write_tensors(where / WEIGHTS, actor_tensors(actor))
    network = {"activation": actor.activation, "head": actor.head}
    full = {"format": FORMAT, "action_space": space_to_plain(actor.space), "network": network, **record}
    write_json(where / RECORD, full)
    return full


def read_record(where: Path) -> dict[str, Any] | None:
    """policy.json; None if there is none, or it is damaged."""
    return read_json(where / RECORD)


def load_policy(where: Path) -> tuple[Actor, dict[str, Any]]:
    """Read what `save_policy` wrote, strictly.

    Raises:
        PolicyError: there is no policy, or one of another format.
        RunError: its weights are damaged.
    """
    record, mend = read_record(where), f"run `robovae policy {where.parent}`"
    if record is None:
        raise PolicyError(f"{where}: expected a trained policy ({RECORD}), received none; {mend}")
    if record.get("format") != FORMAT:
        raise PolicyError(f"{where / RECORD}: expected format {FORMAT}, received another; {mend}")
    try:
        if not (isinstance(record["stack"], int) and {"observation", "features"} <= {*record}):
            raise ValueError("observation, features and stack")
        space = space_from_plain(record["action_space"])
        return actor_from(read_tensors(where / WEIGHTS, mend), record["network"], space), record
    except (KeyError, TypeError, ValueError) as error:
        raise PolicyError(
            f"{where / RECORD}: expected a whole record, received none: {error}; {mend}"
        ) from error


def space_to_plain(space: Space) -> dict[str, Any]:
    """An action space as JSON-able data."""
    if isinstance(space, gym.spaces.Discrete):
        return {"kind": "discrete", "n": int(space.n)}
    low, high = space.low.tolist(), space.high.tolist()
    return {"kind": "box", "low": low, "high": high, "dtype": str(space.dtype)}


def space_from_plain(data: dict[str, Any]) -> Space:
    """The inverse of `space_to_plain`."""
    if data["kind"] == "discrete":
        return gym.spaces.Discrete(data["n"])
    dtype = np.dtype(data["dtype"])
    return gym.spaces.Box(np.array(data["low"], dtype), np.array(data["high"], dtype), dtype=dtype.type)
