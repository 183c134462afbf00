"""The tracker: against the exact Kalman filter, and what silence and loud frames may do to it."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robovae.dynamics import FilterDynamics
from robovae.gaussian import Gaussian
from robovae.tracker import Step, Tracker, innovations

PROCESS = math.exp(-0.5)
"""Standard deviation of a step in `RandomWalk`."""


class RandomWalk(FilterDynamics):
    """z' = z + process noise, as a temporal prior."""

    def __init__(self, latent_dim: int) -> None:
        super().__init__(latent_dim, 1, 4)

    def step(self, last: Gaussian, action: torch.Tensor, memory: torch.Tensor):
        return Gaussian(last.mu, torch.full_like(last.mu, math.log(PROCESS))), memory


def lone_of(location: torch.Tensor, variance: float) -> Gaussian:
    """N(0, I) times a message."""
    precision = 1.0 + 1.0 / variance
    return Gaussian(location / variance / precision, torch.full_like(location, -0.5 * math.log(precision)))


def test_it_is_the_kalman_filter_where_the_next_state_is_known_up_to_noise_of_the_process():
    torch.manual_seed(0)
    tracker, seen = Tracker(RandomWalk(1)), torch.randn(20, 1)
    mean, variance = 0.0, 1.0  # of the first prior
    for t, location in enumerate(seen):
        step = tracker.update(lone_of(location[None], 0.3))
        if t:
            # The dynamics start from the posterior's mean: only the noise of the process widens the prior.
            variance = PROCESS**2
        gain = variance / (variance + 0.3)
        mean, variance = mean + gain * (float(location) - mean), (1 - gain) * variance
        assert float(step.posterior.mu) == pytest.approx(mean, abs=1e-5)
        assert float(step.posterior.sigma) == pytest.approx(math.sqrt(variance), abs=1e-5)


def test_a_frame_that_says_nothing_moves_nothing():
    tracker = Tracker(RandomWalk(3))
    tracker.update(lone_of(torch.tensor([[0.5, -1.0, 2.0]]), 0.1))
    silent = Gaussian(torch.zeros(1, 3), torch.zeros(1, 3))
    step = tracker.update(silent)
    assert torch.allclose(step.posterior.mu, step.prior.mu)
    assert torch.allclose(step.posterior.log_sigma, step.prior.log_sigma)
    assert innovations(step.prior, silent)[0].flatten().tolist() == pytest.approx([0.0] * 3, abs=1e-2)


def wander(fading: float, log_sigma: float, lone: list[Gaussian], persistence: float = 1.0) -> list[Step]:
    """Of a filter that takes z for a random walk in steps of a width; a variance of 0.01 is usual."""
    dynamics = FilterDynamics(1, 1, 4)
    with torch.no_grad():
        dynamics.head.bias[1] = log_sigma + 1.0
        dynamics.fading.fill_(fading)
        dynamics.persistence.fill_(persistence)
        dynamics.usual.fill_(0.01)
    tracker = Tracker(dynamics.requires_grad_(False))
    return [tracker.update(one) for one in lone]


def test_a_filter_that_is_too_sure_of_its_dynamics_still_follows_when_it_fades():
    lone = [lone_of(location.view(1, 1), 0.01) for location in torch.linspace(0.0, 2.0, 40)]
    sure, fading = (wander(factor, -4.0, lone)[-1].posterior.mu.item() for factor in (1.0, 2.0))
    assert abs(sure - 2.0) > 0.15
    assert abs(fading - 2.0) < 0.05


@given(st.floats(1.0, 4.0), st.floats(1e-4, 1e-2))
def test_fading_keeps_the_gain_above_that_of_a_fading_memory(fading, variance):
    lone = [lone_of(torch.zeros(1, 1), variance)] * 200
    step = wander(fading, -5.0, lone)[-1]
    gain = 1.0 - float(step.posterior.sigma / step.prior.sigma) ** 2
    assert gain >= 1.0 - fading**-2 - 0.05  # of P' = fading^2 P without any noise of the process


@given(st.floats(1.0, 4.0), st.integers(1, 10))
def test_through_frames_that_say_nothing_a_belief_widens_by_its_dynamics_alone(fading, silent):
    seen = lone_of(torch.ones(1, 1), 0.01)
    steps = wander(fading, -2.0, [seen] + [Gaussian(torch.zeros(1, 1), torch.zeros(1, 1))] * silent)
    start = float(seen.sigma) * fading ** (1.0 - float(seen.sigma) ** 2)
    expected = min(1.0, start**2 + silent * math.exp(-4.0))
    assert float(steps[-1].prior.sigma) ** 2 == pytest.approx(expected, rel=1e-4)


def test_a_burst_that_errs_alike_moves_a_filter_as_one_frame_does():
    truth, wrong = lone_of(torch.zeros(1, 1), 0.01), lone_of(torch.ones(1, 1), 0.2)
    once, stays, anew = (
        wander(1.0, -5.0, [truth] + [wrong] * frames, persistence)[-1].posterior.mu.item()
        for frames, persistence in ((1, 1.0), (10, 10.0), (10, 1.0))
    )
    assert stays == pytest.approx(once, abs=0.01)
    assert anew > 3.0 * once  # negative control


def test_what_is_usual_is_believed_at_once_whatever_came_before():
    lone = [lone_of(torch.ones(1, 1), 0.2)] * 5 + [lone_of(torch.zeros(1, 1), 0.01)]
    stays, anew = (
        wander(1.0, -5.0, lone, persistence)[-1].posterior.mu.item() for persistence in (10.0, 1.0)
    )
    assert abs(stays) < 0.1 < anew


def test_an_action_is_heard():  # negative control for whatever runs without one
    torch.manual_seed(0)
    dynamics = FilterDynamics(2, 1, 8)
    torch.nn.init.normal_(dynamics.head.weight)
    priors = []
    for push in (-1.0, 1.0):
        tracker = Tracker(dynamics)
        tracker.update(lone_of(torch.zeros(1, 2), 0.1))
        priors.append(tracker.update(lone_of(torch.zeros(1, 2), 0.1), torch.tensor([[push]])).prior.mu)
    assert not torch.allclose(*priors)


def test_sequences_side_by_side_are_filtered_as_each_alone():
    torch.manual_seed(1)
    dynamics = FilterDynamics(2, 1, 8)
    torch.nn.init.normal_(dynamics.head.weight)
    seen, action = torch.randn(4, 3, 2), torch.randn(4, 3, 1)
    both, alone = Tracker(dynamics), Tracker(dynamics)
    for t in range(4):
        together = both.update(lone_of(seen[t], 0.2), action[t])
        single = alone.update(lone_of(seen[t, :1], 0.2), action[t, :1])
        assert torch.allclose(together.posterior.mu[:1], single.posterior.mu, atol=1e-6)
    both.keep(1)
    assert both.update(lone_of(seen[0, :1], 0.2), action[0, :1]).posterior.mu.shape == (1, 2)


def test_reset_forgets():
    tracker = Tracker(RandomWalk(2))
    first = tracker.update(lone_of(torch.ones(1, 2), 0.1))
    tracker.reset()
    again = tracker.update(lone_of(torch.ones(1, 2), 0.1))
    assert torch.equal(first.posterior.mu, again.posterior.mu)


def test_innovation_is_one_on_average_where_both_widths_are_true():
    torch.manual_seed(0)
    count, process, noise = 20_000, 0.5, 0.7
    prior = Gaussian(torch.randn(count, 1), torch.full((count, 1), math.log(process)))
    location = prior.mu + process * torch.randn(count, 1) + noise * torch.randn(count, 1)
    found, _ = innovations(prior, lone_of(location, noise**2))
    assert float(found.mean()) == pytest.approx(1.0, abs=0.05)
    off, _ = innovations(prior, lone_of(location + 2.0, noise**2))
    assert float(off.mean()) > 3.0


@settings(deadline=None, max_examples=100)
@given(
    st.floats(-50, 50), st.floats(-6.9, -1e-3), st.floats(-50, 50), st.floats(-6.9, 0.0), st.integers(1, 4)
)
def test_no_variance_is_ever_negative_nor_wider_than_the_prior(mu, log_sigma, start, first, steps):
    tracker = Tracker(RandomWalk(1))
    tracker.update(Gaussian(torch.tensor([[start]]), torch.tensor([[first]])))
    for _ in range(steps):
        lone = Gaussian(torch.tensor([[mu]]), torch.tensor([[log_sigma]]))
        step = tracker.update(lone)
        assert torch.isfinite(step.posterior.mu).all()
        assert float(step.posterior.log_sigma) <= float(step.prior.log_sigma) + 1e-5
        assert float(innovations(step.prior, lone)[0]) >= 0.0
