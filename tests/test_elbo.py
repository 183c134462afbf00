"""The bound is a bound: checked on a linear-Gaussian model, whose log p(x) is known exactly."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from robovae.elbo import (
    free_bits,
    iwae,
    log_likelihood,
    lone_frame_terms,
    optimal_log_likelihood,
)
from robovae.gaussian import Gaussian
from robovae.vae import MIN_PIXEL_STD, VAE, ModelConfig

PIXELS, CELLS, LATENTS = 12, 3, 2
SHAPE = (3, 2, 2)
CELL_STD, PIXEL_STD = 0.6, 0.3


@dataclass
class LinearGaussian:
    """The interface of the VAE: z ~ N(0, I), grid = A z + noise, pixels = W grid + noise.

    q is the true posterior where A = 0; elsewhere the best that ignores that z and the grid depend on each
    other is still not it.
    """

    mix: Tensor
    """A, (CELLS, LATENTS)."""
    draw: Tensor
    """W, (PIXELS, CELLS), orthogonal columns."""
    widen: float = 1.0
    """Factor on the sigma of q(grid | x)."""

    pixel_std = torch.tensor(PIXEL_STD)

    def __call__(self, images: Tensor) -> tuple[Gaussian, Gaussian]:
        x = images.flatten(1)
        scale = self.draw.square().sum(0)  # W'W is diagonal
        cell_precision = 1 / (CELL_STD**2 + self.mix.square().sum(1))
        precision = scale / PIXEL_STD**2 + cell_precision
        mu = (x @ self.draw) / PIXEL_STD**2 / precision
        log_sigma = (-0.5 * precision.log() + math.log(self.widen)).expand_as(mu)
        grid = Gaussian(mu.view(-1, CELLS, 1, 1), log_sigma.reshape(-1, CELLS, 1, 1))
        posterior = torch.linalg.inv(torch.eye(LATENTS) + self.mix.T @ self.mix / CELL_STD**2)
        mean = mu @ self.mix @ posterior / CELL_STD**2
        return grid, Gaussian(mean, 0.5 * posterior.diagonal().log().expand_as(mean))

    def decode_grid(self, grid: Tensor) -> Tensor:
        return (grid.flatten(1) @ self.draw.T).view(-1, *SHAPE)

    def predict_grid(self, z: Tensor) -> Gaussian:
        mu = (z @ self.mix.T).view(-1, CELLS, 1, 1)
        return Gaussian(mu, torch.full_like(mu, math.log(CELL_STD)))

    def log_p(self, images: Tensor) -> Tensor:
        inner = CELL_STD**2 * torch.eye(CELLS) + self.mix @ self.mix.T
        covariance = PIXEL_STD**2 * torch.eye(PIXELS) + self.draw @ inner @ self.draw.T
        return MultivariateNormal(torch.zeros(PIXELS), covariance).log_prob(images.flatten(1))


def linear(coupling: float, widen: float = 1.0) -> LinearGaussian:
    generator = torch.Generator().manual_seed(0)
    columns, _ = torch.linalg.qr(torch.randn(PIXELS, CELLS, generator=generator))
    scales = torch.tensor([1.5, 1.0, 0.5])
    mix = coupling * torch.randn(CELLS, LATENTS, generator=generator)
    return LinearGaussian(mix, columns * scales, widen)


def some_images(count: int = 4) -> Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(1))


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mean_elbo(model: LinearGaussian, image: Tensor, draws: int = 40_000) -> float:
    return float(lone_frame_terms(model, image.expand(draws, *SHAPE), rng()).elbo.mean())  # type: ignore[arg-type]


def test_at_the_true_posterior_the_bound_is_tight() -> None:
    model = linear(0.0)
    for image in some_images():
        assert mean_elbo(model, image) == pytest.approx(float(model.log_p(image[None])), abs=0.03)


def test_at_the_true_posterior_every_importance_weight_is_the_evidence() -> None:
    model, images = linear(0.0), some_images()
    for samples in (1, 3):
        found = iwae(model, images, samples, rng())  # type: ignore[arg-type]
        torch.testing.assert_close(found, model.log_p(images), atol=1e-3, rtol=0)


@pytest.mark.parametrize(("coupling", "widen"), [(0.8, 1.0), (0.0, 1.5), (0.8, 0.6)])
def test_at_any_other_posterior_it_lies_below_the_evidence(coupling: float, widen: float) -> None:
    model = linear(coupling, widen)
    for image in some_images():
        assert mean_elbo(model, image) < float(model.log_p(image[None])) - 0.05


def test_the_importance_weighted_bound_rises_to_the_evidence() -> None:
    model, image = linear(0.8), some_images(1)
    exact = float(model.log_p(image))
    many = image.expand(4000, *SHAPE)
    bounds = [float(iwae(model, many, samples, rng(samples)).mean()) for samples in (1, 4, 16, 64)]  # type: ignore[arg-type]
    assert bounds == sorted(bounds)
    assert bounds[-1] == pytest.approx(exact, abs=0.05)
    assert bounds[0] < exact - 0.2


def test_with_one_sample_it_is_the_elbo_in_expectation() -> None:
    model, image = linear(0.8), some_images(1)
    one = float(iwae(model, image.expand(40_000, *SHAPE), 1, rng(5)).mean())  # type: ignore[arg-type]
    assert one == pytest.approx(mean_elbo(model, image[0]), abs=0.05)


def test_the_likelihood_is_that_of_torch() -> None:
    images, decoded = some_images(), torch.zeros(4, *SHAPE)
    expected = torch.distributions.Normal(decoded, PIXEL_STD).log_prob(images).flatten(1).sum(1)
    torch.testing.assert_close(log_likelihood(images, decoded, torch.tensor(PIXEL_STD)), expected)


def test_the_optimal_likelihood_is_the_best_over_pixel_std() -> None:
    images, decoded = some_images(), torch.zeros(4, *SHAPE)
    best = optimal_log_likelihood(images, decoded)
    own = (images - decoded).square().mean().sqrt()
    torch.testing.assert_close(best, log_likelihood(images, decoded, own).mean())
    for factor in (0.8, 1.25):
        assert log_likelihood(images, decoded, own * factor).mean() < best


def test_a_perfect_decoder_is_no_surer_than_rounding_allows() -> None:
    images = some_images()
    floor = log_likelihood(images, images, torch.tensor(MIN_PIXEL_STD)).mean() - 0.5 * PIXELS
    torch.testing.assert_close(optimal_log_likelihood(images, images), floor)


def test_free_bits_charge_every_dimension_its_floor_and_no_less() -> None:
    nats = torch.tensor([[0.0, 1.0], [0.2, 3.0]], requires_grad=True)
    assert float(free_bits(nats.detach(), 0.0)) == pytest.approx(2.1)
    charged = free_bits(nats, 0.5)
    assert charged.item() == pytest.approx(2.5)
    charged.backward()  # type: ignore[no-untyped-call]
    assert nats.grad is not None
    assert nats.grad.tolist() == [[0.0, 0.5], [0.0, 0.5]], "below the floor nothing pulls"


def test_the_models_bound_is_the_sum_of_its_parts_and_repeats_with_its_generator() -> None:
    torch.manual_seed(0)
    model = VAE(ModelConfig.tiny(), (16, 16, 3))
    images = torch.rand(5, 3, 16, 16)
    terms = lone_frame_terms(model, images, rng(3))
    torch.testing.assert_close(terms.elbo, terms.reconstruction - terms.local_kl - terms.global_kl)
    assert terms.elbo.shape == (5,)
    assert (terms.local_kl >= 0).all()
    assert (terms.global_kl >= 0).all()
    torch.testing.assert_close(lone_frame_terms(model, images, rng(3)).elbo, terms.elbo)
    assert not torch.equal(lone_frame_terms(model, images, rng(4)).elbo, terms.elbo)
