"""BeliefFeatures: what a policy is shown, by definition, for one robot and for many."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robovae.belief import Belief, BeliefError
from robovae.control import FEATURES, BeliefFeatures, ControlError
from tests.toy_beliefs import LATENTS, MEMORY, make_filter, random_belief, toy_filter

KINDS = [("mu", 1), ("mu", 3), ("mu_sigma", 1), ("mu_sigma", 3), ("filtered", 1), ("filtered", 3)]


RECALL = 4 * 2
"""Numbers of the last actions."""


def features(kind: str, stack: int = 1) -> BeliefFeatures:
    return BeliefFeatures(LATENTS, kind, stack, toy_filter() if kind == "filtered" else None)


def action(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (count, 2)).astype(np.float32)


@pytest.mark.parametrize(
    ("kind", "stack", "size"),
    [
        ("mu", 1, LATENTS),
        ("mu", 3, 3 * LATENTS),
        ("mu_sigma", 1, 2 * LATENTS),
        ("mu_sigma", 3, 6 * LATENTS),
        ("filtered", 1, 2 * LATENTS + MEMORY + RECALL),
        ("filtered", 3, 3 * LATENTS + RECALL),
    ],
)
def test_size_is_what_comes_out(kind: str, stack: int, size: int) -> None:
    made = features(kind, stack)
    assert made.size == size
    first, then = made.begin(random_belief(2)), made.update(random_belief(2, 1), action(2))
    assert first.shape == then.shape == (2, size)
    assert first.dtype == then.dtype == np.float32


def test_a_stack_is_filled_with_the_first_belief_and_grows_at_its_end() -> None:
    a, b = random_belief(2, 0), random_belief(2, 1)
    made = features("mu", 3)
    np.testing.assert_array_equal(made.begin(a), np.concatenate([a.mu, a.mu, a.mu], axis=1))
    np.testing.assert_array_equal(made.update(b), np.concatenate([a.mu, a.mu, b.mu], axis=1))


def test_mu_sigma_shows_both_of_each_moment() -> None:
    a, b = random_belief(2, 0), random_belief(2, 1)
    made = features("mu_sigma", 2)
    made.begin(a)
    np.testing.assert_array_equal(made.update(b), np.concatenate([a.mu, a.sigma, b.mu, b.sigma], axis=1))


def test_filtered_shows_the_filters_own_mean_its_move_over_three_steps_the_memory_and_the_actions() -> None:
    made, judge = features("filtered"), make_filter(LATENTS, 2)
    judge.reset()
    last = judge.update(random_belief(2)).mu
    np.testing.assert_array_equal(
        made.begin(random_belief(2)), np.concatenate([last, np.zeros((2, LATENTS + MEMORY + RECALL))], axis=1)
    )
    recent = [np.zeros((2, 2), np.float32)] * 4
    for step in range(1, 7):
        recent = [*recent[1:], action(2, step)]
        belief = judge.update(random_belief(2, step), action(2, step))
        shown = made.update(random_belief(2, step), action(2, step))
        np.testing.assert_allclose(
            shown,
            np.concatenate([belief.mu, 3 * (belief.mu - last), judge.memory, *recent], axis=1),
            atol=1e-6,
        )
        last = belief.mu
        np.testing.assert_array_equal(made.belief.mu, belief.mu)
        np.testing.assert_array_equal(made.belief.sigma, belief.sigma)


def test_a_stack_of_filtered_ones_shows_their_moves_and_the_last_mean() -> None:
    made, judge = features("filtered", 3), make_filter(LATENTS, 2)
    judge.reset()
    means = [judge.update(random_belief(2)).mu] * 3
    still, none = np.zeros((2, 2 * LATENTS)), np.zeros((2, RECALL))
    shown = made.begin(random_belief(2))
    np.testing.assert_array_equal(shown, np.concatenate([still, means[0], none], axis=1))
    recent = [np.zeros((2, 2), np.float32)] * 4
    for step in range(1, 7):
        recent = [*recent[1:], action(2, step)]
        means.append(judge.update(random_belief(2, step), action(2, step)).mu)
        shown = made.update(random_belief(2, step), action(2, step))
        older, old, new = means[-3:]
        wanted = np.concatenate([3 * (old - older), 3 * (new - old), new, *recent], axis=1)
        np.testing.assert_allclose(shown, wanted, atol=1e-6)


def test_filtered_hears_the_action() -> None:
    shown = []
    for push in (-1.0, 1.0):
        made = features("filtered")
        made.begin(random_belief(1))
        shown.append(made.update(random_belief(1, 1), np.full((1, 2), push)))
    assert not np.allclose(*shown)


def test_silence_coasts_on_the_prediction() -> None:
    made, silent = features("filtered"), toy_filter().silence(1)
    made.begin(random_belief(1))
    made.update(random_belief(1, 1), action(1))
    seen = made.update(silent, action(1))
    assert not np.allclose(seen[:, :LATENTS], 0.0)
    plain = features("mu")
    plain.begin(random_belief(1))
    np.testing.assert_array_equal(plain.update(silent), np.zeros((1, LATENTS)))


@pytest.mark.parametrize(("kind", "stack"), KINDS)
@settings(deadline=None, max_examples=20)
@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=8))
def test_robots_side_by_side_are_shown_as_each_alone(kind: str, stack: int, ends: list[list[bool]]) -> None:
    together, alone = features(kind, stack), [features(kind, stack) for _ in range(3)]
    start = random_belief(3)
    shown = together.begin(start)
    for row, one in enumerate(alone):
        np.testing.assert_allclose(one.begin(start[row]), shown[row : row + 1], atol=1e-5)
    for step, ended in enumerate(ends):
        belief, taken, fresh = random_belief(3, step), action(3, step), random_belief(3, 100 + step)
        shown = together.update(belief, taken)
        for row, one in enumerate(alone):
            np.testing.assert_allclose(
                one.update(belief[row], taken[row : row + 1])[0], shown[row], atol=1e-5
            )
        rows = np.flatnonzero(ended)
        for row, first in zip(rows, together.begin(fresh[rows], rows), strict=True):
            np.testing.assert_allclose(alone[row].begin(fresh[row])[0], first, atol=1e-5)
            np.testing.assert_allclose(together.belief.mu[row], alone[row].belief.mu[0], atol=1e-5)


@pytest.mark.parametrize(("kind", "stack"), KINDS)
def test_what_was_shown_stays_as_it_was(kind: str, stack: int) -> None:
    made = features(kind, stack)
    given_in = random_belief(2)
    shown = [made.begin(given_in), made.update(random_belief(2, 1), action(2))]
    beliefs = made.belief
    kept = [array.copy() for array in (*shown, beliefs.mu, given_in.mu)]
    made.begin(random_belief(1, 2), [1])
    made.update(random_belief(2, 3), action(2, 1))
    for array, before in zip((*shown, beliefs.mu, given_in.mu), kept, strict=True):
        np.testing.assert_array_equal(array, before)
    shown[0][:] = 7.0
    made.belief.mu[:] = 7.0
    assert not (made.update(random_belief(2, 4), action(2)) == 7.0).any()


def test_one_filter_serves_two_without_mixing_their_robots() -> None:
    one, other, judge = features("filtered"), features("filtered"), features("filtered")
    one.begin(random_belief(1))
    judge.begin(random_belief(1))
    other.begin(random_belief(3, 9))
    other.update(random_belief(3, 8), action(3))
    np.testing.assert_array_equal(
        one.update(random_belief(1, 1), action(1)), judge.update(random_belief(1, 1), action(1))
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"features": "pixels"}, "features: expected one of mu, mu_sigma, filtered, received 'pixels'"),
        ({"stack": 0}, "stack: expected 1 or more, received 0"),
        ({"features": "filtered"}, "expected a belief_filter, received none; pass BeliefFilter.load"),
        (
            {"features": "filtered", "belief_filter": make_filter(5, 2)},
            f"belief_filter: expected {LATENTS} latents, received 5",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(wrong: dict, message: str) -> None:
    with pytest.raises(ControlError, match=message):
        BeliefFeatures(LATENTS, **wrong)


def test_a_filter_that_is_not_asked_for_is_left_alone() -> None:
    assert BeliefFeatures(LATENTS, "mu", 2, toy_filter()).size == 2 * LATENTS
    assert FEATURES == ("mu", "mu_sigma", "filtered")


@pytest.mark.parametrize("kind", FEATURES)
def test_beliefs_that_do_not_fit_are_refused(kind: str) -> None:
    made = features(kind)
    for use in (
        lambda: made.belief,
        lambda: made.update(random_belief(1)),
        lambda: made.begin(random_belief(1), [0]),
    ):
        with pytest.raises(
            ControlError, match=r"expected sequences under way, received none; call begin\(\)"
        ):
            use()
    made.begin(random_belief(2))
    narrow = random_belief(2, latent_dim=LATENTS - 1)
    nothing = Belief(np.full((2, LATENTS), np.nan), np.ones((2, LATENTS)))
    with pytest.raises(ControlError, match=rf"expected mu \(2, {LATENTS}\), received \(3, {LATENTS}\)"):
        made.update(random_belief(3), action(3))
    with pytest.raises(ControlError, match=rf"received \(2, {LATENTS - 1}\)"):
        made.begin(narrow)
    with pytest.raises(ControlError, match=r"expected finite numbers, received NaN or infinity"):
        made.update(nothing, action(2))
    for rows in ([2], [-1], [0, 0]):
        with pytest.raises(ControlError, match="rows: expected different numbers from 0 to 1, received"):
            made.begin(random_belief(len(rows)), rows)
    assert made.update(random_belief(2), action(2)).shape == (2, made.size), "refused input leaves no trace"


def test_filtered_must_have_an_action_and_one_that_fits() -> None:
    made = features("filtered")
    made.begin(random_belief(1))
    with pytest.raises(ControlError, match='expected what led to these frames for "filtered", received none'):
        made.update(random_belief(1))
    with pytest.raises(BeliefError, match=r"action: expected finite numbers \(1, 2\), received \(1, 3\)"):
        made.update(random_belief(1), np.zeros((1, 3)))


def test_actions_are_shown_in_their_usual_sizes_and_forgotten_with_their_episode() -> None:
    belief_filter = make_filter(LATENTS, 2)
    belief_filter.dynamics.action_scale.copy_(torch.tensor([2.0, 0.5]))
    made = BeliefFeatures(LATENTS, "filtered", 1, belief_filter)
    made.begin(random_belief(2))
    for step in range(3):
        shown = made.update(random_belief(2, step), np.full((2, 2), step + 1.0, np.float32))
    np.testing.assert_allclose(shown[:, -RECALL:], [[0, 0, 0.5, 2, 1, 4, 1.5, 6]] * 2)
    assert not made.begin(random_belief(1), [1])[:, -RECALL:].any()
    shown = made.update(random_belief(2), np.ones((2, 2), np.float32))
    np.testing.assert_allclose(shown[:, -RECALL:], [[0.5, 2, 1, 4, 1.5, 6, 0.5, 2], [0] * 6 + [0.5, 2]])
