"""What training is timed against: a plain loop of the World-Models VAE, and pythae with that network."""

import contextlib
import io
import itertools
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robovae.bench.clock import Clock, count_flops
from robovae.elbo import optimal_log_likelihood
from robovae.episodes import EpisodeStore
from robovae.frames import to_tensor
from robovae.gaussian import Gaussian, kl
from robovae.train.config import TrainConfig
from robovae.train.objectives import learning_rate, ramp


class WorldModelsVAE(nn.Module):
    """The VAE of World Models (Ha & Schmidhuber, 1803.10122, appendix A.1) for 64x64 frames, latent 32."""

    def __init__(self, latent_dim: int = 32) -> None:
        super().__init__()
        self.encoder = world_models_encoder()
        self.head = nn.Linear(1024, 2 * latent_dim)
        self.widen = nn.Linear(latent_dim, 1024)
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(1024, 128, 5, 2),
            nn.ReLU(),
            nn.ConvTranspose2d(128, 64, 5, 2),
            nn.ReLU(),
            nn.ConvTranspose2d(64, 32, 6, 2),
            nn.ReLU(),
            nn.ConvTranspose2d(32, 3, 6, 2),
        )

    def encode(self, images: Tensor) -> Gaussian:
        """Images (B, 3, 64, 64) -> q(z | x), (B, D)."""
        return Gaussian.of(*self.head(self.encoder(images)).chunk(2, dim=-1))

    def decode(self, z: Tensor) -> Tensor:
        """Draw z (B, D) as (B, 3, 64, 64)."""
        out: Tensor = self.decoder(self.widen(z)[:, :, None, None])
        return out


def world_models_encoder() -> nn.Sequential:
    """Four convolutions of 4x4 at stride 2, 32-64-128-256 maps, flattened to 1024."""
    widths = (3, 32, 64, 128, 256)
    layers: list[nn.Module] = []
    for narrow, wide in itertools.pairwise(widths):
        layers += [nn.Conv2d(narrow, wide, 4, 2), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten())


def _batches(store: EpisodeStore, size: int) -> Iterator[NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    while True:
        yield store.frames(rng.integers(store.num_frames, size=size))


def plain(store: EpisodeStore, centre: Tensor, clock: Clock) -> float:
    """An eager fp32 loop with what made it fastest: centred frames, optimal pixel_std, lr 1e-3, batch 64.

    Warm-up, cosine and the rise of the KL's weight are those of our own local phase.
    """
    torch.manual_seed(0)
    schedule = TrainConfig()
    model = WorldModelsVAE()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def reconstruct(images: Tensor) -> Tensor:
        return model.decode(model.encode(images - centre).mu) + centre

    flops = count_flops(lambda: reconstruct(torch.rand(1, *centre.shape)))
    clock.start()
    for step, frames in enumerate(_batches(store, 64)):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, schedule.local_steps, 1e-3)
        images = to_tensor(frames).contiguous()
        belief = model.encode(images - centre)
        decoded = model.decode(belief.sample(torch.randn_like(belief.mu))) + centre
        nats = kl(belief, Gaussian.standard(belief.mu)).sum(1).mean()
        weight = ramp(step, schedule.local_steps, schedule.kl_warmup)
        loss = weight * nats - optimal_log_likelihood(images, decoded)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 500.0)
        optimizer.step()
        if clock.tick(len(frames), reconstruct):
            break
    return flops


def pythae(store: EpisodeStore, centre: Tensor, clock: Clock) -> float:
    """The VAE and trainer of pythae around the same network; its loss as it is (squared error + KL)."""
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig
    from pythae.trainers.training_callbacks import TrainingCallback

    torch.manual_seed(0)
    network = WorldModelsVAE()

    class Encoder(BaseEncoder):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, x: Tensor) -> Any:
            belief = network.encode(x - centre)
            return ModelOutput(embedding=belief.mu, log_covariance=2.0 * belief.log_sigma)

    class Decoder(BaseDecoder):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, z: Tensor) -> Any:
            return ModelOutput(reconstruction=network.decode(z) + centre)

    def reconstruct(images: Tensor) -> Tensor:
        return network.decode(network.encode(images - centre).mu) + centre

    class StopError(Exception):
        pass

    class Watch(TrainingCallback):  # type: ignore[misc]
        def on_train_step_end(self, training_config: Any, **_: Any) -> None:
            if clock.tick(64, reconstruct):
                raise StopError  # its trainer knows no other way to stop early

    flops = count_flops(lambda: reconstruct(torch.rand(1, *centre.shape)))
    model = VAE(VAEConfig(input_dim=(3, 64, 64), latent_dim=32), Encoder(), Decoder())
    with (
        tempfile.TemporaryDirectory() as place,
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        settings = BaseTrainerConfig(
            output_dir=place,
            num_epochs=10_000,
            learning_rate=1e-3,
            per_device_train_batch_size=64,
            no_cuda=True,
        )
        trainer = BaseTrainer(model, _Images(store), training_config=settings, callbacks=[Watch()])
        clock.start()
        with contextlib.suppress(StopError):
            trainer.train()
    return flops


class _Images(torch.utils.data.Dataset[Any]):
    """Frames as pythae reads them."""

    def __init__(self, store: EpisodeStore) -> None:
        self.store = store

    def __len__(self) -> int:
        return self.store.num_frames

    def __getitem__(self, index: int) -> Any:
        from pythae.data.datasets import DatasetOutput

        return DatasetOutput(data=to_tensor(self.store.frames([index]))[0].contiguous())
