"""The belief filter: against the exact Kalman filter, and what no belief may do to it."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robovae.belief import Belief, BeliefError
from robovae.dynamics import FilterDynamics, fuse
from robovae.filter import FILE, BeliefFilter, load_dynamics, save_dynamics
from robovae.gaussian import Gaussian
from robovae.run.directory import RunError, RunFacts, build_model, load_model, save_model
from robovae.uncertainty import NotCalibratedError
from robovae.vae import ModelConfig

DECAY, PUSH, NOISE = 0.9, 0.3, 0.25
"""Of z' = DECAY z + PUSH a + process noise, and the variance of a frame's message."""
PROCESS = 0.15
D, A = 2, 2


class Linear(FilterDynamics):
    """A linear-Gaussian system as dynamics: their own widths, with the means of the system."""

    def __init__(self) -> None:
        super().__init__(D, A, 1)
        with torch.no_grad():
            self.head.bias[D:] = 0.5 * math.log(PROCESS) + 1.0
            self.stretch.bias[:] = math.log(DECAY**2)
        self.requires_grad_(False)

    def step(self, last, action, memory):
        prior, memory = super().step(last, action, memory)
        return Gaussian(DECAY * last.mu + PUSH * action, prior.log_sigma), memory


def message(location: np.ndarray, variance: float) -> Belief:
    """N(0, I) times a message."""
    precision = 1.0 + 1.0 / variance
    return Belief(location / variance / precision, np.full_like(location, precision**-0.5))


def gaussian(belief: Belief) -> Gaussian:
    return Gaussian(torch.from_numpy(belief.mu), torch.from_numpy(belief.sigma).log())


def random_filter(seed: int = 0, loud: float = 1.0) -> BeliefFilter:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        dynamics = FilterDynamics(D, A, 8)
        torch.nn.init.normal_(dynamics.head.weight, std=loud)
        torch.nn.init.normal_(dynamics.stretch.weight, std=loud)
        dynamics.fading.fill_(2.0)
        dynamics.persistence.fill_(12.0)
        dynamics.usual.fill_(0.05)
    return BeliefFilter(dynamics.requires_grad_(False))


def some(seed: int, rows: int = 3) -> tuple[Belief, np.ndarray]:
    rng = np.random.default_rng(seed)
    sigma = rng.uniform(0.05, 0.9, (rows, D))
    return Belief(rng.normal(size=(rows, D)), sigma), rng.normal(size=(rows, A))


def kalman(seen: np.ndarray, actions: np.ndarray, noise: np.ndarray) -> list[tuple[np.ndarray, float]]:
    """Mean and variance after each frame, by the textbook; noise infinite: there was no frame."""
    mean, variance, found = np.zeros(D), 1.0, []
    for t, location in enumerate(seen):
        if t:
            mean, variance = DECAY * mean + PUSH * actions[t], DECAY**2 * variance + PROCESS
        gain = variance / (variance + noise[t])
        mean, variance = mean + gain * (location - mean), (1.0 - gain) * variance
        found.append((mean, variance))
    return found


def test_of_a_linear_gaussian_system_it_is_the_exact_kalman_filter():
    rng = np.random.default_rng(0)
    seen, actions = rng.normal(size=(30, D)), rng.normal(size=(30, A))
    noise = rng.choice([0.05, NOISE, 2.0], 30)
    noise[10:18] = np.inf  # it coasts, and believes the next frame the sooner
    belief_filter = BeliefFilter(Linear())
    for t, (mean, variance) in enumerate(kalman(seen, actions, noise)):
        lone = message(seen[t][None], noise[t]) if np.isfinite(noise[t]) else belief_filter.silence()
        found = belief_filter.update(lone, actions[t][None] if t else None)
        np.testing.assert_allclose(found.mu[0], mean, atol=1e-4)
        np.testing.assert_allclose(found.sigma[0], math.sqrt(variance), rtol=1e-4)


def test_with_the_noise_of_the_frames_misjudged_it_is_not():  # negative control
    rng = np.random.default_rng(0)
    seen, actions = rng.normal(size=(30, D)), rng.normal(size=(30, A))
    belief_filter = BeliefFilter(Linear())
    for t in range(30):
        found = belief_filter.update(message(seen[t][None], 4 * NOISE), actions[t][None] if t else None)
    assert np.abs(found.mu[0] - kalman(seen, actions, np.full(30, NOISE))[-1][0]).max() > 0.05


def test_frames_that_say_nothing_leave_the_prediction_as_it_is():
    belief_filter, (belief, _) = random_filter(), some(0)
    dynamics, before = belief_filter.dynamics, belief_filter.update(belief)
    prior, memory = dynamics.fade(gaussian(before), dynamics.heard(gaussian(belief))), torch.zeros(3, 8)
    for seed in range(1, 6):
        action = some(seed)[1]
        prior, memory = dynamics.step(prior, torch.from_numpy(action).float(), memory)
        coasted = belief_filter.update(belief_filter.silence(3), action)
        np.testing.assert_allclose(coasted.mu, prior.mu.numpy(), atol=1e-4)
        np.testing.assert_allclose(coasted.sigma, prior.sigma.numpy(), rtol=1e-4)
        np.testing.assert_allclose(belief_filter.memory, memory.numpy(), atol=1e-5)


def test_a_frame_that_says_something_moves_it():  # negative control
    moved = []
    for sigma in (0.999999, 0.5):
        belief_filter = random_filter()
        belief_filter.update(some(0)[0])
        frame = Belief(np.ones((3, D)), np.full((3, D), sigma))
        moved.append(belief_filter.update(frame).mu)
    assert np.abs(moved[0] - moved[1]).max() > 0.1


BELIEFS = st.tuples(st.floats(-20, 20), st.floats(-5, -1e-3))


@given(BELIEFS, BELIEFS, BELIEFS)
def test_independent_sensors_may_come_in_any_order(prior, one, other):
    p, a, b = (
        Gaussian(*(torch.tensor([[value]], dtype=torch.float64) for value in pair))
        for pair in (prior, one, other)
    )
    first, second = fuse(fuse(p, a), b), fuse(fuse(p, b), a)
    torch.testing.assert_close(first.mu, second.mu, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(first.log_sigma, second.log_sigma, rtol=1e-6, atol=1e-6)


def test_the_order_of_frames_in_time_does_matter():  # negative control
    (one, action), (other, _) = some(0), some(1)
    found = []
    for frames in ((one, other), (other, one)):
        belief_filter = random_filter()
        belief_filter.update(frames[0])
        found.append(belief_filter.update(frames[1], action).mu)
    assert np.abs(found[0] - found[1]).max() > 0.01


FLOATS = st.floats(-3e38, 3e38)
SIGMAS = st.floats(1e-30, 1e30)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(FLOATS, SIGMAS, FLOATS), min_size=1, max_size=6), st.integers(0, 3))
def test_no_belief_and_no_action_breaks_it(frames, seed):
    belief_filter = random_filter(seed, loud=3.0)
    for t, (mu, sigma, push) in enumerate(frames):
        belief = Belief(np.array([[mu, -mu]]), np.full((1, D), sigma))
        found = belief_filter.update(belief, np.full((1, A), push) if t else None)
        assert np.isfinite(found.mu).all()
        assert np.isfinite(belief_filter.memory).all()
        assert (found.sigma > 0).all()
        assert (found.sigma <= 1.0 + 1e-6).all()


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000))
def test_a_frame_never_makes_it_less_sure(seed):
    belief_filter, (belief, _) = random_filter(seed), some(seed)
    dynamics, _ = belief_filter.dynamics, belief_filter.update(belief)
    frame, action = some(seed + 1)
    first, heard = (dynamics.heard(gaussian(one)) for one in (belief, frame))
    prior, _ = dynamics.step(
        dynamics.fade(first, first), torch.from_numpy(action).float(), torch.zeros(3, 8)
    )  # what is heard of a first frame is all it knows
    found = belief_filter.update(frame, action)
    assert (found.sigma <= torch.minimum(heard.sigma, prior.sigma).numpy() * (1 + 1e-5)).all()


def test_sequences_begin_in_the_place_of_others():
    (first, action), (second, _) = some(0), some(1)
    both, alone = random_filter(), random_filter()
    both.update(first)
    begun = both.begin(second[0], [1])
    heard = both.dynamics.heard(gaussian(second[0]))
    np.testing.assert_allclose(begun.mu, heard.mu.numpy(), atol=1e-5)
    alone.update(second[0])
    after = both.update(first, action)
    np.testing.assert_allclose(after.mu[1:2], alone.update(first[1], action[1:2]).mu, atol=1e-5)


def test_what_was_remembered_stays_as_it_was_handed_out():
    belief_filter, (belief, action) = random_filter(), some(0)
    belief_filter.update(belief)
    belief_filter.update(belief, action)
    held = belief_filter.memory
    before = held.copy()
    belief_filter.begin(Belief(belief.mu[:1], belief.sigma[:1]), [1])
    np.testing.assert_array_equal(held, before)
    assert (belief_filter.memory[1] != before[1]).any()
    held[:] = 9.0
    assert (belief_filter.memory != 9.0).all()


def test_reset_forgets():
    belief_filter, (belief, action) = random_filter(), some(0)
    first = belief_filter.update(belief)
    belief_filter.update(belief, action)
    belief_filter.reset()
    np.testing.assert_array_equal(belief_filter.update(belief).mu, first.mu)
    belief_filter.reset()
    with pytest.raises(BeliefError, match="received none; call update"):
        _ = belief_filter.memory
    with pytest.raises(BeliefError, match="call update"):
        belief_filter.begin(belief, [0])


@pytest.mark.parametrize(
    ("belief", "action", "said"),
    [
        (Belief(np.zeros((3, D + 1)), np.ones((3, D + 1))), None, "expected mu"),
        (Belief(np.zeros((2, D)), np.ones((2, D))), None, "reset"),
        (Belief(np.full((3, D), np.nan), np.ones((3, D))), None, "silence"),
        (Belief(np.zeros((3, D)), np.ones((3, D))), np.zeros((3, A + 1)), "pass what the robot did"),
        (Belief(np.zeros((3, D)), np.ones((3, D))), np.full((3, A), np.nan), "NaN"),
        (Belief(np.zeros((3, D)), np.ones((3, D))), np.zeros((A, 3)), "pass what the robot did"),
        (Belief(np.zeros((3, D)), np.ones((3, D))), np.zeros(3 * A), "pass what the robot did"),
        (Belief(np.zeros((3, D)), np.ones((3, D))), np.zeros(A + 1), "pass what the robot did"),
    ],
)
def test_what_it_cannot_take_is_one_line(belief, action, said):
    belief_filter = random_filter()
    belief_filter.update(some(0)[0])
    with pytest.raises(BeliefError, match=said):
        belief_filter.update(belief, action)


class TestFile:
    """The dynamics in a run directory."""

    @pytest.fixture
    def run(self, tmp_path: Path) -> Path:
        torch.manual_seed(0)
        save_model(tmp_path, build_model(ModelConfig.tiny(), RunFacts((16, 16, 3), A, "Toy-v0", None)))
        return tmp_path

    def test_what_is_saved_is_loaded_whatever_its_size(self, run):
        torch.manual_seed(1)
        width = load_model(run).vae.config.latent_dim
        dynamics = FilterDynamics(width, A, 5)
        dynamics.action_scale.fill_(2.0)
        save_dynamics(run, dynamics)
        found = BeliefFilter.load(run)
        assert (found.latent_dim, found.action_dim, found.memory_dim) == (width, A, 5)
        for name, value in dynamics.state_dict().items():
            assert torch.equal(found.dynamics.state_dict()[name], value)
        assert not any(weight.requires_grad for weight in found.dynamics.parameters())

    def test_a_run_without_one(self, run):
        with pytest.raises(NotCalibratedError, match=r"expected a filter.*robovae calibrate"):
            BeliefFilter.load(run)

    def test_the_dynamics_of_other_weights(self, run):
        model = load_model(run)
        save_dynamics(run, FilterDynamics.of(model.dynamics))
        torch.manual_seed(2)
        save_model(run, build_model(ModelConfig.tiny(), model.facts))
        with pytest.raises(NotCalibratedError, match="of these weights, received others"):
            load_dynamics(run, load_model(run))

    def test_the_dynamics_of_another_robot(self, run):
        model = load_model(run)
        save_dynamics(run, FilterDynamics(model.vae.config.latent_dim, A + 1, 4))
        with pytest.raises(NotCalibratedError, match="of these weights, received others"):
            load_dynamics(run, model)

    def test_a_damaged_file(self, run):
        save_dynamics(run, FilterDynamics.of(load_model(run).dynamics))
        (run / FILE).write_bytes(b"nothing")
        with pytest.raises(RunError, match=r"expected whole weights.*run `robovae calibrate"):
            BeliefFilter.load(run)
