"""Shapes, levels and constants of the two-level VAE."""

import pytest
import torch

from robovae.gaussian import Gaussian
from robovae.vae import VAE, ModelConfig, ModelError

TINY = ModelConfig.tiny()


def model(frame_shape: tuple[int, int, int] = (16, 16, 3), seed: int = 0) -> VAE:
    torch.manual_seed(seed)
    return VAE(TINY, frame_shape).eval()


@pytest.mark.parametrize("size", [(16, 16), (16, 32), (64, 64), (96, 128), (128, 128)])
def test_frames_of_any_size_in_cells_go_in_and_come_out(size: tuple[int, int]) -> None:
    height, width = size
    vae = model((height, width, 3))
    with torch.no_grad():
        local, belief = vae(torch.rand(2, 3, height, width))
        assert local.mu.shape == local.log_sigma.shape == (2, TINY.grid_channels, height // 8, width // 8)
        assert belief.mu.shape == belief.log_sigma.shape == (2, TINY.latent_dim)
        assert vae.decode_grid(local.mu).shape == (2, 3, height, width)
        assert vae.decode(belief.mu).shape == (2, 3, height, width)
        assert vae.predict_grid(belief.mu).mu.shape == local.mu.shape


@pytest.mark.parametrize("size", [(60, 64), (64, 70), (8, 64), (0, 16)])
def test_frames_that_are_no_whole_cells_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ModelError, match=rf"multiples of 8 from 16 on, received {size[0]}x{size[1]}"):
        model((*size, 3))


@pytest.mark.parametrize("value", [0, -1, 2.5, "3"])
def test_sizes_below_one_are_refused(value: object) -> None:
    with pytest.raises(ModelError, match=r"ModelConfig\.latent_dim: expected an integer of at least 1"):
        ModelConfig(latent_dim=value)  # type: ignore[arg-type]


def test_a_lone_frame_is_never_less_sure_than_the_prior() -> None:
    vae = model()
    wild = 100 * torch.randn(50, *vae.grid_shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        sigma = vae.encode_global(wild).sigma
    assert (sigma < 1).all()
    assert (sigma > 0).all()


def test_the_mean_frame_is_what_an_empty_grid_is_drawn_around() -> None:
    vae = model()
    grid = torch.zeros(1, *vae.grid_shape)
    with torch.no_grad():
        before = vae.decode_grid(grid)
        vae.mean_frame += 0.25
        torch.testing.assert_close(vae.decode_grid(grid), before + 0.25)
        bright = vae.encode_local(torch.full((1, 3, 16, 16), 0.95)).mu
        vae.mean_frame -= 0.25
        torch.testing.assert_close(vae.encode_local(torch.full((1, 3, 16, 16), 0.7)).mu, bright)


def test_the_scale_of_the_grid_moves_the_prior_along() -> None:
    vae = model()
    z = torch.randn(3, TINY.latent_dim, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        standard = vae.predict_grid(z)
        vae.grid_mean += 2.0
        vae.grid_std *= 3.0
        scaled = vae.predict_grid(z)
    torch.testing.assert_close(scaled.mu, 3 * standard.mu + 2)
    torch.testing.assert_close(scaled.sigma, 3 * standard.sigma)


def test_decoding_z_is_drawing_the_grid_it_predicts() -> None:
    vae, z = model(), torch.zeros(1, TINY.latent_dim)
    with torch.no_grad():
        torch.testing.assert_close(vae.decode(z), vae.decode_grid(vae.predict_grid(z).mu))


def test_one_frame_gets_the_belief_it_gets_in_a_batch() -> None:
    vae, images = model((64, 64, 3)), torch.rand(9, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        _, together = vae(images)
        alone = [vae(image[None])[1] for image in images]
    for part in range(2):
        apart = torch.cat([one[part] for one in alone])
        torch.testing.assert_close(apart, together[part], atol=1e-5, rtol=1e-4)


def test_a_move_is_seen() -> None:  # negative control: beliefs do depend on the frame
    vae, images = model(), torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        local, belief = vae(images)
    assert not torch.allclose(belief.mu[0], belief.mu[1])
    assert not torch.allclose(local.mu[0], local.mu[1])


def test_gradients_reach_every_weight_of_both_levels() -> None:
    vae = model()
    local, belief = vae(torch.rand(2, 3, 16, 16))
    prior: Gaussian = vae.predict_grid(belief.mu)
    every = (vae.decode_grid(local.mu), *local, *belief, *prior)
    sum(part.square().sum() for part in every).backward()
    missing = [name for name, weight in vae.named_parameters() if weight.grad is None]
    assert missing == []
