"""Train a policy on beliefs with Stable-Baselines3: `train_policy(run, make_env, config)`; resumable."""

import contextlib
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from robovae import provenance
from robovae.config import to_plain
from robovae.device import flushed_denormals, threads
from robovae.policy.config import OnPolicy, PolicyConfig, PolicyError, PolicyEvent
from robovae.policy.network import Actor
from robovae.policy.saving import (
    FORMAT,
    fingerprints,
    inputs_of,
    load_policy,
    policy_dir,
    read_record,
    save_policy,
)
from robovae.records import digest, sync
from robovae.run.directory import load_model

try:
    from robovae.policy.arena import Arena, MakeEnv
    from robovae.policy.checkpoint import SB3, checkpoint_key, drop_checkpoints
    from robovae.policy.learner import make_learner
    from robovae.policy.session import Session
except ModuleNotFoundError as missing:
    raise PolicyError(
        'training a policy: expected stable-baselines3, received none; pip install "robovae[rl]"'
    ) from missing

HOW_NOT_WHAT = ("checkpoint_seconds", "device", "threads")
"""Settings that may change between two attempts at the same policy."""


def train_policy(
    run: Path,
    make_env: MakeEnv,
    config: PolicyConfig | None = None,
    on_event: OnPolicy | None = None,
    *,
    name: str = "",
) -> dict[str, Any]:
    """Train a policy into RUN/policy, or RUN/policy-NAME.

    Run again after an interruption, it goes on from the last checkpoint, with new episodes. Weights are
    chosen on seeds 25000-, and the evaluation that is reported runs on seeds 20000-, once.

    Args:
        run: a trained run, with a filter for features "filtered".
        make_env: makes an environment of observations {"image", "state"}; for a policy on the state, the
            bare environment will do.
        config: how.
        on_event: told of progress.
        name: of the policy, where a run has several.

    Returns:
        What policy.json holds: "evaluation" with every return, "kept", "seconds", "config" and more.

    Raises:
        RunError: no trained run.
        NotCalibratedError: it has no filter, but the features ask for one.
        ControlError: frames or actions are not those of the run.
        PolicyError: another camera, actions that do not suit the algorithm, numbers that are
            not finite, or another policy where this one shall be.
        KeyboardInterrupt: after writing a checkpoint.
    """
    config, tell = (config or PolicyConfig()).filled(), on_event or (lambda event: None)
    where = policy_dir(run, name)
    arena = Arena.of(run, make_env, config)
    try:
        key = _key(run, config, arena.env_id)
        done = read_record(where)
        if done is not None:
            return _finished(where, done, key, tell)
        with torch_set_up(config):
            teacher = _teacher(run, config)
            session = Session(where, key, config, partial(make_learner, teacher=teacher), arena, tell)
            session.fit()
            return _finish(run, where, session, key)
    finally:
        arena.close()


def is_taken(run: Path, config: PolicyConfig, *, name: str = "") -> bool:
    """Whether another policy, finished or begun, is where one of this config and the run's task shall be.

    Raises:
        RunError: no trained run.
    """
    where = policy_dir(run, name)
    done, begun = read_record(where), checkpoint_key(where)
    if done is None and begun is None:
        return False
    found = begun if done is None else done.get("key")
    return found != _key(run, config.filled(), load_model(run).facts.env_id)


def _teacher(run: Path, config: PolicyConfig) -> Actor | None:
    if config.algo != "dagger":
        return None
    where = policy_dir(run, config.teacher)
    record = read_record(where)
    if record is None or record.get("observation") != "state":
        received = "none" if record is None else f"one on {record.get('features')}"
        raise PolicyError(
            f"teacher {config.teacher!r}: expected a policy on the state, {where}, received {received}; run "
            f"`robovae policy {run} --observation state --name {config.teacher}`"
        )
    return load_policy(where)[0]


def _key(run: Path, config: PolicyConfig, env_id: str) -> str:
    settings = {item: value for item, value in to_plain(config).items() if item not in HOW_NOT_WHAT}
    known = {"config": settings, "inputs": inputs_of(run, config), "env": env_id}
    return digest({"format": FORMAT, **known})


def _finished(where: Path, done: dict[str, Any], key: str, tell: OnPolicy) -> dict[str, Any]:
    if done.get("key") != key:
        raise PolicyError(
            f"{where}: expected a policy of this config and run, received a finished one of another; "
            "choose another --name, or delete it"
        )
    tell(PolicyEvent("skip", done["steps"], done["steps"], done["seconds"], message=f"{where} is finished"))
    return done


def _finish(run: Path, where: Path, session: Session, key: str) -> dict[str, Any]:
    """Judge what is kept, write it, and let go of what was there to resume from.

    Raises:
        PolicyError: model, calibration or filter of the run are no longer those that the policy learnt with.
    """
    if _key(run, session.config, session.arena.env_id) != key:
        raise PolicyError(
            f"{run}: expected the model, calibration and filter that the training began with, received "
            f"others; put those back and run the same command, or delete {where}"
        )
    actor = session.kept()
    record = {"key": key, "env_id": session.arena.env_id, **fingerprints(run, session.config.sees)}
    record |= session.result(actor)
    aside = where / f".{os.getpid()}.{SB3}"
    session.learner.save(aside)
    sync(aside)
    aside.replace(where / SB3)
    done = save_policy(where, actor, record)
    told = {name: done[name] for name in ("config", "seconds", "kept", "evaluation")}
    provenance.record(run, where.name, told)
    drop_checkpoints(where)
    return done


@contextlib.contextmanager
def torch_set_up(config: PolicyConfig) -> Iterator[None]:
    """Threads, and denormal numbers taken for 0; both as they were afterwards."""
    with threads(config.threads or torch.get_num_threads()), flushed_denormals():
        yield
