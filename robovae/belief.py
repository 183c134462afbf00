"""What a frame says, and who says it: `Belief`, and the `Perceiver` that a run directory holds.

Numpy in, numpy out; torch stays inside.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from robovae.device import usable_device
from robovae.errors import RobovaeError
from robovae.frames import BATCH, FrameError, check_frames, to_frames, to_tensor
from robovae.gaussian import Gaussian
from robovae.run.directory import RunModel, load_model
from robovae.uncertainty.model import FILE, Uncertainty, load_uncertainty
from robovae.vae import VAE

if TYPE_CHECKING:
    from robovae.export.graph import Graph

Frames = NDArray[np.uint8]
Floats = NDArray[np.float32]


class BeliefError(RobovaeError):
    """Numbers that are no belief, or no latents of this model."""


@dataclass(frozen=True, eq=False, repr=False)
class Belief:
    """N(mu, diag sigma^2) for each of B frames.

    Indexing keeps the batch axis: `belief[3]` is the belief of one frame, mu (1, D).

    Raises:
        BeliefError: shapes differ, or a sigma is not a positive number.
    """

    mu: Floats
    """Means, (B, D); of a grid (B, c, h, w)."""
    sigma: Floats
    """Standard deviations, > 0, the same shape."""
    local: "Belief | None" = None
    """The same of the grid of local latents, (B, c, h, w), where the model has one."""

    def __post_init__(self) -> None:
        mu, sigma = np.asarray(self.mu, np.float32), np.asarray(self.sigma, np.float32)
        if mu.shape != sigma.shape or mu.ndim < 2:
            raise BeliefError(
                f"expected mu and sigma of one shape (B, D), received {mu.shape} and {sigma.shape}"
            )
        if not (sigma > 0).all():
            raise BeliefError(
                "sigma: expected standard deviations above 0, received others; pass no log_sigma"
            )
        if self.local is not None and len(self.local) != len(mu):
            raise BeliefError(f"local: expected {len(mu)} frames, received {len(self.local)}")
        object.__setattr__(self, "mu", mu)
        object.__setattr__(self, "sigma", sigma)

    def __len__(self) -> int:
        return len(self.mu)

    def __getitem__(self, index: Any) -> "Belief":
        if isinstance(index, int | np.integer):
            if not -len(self) <= index < len(self):
                raise IndexError(f"expected a frame from 0 to {len(self) - 1}, received {index}")
            index = [index]
        local = None if self.local is None else self.local[index]
        return Belief(self.mu[index], self.sigma[index], local)

    def __repr__(self) -> str:
        local = "" if self.local is None else f", local {self.local.mu.shape}"
        return f"Belief(mu {self.mu.shape}, sigma {self.sigma.shape}{local})"

    @property
    def information(self) -> Floats:
        """How much each frame says: KL(q(z|x) || N(0, I)), (B,) nats, >= 0."""
        variance = np.square(self.sigma)
        nats = 0.5 * (np.square(self.mu) + variance - 1.0 - np.log(variance))
        total: Floats = nats.reshape(len(self), -1).sum(axis=1)
        return total


class Perceiver:
    """Frames to beliefs and back, with the model of one run.

    Args:
        model: what `load_model` read or `build_model` made.
        device: where it computes, as torch names it.
        uncertainty: the model's calibration: with it mu and sigma are the calibrated ones, and a frame
            that says nothing gives mu 0 and sigma 1; without it, they are what the encoder emits.
        graph: the same, exported: gives the beliefs in the place of both.
    """

    def __init__(
        self,
        model: RunModel,
        device: str = "cpu",
        uncertainty: Uncertainty | None = None,
        graph: "Graph | None" = None,
    ) -> None:
        self.model = model
        self.device = usable_device(device)
        self._vae = model.vae.to(self.device).eval()
        self._uncertainty = None if uncertainty is None else uncertainty.to(self.device).eval()
        self._graph = graph

    @classmethod
    def load(
        cls,
        run: str | PathLike[str],
        device: str = "cpu",
        *,
        calibrated: bool | None = None,
        engine: str = "torch",
    ) -> Self:
        """Read a run directory.

        Args:
            run: the directory.
            device: where to compute, as torch names it.
            calibrated: True demands a calibration, False leaves it aside; None takes it where there is one.
            engine: who computes beliefs, "torch" or "onnx": the graph of `robovae export`, on the cpu.

        Raises:
            RunError: it has no model, or one that cannot be read.
            NotCalibratedError: it has no calibration though one is demanded, or one of other weights.
            ExportError: there is no such engine, or nothing was exported for it.
        """
        from robovae.export.graph import graph_of  # it stands on `robovae.uncertainty`

        path = Path(run)
        model = load_model(path)
        wanted = (path / FILE).is_file() if calibrated is None else calibrated
        uncertainty = load_uncertainty(path, model.vae) if wanted else None
        return cls(model, device, uncertainty, graph_of(path, engine))

    def __repr__(self) -> str:
        return f"Perceiver({self.env_id}, frames {self.frame_shape} -> {self.latent_dim} latents)"

    @property
    def is_calibrated(self) -> bool:
        """Whether sigma covers what corruption and novelty take away."""
        return self._uncertainty is not None

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """(H, W, 3) of the frames it was trained on."""
        return self.model.facts.frame_shape

    @property
    def env_id(self) -> str:
        """The environment it was trained on."""
        return self.model.facts.env_id

    @property
    def render_spec(self) -> dict[str, Any] | None:
        """How its training frames were rendered: `RenderSpec.from_dict` and `Camera` give the same again."""
        return self.model.facts.render_spec

    @property
    def latent_dim(self) -> int:
        """D."""
        return self._vae.config.latent_dim

    def __call__(self, frames: Frames) -> Belief:
        """Beliefs of frames, each on its own.

        Args:
            frames: (B, H, W, 3) uint8, of any B.

        Raises:
            FrameError: frames of another shape or dtype than it was trained on.
        """
        encode = partial(_encode, uncertainty=self._uncertainty, graph=self._graph)
        parts = self._by_batch(encode, check_frames(frames, self.frame_shape))
        local_mu, local_sigma, mu, sigma = parts
        return Belief(mu, sigma, Belief(local_mu, local_sigma))

    def reconstruct(self, frames: Frames) -> Frames:
        """What the grid keeps of frames, (B, H, W, 3) uint8 -> the same shape.

        Raises:
            FrameError: frames of another shape or dtype than it was trained on.
        """
        decoded: Frames = self._by_batch(_reconstruct, check_frames(frames, self.frame_shape))[0]
        return decoded

    def decode(self, z: ArrayLike) -> Frames:
        """The frames that global latents (B, D) describe, (B, H, W, 3) uint8.

        Raises:
            BeliefError: z of another shape, or not finite.
        """
        decoded: Frames = self._by_batch(_decode, self._check_latents(z))[0]
        return decoded

    def sample(self, n: int, *, seed: int = 0) -> Frames:
        """Frames that the model believes in with its eyes shut: z drawn from N(0, I), (n, H, W, 3) uint8."""
        return self.decode(np.random.default_rng(seed).standard_normal((n, self.latent_dim)))

    def interpolate(self, a: Frames, b: Frames, steps: int) -> Frames:
        """The straight walk between the beliefs of two frames (H, W, 3), ends included: (steps, H, W, 3).

        Raises:
            FrameError: a frame of another shape or dtype.
        """
        ends = self(np.concatenate([self._single(a), self._single(b)])).mu
        share = np.linspace(0.0, 1.0, steps, dtype=np.float32)[:, None]
        return self.decode((1.0 - share) * ends[0] + share * ends[1])

    def traverse(self, frame: Frames, dim: int, steps: int = 9, span: float = 3.0) -> Frames:
        """One latent of a frame (H, W, 3) moved from -span to span, the others left: (steps, H, W, 3).

        Raises:
            FrameError: a frame of another shape or dtype.
            BeliefError: there is no such dimension.
        """
        if not 0 <= dim < self.latent_dim:
            raise BeliefError(f"dim: expected 0 to {self.latent_dim - 1}, received {dim}")
        z = np.repeat(self(self._single(frame)).mu, steps, axis=0)
        z[:, dim] = np.linspace(-span, span, steps)
        return self.decode(z)

    def _single(self, frame: Frames) -> Frames:
        if isinstance(frame, np.ndarray) and frame.ndim == 4 and len(frame) != 1:
            raise FrameError(f"expected one frame {self.frame_shape}, received {len(frame)}; choose one")
        batched = frame if np.ndim(frame) == 4 else np.asarray(frame)[None]
        return check_frames(batched, self.frame_shape)

    def _check_latents(self, z: ArrayLike) -> Floats:
        latents = np.asarray(z, np.float32)
        if latents.ndim != 2 or latents.shape[1] != self.latent_dim:
            raise BeliefError(f"z: expected (B, {self.latent_dim}), received {latents.shape}; pass belief.mu")
        if not np.isfinite(latents).all():
            raise BeliefError("z: expected finite latents, received NaN or infinity; mend what computed them")
        return latents

    def _by_batch(
        self, compute: Callable[[VAE, Any, torch.device], tuple[Any, ...]], rows: NDArray[Any]
    ) -> tuple[Any, ...]:
        """Apply a function of (model, rows, device) to at most `BATCH` rows at a time; join each result."""
        with torch.inference_mode():
            if len(rows) <= BATCH:
                return compute(self._vae, rows, self.device)
            parts = [
                compute(self._vae, rows[first : first + BATCH], self.device)
                for first in range(0, len(rows), BATCH)
            ]
        return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


def _encode(
    model: VAE, frames: Frames, device: torch.device, uncertainty: Uncertainty | None, graph: "Graph | None"
) -> tuple[Floats, ...]:
    if graph is not None:
        seen = graph(frames)
    elif uncertainty is not None:
        seen = uncertainty(model, to_tensor(frames, device))
    else:
        return _both(*model(to_tensor(frames, device)))
    return _both(seen.look.local, seen.look.lone if uncertainty is None else seen.total)


def _both(local: Gaussian, belief: Gaussian) -> tuple[Floats, ...]:
    return tuple(_array(part) for part in (local.mu, local.sigma, belief.mu, belief.sigma))


def _reconstruct(model: VAE, frames: Frames, device: torch.device) -> tuple[Frames]:
    return (to_frames(model.decode_grid(model.encode_local(to_tensor(frames, device)).mu)),)


def _decode(model: VAE, z: Floats, device: torch.device) -> tuple[Frames]:
    return (to_frames(model.decode(torch.from_numpy(z).to(device))),)


def _array(tensor: Tensor) -> Floats:
    array: Floats = tensor.cpu().numpy()
    return array
