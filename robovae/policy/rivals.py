"""Other codes of frames, to compare beliefs with; policies on them go through `train_policy` too."""

from collections.abc import Callable
from pathlib import Path
from typing import Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from robovae.belief import Belief, Perceiver
from robovae.control.observation import BeliefObservation
from robovae.frames import batched, check_frames, to_tensor
from robovae.policy.config import PolicyError
from robovae.policy.senses import Env
from robovae.run.directory import RunFacts, RunModel, build_model, read_tensors, write_tensors

Frames = NDArray[np.uint8]
Floats = NDArray[np.float32]
MakeEnv = Callable[[], Env]

SURE = 1e-3
"""Sigma of a code that does not know how sure it is."""
TINY = 1e-6
"""Of a code's deviation, at least: no division by what is only rounding."""


class Pca:
    """Principal components of frames, each of variance 1, called as a `Perceiver` is.

    Args:
        mean: frame in [0, 1], flat (P,).
        basis: what a centred frame is multiplied with, (P, D).
        facts: of the frames.
    """

    def __init__(self, mean: Floats, basis: Floats, facts: RunFacts) -> None:
        self.mean, self.basis, self.facts = mean, basis, facts

    @classmethod
    def fit(cls, frames: Frames, facts: RunFacts, components: int, seed: int = 0) -> Self:
        """From frames (N, H, W, 3), by randomised SVD (Halko et al. 0909.4061).

        Raises:
            FrameError: frames that are not as the facts say.
            PolicyError: fewer frames than components.
        """
        if len(frames) < components:
            raise PolicyError(
                f"PCA: expected at least {components} frames, received {len(frames)}; collect more"
            )
        rows = check_frames(frames, facts.frame_shape).reshape(len(frames), -1) / np.float32(255.0)
        mean = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
        rows -= mean
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            _, values, turn = torch.pca_lowrank(torch.from_numpy(rows), components, center=False, niter=4)
        deviation = values / len(rows) ** 0.5
        basis: Floats = (turn / deviation.clamp_min(TINY)).numpy()
        return cls(mean, basis, facts)

    @classmethod
    def load(cls, path: Path, facts: RunFacts) -> Self:
        """Read what `save` wrote.

        Raises:
            RunError: it is missing or damaged.
        """
        tensors = read_tensors(path, "delete it")
        return cls(tensors["mean"].numpy(), tensors["basis"].numpy(), facts)

    def save(self, path: Path) -> None:
        """Write a safetensors file."""
        parts = {"mean": self.mean, "basis": np.ascontiguousarray(self.basis)}
        write_tensors(path, {name: torch.from_numpy(part) for name, part in parts.items()})

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """(H, W, 3)."""
        return self.facts.frame_shape

    @property
    def latent_dim(self) -> int:
        """D."""
        return int(self.basis.shape[1])

    def __call__(self, frames: Frames) -> Belief:
        """Codes of frames (B, H, W, 3), as beliefs that are sure of themselves.

        Raises:
            FrameError: frames of another shape or dtype.
        """
        rows = check_frames(frames, self.frame_shape).reshape(len(frames), -1) / np.float32(255.0)
        mu = np.asarray((rows - self.mean) @ self.basis, np.float32)
        return Belief(mu, np.full_like(mu, SURE))


def coded(make_env: MakeEnv, codes: Pca, stack: int) -> Env:
    """An environment that shows codes of its last frames: for `train_policy` on observation "state"."""
    return BeliefObservation(make_env(), cast(Perceiver, codes), "mu", stack=stack)


def untrained(model: RunModel, frames: Frames, seed: int) -> RunModel:
    """A model of the same architecture whose encoder has random weights.

    Its means are scaled to mean 0 and deviation 1 on frames, so that a policy finds them as large as those
    of a trained one: what it lacks is training, not units.

    Args:
        model: a trained one.
        frames: (N, H, W, 3), of its training.
        seed: of the weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = build_model(model.vae.config, model.facts)
    vae = fresh.vae.eval()
    vae.mean_frame.copy_(model.vae.mean_frame)
    with torch.inference_mode():
        grids = torch.cat([vae.encode_local(to_tensor(some)).mu for some in batched(frames)])
    vae.grid_mean.copy_(grids.mean(0))
    vae.grid_std.fill_(float((grids - vae.grid_mean).square().mean().sqrt()))
    with torch.inference_mode():
        mu = vae.encode_global(grids).mu
    last = cast(nn.Linear, vae.global_encoder.body[-1])
    mean, deviation = mu.mean(0), mu.std(0, correction=0).clamp_min(TINY)
    with torch.no_grad():
        means = slice(0, mu.shape[1])  # what comes after them is the sigmas'
        last.weight[means] /= deviation[:, None]
        last.bias[means] = (last.bias[means] - mean) / deviation
    return fresh
