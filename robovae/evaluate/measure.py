"""One `evaluate()` for recipes, tests, the report and the benchmark."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from robovae.belief import Perceiver
from robovae.config import check_least
from robovae.episodes import EpisodeStore
from robovae.evaluate.bound import explained, lone_bound, sequence_bound, weighted_bound
from robovae.evaluate.codes import Codes, EvaluateError, check_apart, encode, spread
from robovae.evaluate.intervals import by_episode, interval, mean
from robovae.evaluate.probe import ProbeConfig, joint_targets, probe_table
from robovae.evaluate.smoothness import SmoothnessConfig, smoothness
from robovae.gaussian import ACTIVE_NATS
from robovae.run.directory import RunModel, check_data

ACTIVE_VARIANCE = 0.01
"""Variance of mu over frames above which a dimension may be active (Burda et al., 1509.00519, 5.2), if it
carries `ACTIVE_NATS` as well."""


@dataclass(frozen=True)
class EvaluateConfig:
    """How much is measured.

    Raises:
        EvaluateError: a number is below 1.
    """

    train_frames: int = 50_000
    """Training frames at most, whole episodes, for the probe and the smoothness."""
    iwae_samples: int = 32
    """K of the importance-weighted bound."""
    iwae_frames: int = 128
    """Frames it is measured on."""
    sequence_length: int = 50
    """Frames of a sequence, from the start of an episode."""
    sequences: int = 64
    """Sequences at most."""
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    smoothness: SmoothnessConfig = field(default_factory=SmoothnessConfig)
    seed: int = 0
    """Of the noise in the bounds."""

    def __post_init__(self) -> None:
        check_least(
            self,
            EvaluateError,
            **dict.fromkeys(
                ("train_frames", "iwae_samples", "iwae_frames", "sequence_length", "sequences"), 1
            ),
        )

    @classmethod
    def tiny(cls) -> "EvaluateConfig":
        """Seconds, for tests and quick looks: the probe and the smoothness come out too low."""
        return cls(
            train_frames=2000,
            iwae_samples=4,
            iwae_frames=16,
            sequences=8,
            probe=ProbeConfig(steps=200, hidden=64),
            smoothness=SmoothnessConfig(steps=60, hidden=32),
        )


def held_out(store: EpisodeStore) -> tuple[EpisodeStore, EpisodeStore]:
    """The test and the train split of a dataset.

    Raises:
        EpisodeError: the dataset lacks one of them, with the seeds to collect.
    """
    return store.split("test"), store.split("train")


def evaluate_run(run: Path, data: Path, config: EvaluateConfig | None = None) -> dict[str, Any]:
    """`evaluate` the model of a run, as trained, on the test and train split of a dataset.

    Raises:
        RobovaeError: no run, no dataset, no such splits, or they do not fit each other.
    """
    perceiver, store = Perceiver.load(run, calibrated=False), EpisodeStore(data)
    check_data(perceiver.model.facts, store)
    return evaluate(perceiver, *held_out(store), config)


def evaluate(
    model: Perceiver | RunModel,
    store: EpisodeStore,
    train_store: EpisodeStore,
    config: EvaluateConfig | None = None,
) -> dict[str, Any]:
    """Measure a model on episodes that it was not trained on.

    Args:
        model: a perceiver or its model.
        store: held-out episodes: everything is scored on these.
        train_store: training episodes: the mean frame, the probe and the smoothness are fitted on these.
        config: how much is measured.

    Returns:
        JSON-able. "ev" through the grid and "ev_global" through mu; the bound of lone frames "elbo" with
        "reconstruction", "local_kl", "global_kl", nats a frame; "information", nats a frame; "active_dims";
        by dimension "spring" and "capacity" (the parts of KL(q || N(0, I)), nats) and "variance" of mu;
        "iwae" and "sequence" (see `bound`); "probe", a row a joint; "smoothness"; "intervals", 95 % bootstrap
        by episode; counts and seconds. What a deterministic autoencoder does not have is None.

    Raises:
        EvaluateError: the two stores share an episode, or episodes are too short.
        FrameError: the frames are not those of the model.
    """
    begin = time.monotonic()
    config = config or EvaluateConfig()
    perceiver = model if isinstance(model, Perceiver) else Perceiver(model)
    check_apart(store, train_store)
    train_store = spread(train_store, config.train_frames)
    train, test = encode(perceiver, train_store), encode(perceiver, store)
    found = explained(perceiver.model, store, train_store)
    bounds = _bounds(perceiver.model, store, config)
    dimensions = _dimensions(test)
    intervals = {**found.pop("intervals"), **bounds.pop("intervals", {}), **dimensions.pop("intervals")}
    targets = joint_targets(train_store), joint_targets(store)
    return {
        "env_id": store.env_id,
        "latent_dim": perceiver.latent_dim,
        **found,
        **bounds,
        **dimensions,
        "probe": probe_table(train, test, *targets, config.probe),
        "smoothness": smoothness(train, test, config.smoothness),
        "intervals": intervals,
        "test": {"episodes": len(store), "frames": store.num_frames},
        "train": {"episodes": len(train_store), "frames": train_store.num_frames},
        "seconds": round(time.monotonic() - begin, 1),
    }


def _bounds(model: RunModel, store: EpisodeStore, config: EvaluateConfig) -> dict[str, Any]:
    if model.vae.config.deterministic:
        return dict.fromkeys(("elbo", "reconstruction", "local_kl", "global_kl", "iwae", "sequence"))
    return {
        **lone_bound(model, store, config.seed),
        "iwae": weighted_bound(model, store, config.iwae_samples, config.iwae_frames, config.seed),
        "sequence": sequence_bound(model, store, config.sequence_length, config.sequences, config.seed),
    }


def _dimensions(test: Codes) -> dict[str, Any]:
    """Where the information sits: springs and capacities by dimension, and what they add up to."""
    mu, variance = test.mu.astype(np.float64), np.square(test.sigma.astype(np.float64))
    spring, capacity = 0.5 * np.square(mu), 0.5 * (variance - np.log(variance) - 1.0)
    nats = (spring + capacity).sum(axis=1)
    counted = np.stack([by_episode(nats, test.lengths), test.lengths.astype(np.float64)], axis=1)
    active = (mu.var(axis=0) > ACTIVE_VARIANCE) & ((spring + capacity).mean(axis=0) > ACTIVE_NATS)
    return {
        "information": float(nats.mean()),
        "active_dims": int(active.sum()),
        "spring": spring.mean(axis=0).tolist(),
        "capacity": capacity.mean(axis=0).tolist(),
        "variance": mu.var(axis=0).tolist(),
        "sigma": float(test.sigma.mean()),
        "intervals": {"information": interval(counted, mean)},
    }
