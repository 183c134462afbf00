"""The message of a frame times the temporal prior: a Kalman update, checked against products of densities."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Normal

from robovae.dynamics import FilterDynamics, TemporalPrior, fuse
from robovae.gaussian import Gaussian

D, A, HIDDEN = 3, 2, 16
mus = st.floats(-20, 20)
log_sigmas = st.floats(-5, 0)


def one(mu: float, log_sigma: float) -> Gaussian:
    return Gaussian(
        torch.tensor([[mu]], dtype=torch.float64), torch.tensor([[log_sigma]], dtype=torch.float64)
    )


def some(seed: int, shape: tuple[int, ...] = (4, D)) -> Gaussian:
    generator = torch.Generator().manual_seed(seed)
    mu = torch.randn(shape, generator=generator)
    return Gaussian(mu, -torch.rand(shape, generator=generator) - 1e-3)


@given(mus, log_sigmas)
def test_under_the_standard_prior_a_frame_stands_for_itself(mu: float, log_sigma: float) -> None:
    lone = one(mu, log_sigma)
    fused = fuse(Gaussian.standard(lone.mu), lone)
    torch.testing.assert_close(fused.mu, lone.mu)
    torch.testing.assert_close(fused.log_sigma, lone.log_sigma, atol=1e-9, rtol=1e-9)


@given(mus, log_sigmas)
def test_a_frame_that_says_nothing_moves_nothing(mu: float, log_sigma: float) -> None:
    prior = one(mu, log_sigma)
    fused = fuse(prior, one(0.0, 0.0))
    torch.testing.assert_close(fused.mu, prior.mu)
    torch.testing.assert_close(fused.log_sigma, prior.log_sigma, atol=1e-9, rtol=1e-9)


@given(mus, log_sigmas, mus, log_sigmas)
def test_a_belief_is_at_least_as_sure_as_either_source(
    mu: float, log_sigma: float, seen: float, seen_log_sigma: float
) -> None:
    prior, lone = one(mu, log_sigma), one(seen, seen_log_sigma)
    fused = fuse(prior, lone)
    assert torch.isfinite(fused.mu).all()
    assert float(fused.log_sigma) <= min(log_sigma, seen_log_sigma) + 1e-9


@given(mus, log_sigmas)
def test_in_float32_the_precision_stays_positive(mu: float, log_sigma: float) -> None:
    prior, lone = Gaussian(*(part.float() for part in one(0.0, 0.0))), one(mu, log_sigma)
    fused = fuse(prior, Gaussian(*(part.float() for part in lone)))
    assert torch.isfinite(fused.log_sigma).all()
    assert float(fused.sigma) > 0


def hearing(persistence: float, usual: float) -> FilterDynamics:
    dynamics = FilterDynamics(1, 1, 4).double()
    dynamics.persistence.fill_(persistence)
    dynamics.usual.fill_(usual)
    return dynamics


def said(mu: float, variance: float) -> Gaussian:
    """N(0, 1) times the message of a frame."""
    return one(mu / (1.0 + variance), 0.5 * math.log(variance / (1.0 + variance)))


@given(st.integers(2, 20), mus, st.floats(1e-3, 10.0))
def test_an_error_that_stays_for_n_frames_counts_for_one(count: int, mu: float, variance: float) -> None:
    prior, lone = one(0.3, -0.2), said(mu, variance)
    heard, fused = hearing(count, 0.0).heard(lone), prior
    for _ in range(count):
        fused = fuse(fused, heard)
    torch.testing.assert_close(fused, fuse(prior, lone), atol=1e-9, rtol=1e-9)
    anew = prior
    for _ in range(count):  # negative control: by a filter that hears all of each frame
        anew = fuse(anew, hearing(1.0, 0.0).heard(lone))
    assert float(anew.sigma) < 0.98 * float(fused.sigma)


@given(mus, st.floats(1e-3, 0.1), st.floats(1.0, 50.0))
def test_what_is_usual_is_heard_in_full(mu: float, variance: float, persistence: float) -> None:
    lone = said(mu, variance)
    torch.testing.assert_close(hearing(persistence, 0.1 + 1e-9).heard(lone), lone)
    torch.testing.assert_close(hearing(1.0, 0.0).heard(lone), lone)


@given(mus, st.floats(0.0, 1.0), st.floats(0.0, 1e3), st.floats(1.0, 50.0))
def test_what_is_above_counts_so_many_times(mu: float, usual: float, more: float, persistence: float) -> None:
    heard = hearing(persistence, usual).heard(said(mu, 1e-3 + usual + more))
    wanted = said(mu, 1e-3 + usual + more + (persistence - 1.0) * (1e-3 + more))
    torch.testing.assert_close(heard, wanted, atol=1e-6, rtol=1e-6)


@given(st.floats(1.0, 1e3), st.floats(0.0, 1e3))
def test_silence_is_heard_as_silence(persistence: float, usual: float) -> None:
    dynamics = hearing(persistence, usual)
    torch.testing.assert_close(dynamics.heard(one(0.0, 0.0)), one(0.0, 0.0))
    nearly = dynamics.float().heard(one(0.0, -1e-6).map(torch.Tensor.float))
    assert torch.isfinite(nearly.log_sigma).all()
    assert -2e-6 < float(nearly.log_sigma) <= 0.0


def test_fusing_is_the_product_of_the_densities() -> None:
    prior, lone = one(0.7, -0.4), one(-1.2, -0.9)
    z = torch.linspace(-8, 8, 160_001, dtype=torch.float64)
    prior_density, lone_density = (Normal(g.mu[0, 0], g.sigma[0, 0]).log_prob(z) for g in (prior, lone))
    weight = torch.softmax(prior_density + lone_density - Normal(0.0, 1.0).log_prob(z), 0)
    mean = (weight * z).sum()
    deviation = (weight * (z - mean).square()).sum().sqrt()
    fused = fuse(prior, lone)
    assert float(fused.mu) == pytest.approx(float(mean), abs=1e-6)
    assert float(fused.sigma) == pytest.approx(float(deviation), abs=1e-6)


def test_a_sharp_frame_wins_over_a_vague_prior_and_the_other_way_round() -> None:
    sharp, vague = one(2.0, -4.0), one(-2.0, -0.05)
    assert float(fuse(vague, sharp).mu) == pytest.approx(2.0, abs=0.01)
    assert float(fuse(sharp, vague).mu) == pytest.approx(2.0, abs=0.01)


def temporal(seed: int = 0, trained: bool = True) -> TemporalPrior:
    torch.manual_seed(seed)
    prior = TemporalPrior(D, A, HIDDEN)
    if trained:
        torch.nn.init.normal_(prior.head.weight, std=0.5)
    return prior


def sequence(length: int = 6) -> tuple[Gaussian, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    action = torch.randn(4, length, A, generator=generator)
    return some(2, (4, length, D)), action, torch.randn(4, length, D, generator=generator)


def test_a_fresh_prior_holds_the_last_latent() -> None:
    last = some(0)
    predicted, _ = temporal(trained=False).step(last, torch.ones(4, A), torch.zeros(4, HIDDEN))
    torch.testing.assert_close(predicted.mu, last.mu)


def test_no_prediction_is_wider_than_the_standard_prior() -> None:
    prior = temporal()
    torch.nn.init.normal_(prior.head.weight, std=50.0)
    last = Gaussian(10 * some(0).mu, some(0).log_sigma)
    predicted, _ = prior.step(last, torch.ones(4, A), torch.zeros(4, HIDDEN))
    assert (predicted.sigma <= 1).all()
    assert (predicted.sigma > 0).all()


def test_the_filter_predicts_wider_from_wider_beliefs_and_no_wider_than_the_standard_prior() -> None:
    torch.manual_seed(0)
    dynamics, memory = FilterDynamics(D, A, HIDDEN), torch.zeros(4, HIDDEN)
    torch.nn.init.normal_(dynamics.stretch.weight, std=2.0)
    widths = []
    for log_sigma in (-7.0, -1.5, -1.0, 0.0):
        last = Gaussian(some(0).mu, torch.full((4, D), log_sigma))
        widths.append(dynamics.step(last, torch.ones(4, A), memory)[0].sigma)
    assert (widths[0] <= widths[1]).all()
    assert (widths[1] < widths[2]).any()
    assert (widths[2] <= widths[3]).all()
    assert (widths[3] <= 1).all()


def test_from_what_is_known_exactly_the_filter_predicts_as_the_temporal_prior() -> None:
    torch.manual_seed(0)
    dynamics, memory, action = FilterDynamics(D, A, HIDDEN), torch.zeros(4, HIDDEN), torch.ones(4, A)
    torch.nn.init.normal_(dynamics.head.weight, std=0.5)
    known, vague = (Gaussian(some(0).mu, torch.full((4, D), width)) for width in (-20.0, -1.0))
    mine, alone = (
        dynamics.step(known, action, memory)[0],
        TemporalPrior.step(dynamics, known, action, memory)[0],
    )
    torch.testing.assert_close(mine, alone)
    assert not torch.allclose(dynamics.step(vague, action, memory)[0].sigma, alone.sigma)  # negative control


def test_a_rollout_begins_with_the_lone_belief_and_fuses_from_then_on() -> None:
    lone, action, noise = sequence()
    rollout = temporal().rollout(lone, action, noise)
    assert rollout.z.shape == rollout.posterior.mu.shape == rollout.prior.mu.shape == (4, 6, D)
    assert not rollout.prior.mu[:, 0].any()
    torch.testing.assert_close(rollout.posterior.mu[:, 0], lone.mu[:, 0])
    for t in range(6):
        prior, own = (Gaussian(g.mu[:, t], g.log_sigma[:, t]) for g in (rollout.prior, lone))
        posterior = fuse(prior, own)
        torch.testing.assert_close(rollout.posterior.mu[:, t], posterior.mu)
        torch.testing.assert_close(rollout.z[:, t], posterior.sample(noise[:, t]))


def test_a_rollout_sees_no_future() -> None:
    lone, action, noise = sequence()
    before = temporal().rollout(lone, action, noise)
    later = lone.mu.clone()
    later[:, 4] += 3.0
    pushed = action.clone()
    pushed[:, 4] += 3.0
    after = temporal().rollout(Gaussian(later, lone.log_sigma), pushed, noise)
    torch.testing.assert_close(after.z[:, :4], before.z[:, :4])
    torch.testing.assert_close(after.prior.mu[:, 4], before.prior.mu[:, 4])
    assert not torch.allclose(after.z[:, 4], before.z[:, 4])
    assert not torch.allclose(after.prior.mu[:, 5], before.prior.mu[:, 5])


def test_actions_count_in_units_of_their_own_size() -> None:
    z, memory, action = some(0), torch.zeros(4, HIDDEN), torch.ones(4, A)
    prior = temporal()
    before, _ = prior.step(z, action, memory)
    prior.action_scale *= 10.0
    same, _ = prior.step(z, 10 * action, memory)
    torch.testing.assert_close(same.mu, before.mu)
    other, _ = prior.step(z, action, memory)
    assert not torch.allclose(other.mu, before.mu)


def test_a_robot_that_is_only_watched_needs_no_actions() -> None:
    lone, _, noise = sequence()
    rollout = TemporalPrior(D, 0, HIDDEN).rollout(lone, torch.zeros(4, 6, 0), noise)
    assert torch.isfinite(rollout.z).all()
