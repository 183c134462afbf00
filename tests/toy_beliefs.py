"""A perceiver and a filter of the toy environment, untrained: they see much and mean nothing."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from robovae.belief import Belief, Perceiver
from robovae.dynamics import FilterDynamics
from robovae.filter import BeliefFilter
from robovae.run.directory import RunFacts, build_model
from robovae.uncertainty import CalibrateConfig, calibrate_run
from robovae.vae import ModelConfig

FACTS = RunFacts((16, 16, 3), 2, "Toy-v0", {"height": 16, "width": 16})
LATENTS = ModelConfig.tiny().latent_dim
MEMORY = 6


class CountingPerceiver(Perceiver):
    """Remembers how many frames each call read."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(build_model(ModelConfig.tiny(), FACTS))
        self.calls: list[int] = []

    def __call__(self, frames: np.ndarray) -> Belief:
        self.calls.append(len(frames))
        return super().__call__(frames)


@cache
def toy_perceiver() -> Perceiver:
    return CountingPerceiver()


@cache
def toy_filter() -> BeliefFilter:
    """Of dynamics that are no identity: memory and action both move the prediction."""
    return make_filter(LATENTS, 2)


def make_filter(latent_dim: int, action_dim: int) -> BeliefFilter:
    torch.manual_seed(1)
    dynamics = FilterDynamics(latent_dim, action_dim, MEMORY)
    torch.nn.init.normal_(dynamics.head.weight, std=0.5)
    return BeliefFilter(dynamics.requires_grad_(False))


def calibrate_with(dynamics: FilterDynamics, run: Path, data: Path) -> None:
    """Calibrate a run, and take these dynamics for what fitting gave."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("robovae.filter.fitting.fit_dynamics", lambda *settings: dynamics)
        calibrate_run(run, data, CalibrateConfig.tiny())


def random_belief(count: int, seed: int = 0, latent_dim: int = LATENTS) -> Belief:
    rng = np.random.default_rng(seed)
    return Belief(rng.normal(size=(count, latent_dim)), rng.uniform(0.1, 0.9, (count, latent_dim)))
