"""The two-level VAE: a grid of local latents draws the frame, and a global belief explains the grid.

    frame --LocalEncoder--> q(grid | x) --GlobalEncoder--> message about z --(times the prior)--> q(z | x)
    frame <--LocalDecoder-- grid        <--GridPrior------ z

The grid (c, H/8, W/8) keeps small things where they are: without it a target of 2-3 pixels is never drawn,
so nothing ever tells the encoder about it. The global z (D) is the belief that policies take. The bound is
E[log p(x|grid)] - KL(q(grid|x) || p(grid|z)) - KL(q(z|x) || p(z)); `elbo.py` adds it up, `dynamics.py` puts
p(z_t | z_<t, a_<t) in the place of p(z) within a sequence.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from robovae.errors import RobovaeError
from robovae.gaussian import Gaussian

CELL = 8
"""Pixels along a side of one grid cell."""
MIN_PIXEL_STD = 1.0 / 255.0 / 12.0**0.5
"""Rounding to uint8 alone deviates by this much: no decoder can be surer of a pixel."""


class ModelError(RobovaeError):
    """A model cannot be built or read as asked."""


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of the networks.

    Raises:
        ModelError: a size is below 1.
    """

    latent_dim: int = 24
    """D, width of the global belief."""
    grid_channels: int = 4
    """c, latents in each cell of 8x8 pixels."""
    channels: int = 48
    """Feature maps at a quarter of the frame's size, in the encoder (the decoder has `decoder_channels`)."""
    deep_channels: int = 96
    """Feature maps at an eighth of the frame's size, in the encoder and the decoder."""
    decoder_channels: int = 64
    """Feature maps at a quarter of the frame's size, in the decoder, which runs off the robot."""
    depth: int = 1
    """Residual blocks at each size of the encoder; the decoder has one more at an eighth."""
    global_channels: int = 16
    """Feature maps over the grid on the way to the belief."""
    hidden: int = 512
    """Width of the dense layers between grid and belief."""
    dynamics_hidden: int = 128
    """Units of the GRU in the temporal prior."""
    deterministic: bool = False
    """A plain autoencoder with the same body, for comparison: no noise, no prior, sigma means nothing."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name != "deterministic" and (not isinstance(value, int) or value < 1):
                raise ModelError(f"ModelConfig.{name}: expected an integer of at least 1, received {value!r}")

    @classmethod
    def tiny(cls) -> Self:
        """A model for tests: seconds, not minutes."""
        return cls(
            latent_dim=8,
            channels=16,
            deep_channels=24,
            decoder_channels=16,
            global_channels=8,
            hidden=64,
            dynamics_hidden=32,
        )


class Residual(nn.Module):
    """x + conv1x1(relu(conv3x3(relu(x)))): few multiply-adds, and no normalisation to drift at run time."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(channels, channels, 3, padding=1)
        self.mix = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, h, w) -> the same shape."""
        out: Tensor = x + self.mix(functional.relu(self.spatial(functional.relu(x))))
        return out


def _residuals(channels: int, depth: int) -> list[nn.Module]:
    return [Residual(channels) for _ in range(depth)]


class LocalEncoder(nn.Module):
    """q(grid | x): overlapping 8x8 patches at stride 4, then one halving."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, config.channels, 8, stride=4, padding=2),
            *_residuals(config.channels, config.depth),
            nn.ReLU(),
            nn.Conv2d(config.channels, config.deep_channels, 2, stride=2),
            *_residuals(config.deep_channels, config.depth),
            nn.ReLU(),
        )
        self.head = nn.Conv2d(config.deep_channels, 2 * config.grid_channels, 1)
        # Narrow at first: under noise as wide as the prior's, a small model finds no signal and collapses.
        with torch.no_grad():
            self.head.bias.view(2, -1)[1] = -2.0  # type: ignore[union-attr]  # it has a bias

    def forward(self, centred: Tensor) -> Gaussian:
        """Frames less the mean frame, (B, 3, H, W) -> Gaussian of (B, c, H/8, W/8)."""
        return self.read(self.body(centred))

    def read(self, features: Tensor) -> Gaussian:
        """Last features of the body (B, deep_channels, H/8, W/8) -> Gaussian of (B, c, H/8, W/8)."""
        return Gaussian.of(*self.head(features).chunk(2, dim=1))


class LocalDecoder(nn.Module):
    """Mean of p(x | grid), less the mean frame."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        deep, channels = config.deep_channels, config.decoder_channels
        self.body = nn.Sequential(
            nn.Conv2d(config.grid_channels, deep, 3, padding=1),
            *_residuals(deep, config.depth + 1),
            nn.Conv2d(deep, 4 * channels, 1),
            nn.PixelShuffle(2),
            *_residuals(channels, config.depth),
            nn.ReLU(),
            nn.Conv2d(channels, 48, 3, padding=1),
            nn.PixelShuffle(4),
        )

    def forward(self, grid: Tensor) -> Tensor:
        """(B, c, h, w) -> (B, 3, 8 h, 8 w)."""
        out: Tensor = self.body(grid.contiguous(memory_format=torch.channels_last)).float()
        return out


class GlobalEncoder(nn.Module):
    """What the grid says about z: the belief N(mu, sigma^2) of a lone frame, whose prior is N(0, I).

    Here sigma < 1, the prior's: the belief is N(0, I) times a message of precision 1/sigma^2 - 1 >= 0, and
    within a sequence the same message multiplies the temporal prior instead (`dynamics.py`).
    """

    def __init__(self, config: ModelConfig, cells: int) -> None:
        super().__init__()
        hidden, maps = config.hidden, config.global_channels
        self.body = nn.Sequential(
            nn.Conv2d(config.grid_channels, maps, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(maps, maps, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(1),
            nn.Linear(maps * cells, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 2 * config.latent_dim),
        )

    def forward(self, grid: Tensor) -> Gaussian:
        """Standardised mean of q(grid | x), (B, c, h, w) -> Gaussian of (B, D) with sigma < 1."""
        return self.read(self.features(grid))

    def features(self, grid: Tensor) -> Tensor:
        """What the belief is read off, (B, hidden)."""
        found: Tensor = self.body[:-1](grid)
        return found

    def read(self, features: Tensor) -> Gaussian:
        """The belief in features (B, hidden)."""
        mu, raw = self.body[-1](features).float().chunk(2, dim=-1)
        return Gaussian.of(mu, -functional.softplus(-raw) - 1e-3)


class GridPrior(nn.Module):
    """p(grid | z), cell by cell."""

    def __init__(self, config: ModelConfig, grid_shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, rows, columns = grid_shape
        self.grid_shape = grid_shape
        hidden = config.hidden
        self.body = nn.Sequential(
            nn.Linear(config.latent_dim, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, 2 * channels * rows * columns),
        )

    def forward(self, z: Tensor) -> Gaussian:
        """(B, D) -> Gaussian of the standardised grid, (B, c, h, w)."""
        channels, rows, columns = self.grid_shape
        mu, log_sigma = self.body(z).view(-1, 2 * channels, rows, columns).chunk(2, dim=1)
        return Gaussian.of(mu, log_sigma)


class VAE(nn.Module):
    """Both levels, and what is fixed once the data is known: mean frame, scale of the grid, pixel_std.

    Args:
        config: sizes.
        frame_shape: (H, W, 3), both multiples of 8.

    Raises:
        ModelError: the frame cannot be parted into cells.
    """

    mean_frame: Tensor
    grid_mean: Tensor
    grid_std: Tensor
    pixel_std: Tensor

    def __init__(self, config: ModelConfig, frame_shape: tuple[int, int, int]) -> None:
        super().__init__()
        height, width, _ = frame_shape
        if height % CELL or width % CELL or min(height, width) < 2 * CELL:
            raise ModelError(
                f"expected frames whose sides are multiples of {CELL} from {2 * CELL} on, "
                f"received {height}x{width}; collect with another --size"
            )
        self.config, self.frame_shape = config, frame_shape
        rows, columns = height // CELL, width // CELL
        self.grid_shape = (config.grid_channels, rows, columns)
        self.local_encoder = LocalEncoder(config)
        self.local_decoder = LocalDecoder(config)
        self.global_encoder = GlobalEncoder(config, rows * columns)
        self.grid_prior = GridPrior(config, self.grid_shape)
        self.register_buffer("mean_frame", torch.full((3, height, width), 0.5))
        self.register_buffer("grid_mean", torch.zeros(self.grid_shape))
        self.register_buffer("grid_std", torch.ones(()))
        self.register_buffer("pixel_std", torch.tensor(0.1))
        for part in (self.local_encoder, self.local_decoder):
            part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it

    def encode_local(self, images: Tensor) -> Gaussian:
        """Images (B, 3, H, W) in [0, 1] -> q(grid | x), (B, c, h, w)."""
        out: Gaussian = self.local_encoder(images - self.mean_frame)
        return out

    def encode_global(self, grid: Tensor) -> Gaussian:
        """Mean of q(grid | x), (B, c, h, w) -> belief of a lone frame about z, (B, D)."""
        out: Gaussian = self.global_encoder(self.standardised(grid))
        return out

    def standardised(self, grid: Tensor) -> Tensor:
        """Grid (B, c, h, w) as the global level takes it."""
        return (grid - self.grid_mean) / self.grid_std

    def forward(self, images: Tensor) -> tuple[Gaussian, Gaussian]:
        """Images (B, 3, H, W) -> local belief (B, c, h, w), global belief (B, D)."""
        local = self.encode_local(images)
        return local, self.encode_global(local.mu)

    def predict_grid(self, z: Tensor) -> Gaussian:
        """Give p(grid | z), (B, c, h, w), of z (B, D)."""
        standard: Gaussian = self.grid_prior(z)
        return Gaussian(
            self.grid_mean + self.grid_std * standard.mu, standard.log_sigma + self.grid_std.log()
        )

    def decode_grid(self, grid: Tensor) -> Tensor:
        """Grid (B, c, h, w) -> mean of p(x | grid), (B, 3, H, W), not clipped."""
        out: Tensor = self.mean_frame + self.local_decoder(grid)
        return out

    def decode(self, z: Tensor) -> Tensor:
        """Draw the likeliest grid of z (B, D) as a frame, (B, 3, H, W)."""
        return self.decode_grid(self.predict_grid(z).mu)
