"""Closed forms of diagonal Gaussians against torch.distributions."""

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from robovae.gaussian import LOG_SIGMA_RANGE, Gaussian, kl, kl_parts


def some(seed: int, shape: tuple[int, ...] = (64, 5)) -> Gaussian:
    generator = torch.Generator().manual_seed(seed)
    mu = 2 * torch.randn(shape, generator=generator)
    return Gaussian(mu, 0.7 * torch.randn(shape, generator=generator))


def test_kl_is_that_of_torch() -> None:
    q, p = some(0), some(1)
    expected = kl_divergence(Normal(q.mu, q.sigma), Normal(p.mu, p.sigma))
    torch.testing.assert_close(kl(q, p), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(kl(p, q), expected), "KL is not symmetric: the order matters"


def test_kl_of_a_gaussian_to_itself_is_zero() -> None:
    q = some(0)
    torch.testing.assert_close(kl(q, q), torch.zeros_like(q.mu))


def test_kl_is_finite_at_both_ends_of_the_clamp() -> None:
    low, high = LOG_SIGMA_RANGE
    ends = Gaussian.of(torch.zeros(2), torch.tensor([-1e9, 1e9]))
    assert ends.log_sigma.tolist() == [low, high]
    assert torch.isfinite(kl(ends, Gaussian.standard(ends.mu))).all()


def test_spring_and_capacity_add_up_to_the_kl() -> None:
    q = some(2)
    spring, capacity = kl_parts(q)
    torch.testing.assert_close(spring + capacity, kl(q, Gaussian.standard(q.mu)), rtol=1e-4, atol=1e-5)
    assert (spring >= 0).all()
    assert (capacity >= -1e-6).all()


def test_the_spring_pulls_mu_and_the_capacity_charges_for_sigma() -> None:
    mu = torch.tensor([0.0, 3.0, 0.0])
    spring, capacity = kl_parts(Gaussian(mu, torch.tensor([0.0, 0.0, -2.0])))
    assert spring.tolist() == [0.0, 4.5, 0.0]
    assert capacity[:2].tolist() == [0.0, 0.0]
    assert capacity[2] > 1.5


def test_log_prob_is_that_of_torch() -> None:
    q, value = some(3), some(4).mu
    expected = Normal(q.mu, q.sigma).log_prob(value)
    torch.testing.assert_close(q.log_prob(value), expected, rtol=1e-4, atol=1e-4)


def test_draws_have_the_mean_and_the_deviation_and_carry_gradients() -> None:
    mu, log_sigma = torch.tensor([1.0, -2.0]), torch.tensor([0.5, -1.0], requires_grad=True)
    q = Gaussian(mu, log_sigma)
    drawn = q.sample(torch.randn(200_000, 2, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(drawn.mean(0), mu, atol=0.01, rtol=0)
    torch.testing.assert_close(drawn.std(0), q.sigma, atol=0.01, rtol=0)
    drawn.square().mean().backward()
    assert log_sigma.grad is not None
    assert (log_sigma.grad > 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_networks_output_becomes_float32(dtype: torch.dtype) -> None:
    q = Gaussian.of(torch.zeros(3, dtype=dtype), torch.zeros(3, dtype=dtype))
    assert q.mu.dtype == q.log_sigma.dtype == torch.float32


def test_what_is_done_to_both_parts_of_a_gaussian():
    a = Gaussian(torch.arange(6.0).view(3, 2), -torch.arange(6.0).view(3, 2))
    b = a.map(lambda part: part + 10.0)
    assert b.mu.tolist() == [[10.0, 11.0], [12.0, 13.0], [14.0, 15.0]]
    assert b.log_sigma.tolist() == [[10.0, 9.0], [8.0, 7.0], [6.0, 5.0]]
    assert a.rows(torch.tensor([2, 0])).mu.tolist() == [[4.0, 5.0], [0.0, 1.0]]
    both = Gaussian.joined((a, b))
    assert both.mu.tolist() == a.mu.tolist() + b.mu.tolist()
    assert both.log_sigma.tolist() == a.log_sigma.tolist() + b.log_sigma.tolist()
    assert torch.equal(Gaussian.stacked((a, b)).mu[:, 1], b.mu)
    assert torch.equal(Gaussian.stacked((a, b)).log_sigma[:, 0], a.log_sigma)
    mixed = Gaussian.where(torch.tensor([[True], [False], [True]]), a, b)
    assert mixed.mu.tolist() == [[0.0, 1.0], [12.0, 13.0], [4.0, 5.0]]
    assert mixed.log_sigma.tolist() == [[0.0, -1.0], [8.0, 7.0], [-4.0, -5.0]]
