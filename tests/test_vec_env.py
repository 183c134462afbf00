"""BeliefVecEnv: many environments, one call of the perceiver, and the features of each on its own."""

from functools import partial

import numpy as np
import pytest
from stable_baselines3 import SAC
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecMonitor

from robovae.control import BeliefFeatures, BeliefObservation, BeliefVecEnv, Bursts, ControlError
from tests.toy_beliefs import LATENTS, MEMORY, CountingPerceiver, make_filter, toy_filter, toy_perceiver
from tests.toy_env import make_toy

KINDS = [("mu", 1), ("mu", 3), ("mu_sigma", 1), ("mu_sigma", 3), ("filtered", 1)]
LENGTHS = (3, 5, 7)
CLOSE = {"rtol": 0, "atol": 1e-5}
"""What a batch of another size may change of a network's output."""


def filter_for(kind: str):
    return toy_filter() if kind == "filtered" else None


def toys(lengths=LENGTHS) -> DummyVecEnv:
    return DummyVecEnv([partial(make_toy, max_steps=length) for length in lengths])


def beliefs(kind: str = "mu", stack: int = 1, venv=None, perceiver=None, **settings) -> BeliefVecEnv:
    return BeliefVecEnv(
        toys() if venv is None else venv,
        perceiver or toy_perceiver(),
        kind,
        stack=stack,
        belief_filter=filter_for(kind),
        **settings,
    )


def actions(step: int, count: int = 3) -> np.ndarray:
    return np.random.default_rng(step).uniform(-1, 1, (count, 2)).astype(np.float32)


@pytest.mark.parametrize(("kind", "stack"), KINDS)
def test_each_is_shown_what_a_lone_wrapper_shows(kind: str, stack: int) -> None:
    venv = beliefs(kind, stack)
    venv.seed(4)
    lone = [
        BeliefObservation(
            make_toy(max_steps=length), toy_perceiver(), kind, stack=stack, belief_filter=filter_for(kind)
        )
        for length in LENGTHS
    ]
    shown = venv.reset()
    for row, env in enumerate(lone):
        np.testing.assert_allclose(shown[row], env.reset(seed=4 + row)[0], **CLOSE)
    ends = 0
    for step in range(16):
        taken = actions(step)
        shown, rewards, dones, infos = venv.step(taken)
        assert shown.shape == (3, *venv.observation_space.shape)
        assert shown.dtype == venv.observation_space.dtype == np.float32
        for row, env in enumerate(lone):
            own, reward, _, truncated, _ = env.step(taken[row])
            assert (rewards[row], dones[row]) == (pytest.approx(reward), truncated)
            assert ("terminal_observation" in infos[row]) == truncated
            if truncated:
                ends += 1
                assert infos[row]["TimeLimit.truncated"]
                np.testing.assert_allclose(infos[row]["terminal_observation"], own, **CLOSE)
                own, _ = env.reset()
            np.testing.assert_allclose(shown[row], own, **CLOSE)
    assert ends == 16 // 3 + 16 // 5 + 16 // 7


@pytest.mark.parametrize(("kind", "stack"), KINDS)
def test_the_terminal_observation_is_that_of_the_terminal_frame(kind: str, stack: int) -> None:
    venv, bare, perceiver = beliefs(kind, stack, toys([2])), toys([2]), toy_perceiver()
    venv.seed(0)
    bare.seed(0)
    by_hand = BeliefFeatures(LATENTS, kind, stack, filter_for(kind))
    venv.reset()
    by_hand.begin(perceiver(bare.reset()["image"]))
    for step in range(2):
        taken = actions(step, 1)
        shown, _, dones, infos = venv.step(taken)
        observation, _, _, raw = bare.step(taken)
        frame = raw[0]["terminal_observation"] if dones[0] else {"image": observation["image"][0]}
        expected = by_hand.update(perceiver(frame["image"][None]), taken)[0]
    found = infos[0]["terminal_observation"]
    assert found.shape == venv.observation_space.shape
    np.testing.assert_allclose(found, expected, **CLOSE)
    assert not np.allclose(found, shown[0]), "the next episode's first features are others"


def test_a_step_is_one_call_of_the_perceiver() -> None:
    perceiver = CountingPerceiver()
    venv = beliefs(perceiver=perceiver)
    venv.reset()
    assert perceiver.calls == [3]
    begun = [int(venv.step(actions(step))[2].sum()) for step in range(15)]
    assert perceiver.calls[1:] == [3 + count for count in begun]
    assert sum(begun) == 5 + 3 + 2


def test_the_replay_buffer_holds_latents() -> None:
    venv = VecMonitor(beliefs("filtered"))
    agent = SAC(
        "MlpPolicy",
        venv,
        buffer_size=300,
        learning_starts=30,
        batch_size=8,
        seed=0,
        policy_kwargs={"net_arch": [8]},
    )
    agent.learn(60)
    buffer = agent.replay_buffer
    assert buffer.observations.shape == (100, 3, 2 * LATENTS + MEMORY + 4 * 2)
    assert buffer.observations.dtype == np.float32
    filled = slice(0, buffer.pos)
    here, there, done = (
        part[filled] for part in (buffer.observations, buffer.next_observations, buffer.dones)
    )
    assert done.any()
    moved = ~np.isclose(there[:-1], here[1:]).all(-1)
    np.testing.assert_array_equal(
        moved, done[:-1] == 1, "an episode's last frame is not the next one's first"
    )
    assert len(agent.ep_info_buffer) == done.sum()


@pytest.mark.parametrize("outside", [True, False])
def test_monitors_count_in_and_around_it(outside: bool) -> None:
    venv = VecMonitor(beliefs()) if outside else beliefs(venv=VecMonitor(toys()))
    venv.reset()
    ended = [
        info["episode"] for step in range(7) for info in venv.step(actions(step))[3] if "episode" in info
    ]
    assert sorted(episode["l"] for episode in ended) == [3, 3, 5, 7]
    assert venv.belief.mu.shape == (3, LATENTS)


@pytest.mark.slow
def test_processes_of_their_own_show_the_same() -> None:
    makers = [partial(make_toy, max_steps=length) for length in LENGTHS[:2]]
    apart, here = (
        beliefs(venv=SubprocVecEnv(makers, start_method="forkserver")),
        beliefs(venv=DummyVecEnv(makers)),
    )
    apart.seed(0)
    here.seed(0)
    np.testing.assert_array_equal(apart.reset(), here.reset())
    for step in range(4):
        one, other = apart.step(actions(step, 2)), here.step(actions(step, 2))
        np.testing.assert_array_equal(one[0], other[0])
        for mine, theirs in zip(one[3], other[3], strict=True):
            np.testing.assert_array_equal(
                mine.get("terminal_observation", 0), theirs.get("terminal_observation", 0)
            )
    apart.close()


def test_lost_frames_say_nothing_and_first_ones_are_never_lost() -> None:
    drop = Bursts(0.4, 3)
    venv = beliefs("mu_sigma", drop=drop, rng=np.random.default_rng(7))
    seen = beliefs("mu_sigma")
    silence = np.repeat([0.0, 1.0], LATENTS)
    streams = [drop.stream(rng) for rng in np.random.default_rng(7).spawn(3)]
    for one in (venv, seen):
        one.seed(0)
    np.testing.assert_array_equal(venv.reset(), seen.reset())
    losses = 0
    for step in range(40):
        shown, _, dones, infos = venv.step(actions(step))
        clear, _, _, others = seen.step(actions(step))
        for row, lost in enumerate(map(next, streams)):
            losses += lost
            found = infos[row]["terminal_observation"] if dones[row] else shown[row]
            sight = others[row]["terminal_observation"] if dones[row] else clear[row]
            np.testing.assert_array_equal(found, silence if lost else sight)
            if dones[row]:
                np.testing.assert_array_equal(shown[row], clear[row])
    assert losses > 20


def test_spoilt_frames_are_seen_as_such_and_first_ones_never_are() -> None:
    corrupt = Bursts(0.4, 3)
    venv = beliefs("mu", corrupt=corrupt, rng=np.random.default_rng(7))
    seen = beliefs("mu")
    for one in (venv, seen):
        one.seed(0)
    np.testing.assert_array_equal(venv.reset(), seen.reset())
    differ = []
    for step in range(40):
        shown, _, dones, infos = venv.step(actions(step))
        clear, _, _, others = seen.step(actions(step))
        for row in range(3):
            found = infos[row]["terminal_observation"] if dones[row] else shown[row]
            sight = others[row]["terminal_observation"] if dones[row] else clear[row]
            differ.append((found != sight).any())
            if dones[row]:
                np.testing.assert_array_equal(shown[row], clear[row])
    assert 0.2 < np.mean(differ) < 0.6


def test_the_filter_coasts_through_lost_frames() -> None:
    venv = beliefs("filtered", drop=Bursts(0.4, 3))
    venv.reset()
    shown = np.concatenate([venv.step(actions(step))[0] for step in range(20)])[:, :LATENTS]
    assert (np.abs(shown).max(1) > 1e-3).all()
    assert venv.belief.mu.shape == (3, LATENTS)
    assert (venv.belief.sigma <= 1.0).all()


def test_losses_are_those_of_the_generator() -> None:
    def shown(seed: int) -> np.ndarray:
        venv = beliefs(drop=Bursts(0.4, 3), rng=np.random.default_rng(seed))
        venv.seed(0)
        venv.reset()
        return np.stack([venv.step(actions(step))[0] for step in range(20)])

    np.testing.assert_array_equal(shown(0), shown(0))
    assert (shown(0) != shown(1)).any()


def test_a_vector_is_shown_beside_the_features() -> None:
    venv, alone, bare = beliefs("filtered", beside="state"), beliefs("filtered"), toys()
    for one in (venv, alone, bare):
        one.seed(0)
    assert {key: space.shape for key, space in venv.observation_space.items()} == {
        "belief": alone.observation_space.shape,
        "state": (4,),
    }
    shown, features, raw = venv.reset(), alone.reset(), bare.reset()
    ends = 0
    for step in range(10):
        np.testing.assert_array_equal(shown["belief"], features)
        np.testing.assert_array_equal(shown["state"], raw["state"])
        taken = actions(step)
        shown, _, dones, infos = venv.step(taken)
        features, _, _, others = alone.step(taken)
        raw, _, _, facts = bare.step(taken)
        for row in np.flatnonzero(dones):
            ends += 1
            last = infos[row]["terminal_observation"]
            np.testing.assert_array_equal(last["belief"], others[row]["terminal_observation"])
            np.testing.assert_array_equal(last["state"], facts[row]["terminal_observation"]["state"])
    assert ends == 3 + 2 + 1


def test_an_action_that_is_not_finite_does_not_reach_the_environments() -> None:
    venv = beliefs("filtered")
    venv.reset()
    with pytest.raises(ControlError, match=r"received .*nan.*; the policy has diverged"):
        venv.step(np.full((3, 2), np.nan))
    assert [env.steps for env in venv.venv.envs] == [0, 0, 0]


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: beliefs(key="eye"), "a frame under 'eye', received image, state; pass key="),
        (lambda: beliefs(venv=DummyVecEnv([partial(make_toy, width=24)])), r"received .*render at 16x16"),
        (lambda: beliefs(beside="image"), "a vector under 'image', received Box"),
        (lambda: beliefs(beside="truth"), "a vector under 'truth', received Dict"),
        (lambda: beliefs("pixels"), "expected one of mu, mu_sigma, filtered"),
        (
            lambda: BeliefVecEnv(toys(), toy_perceiver(), "filtered"),
            "expected a belief_filter, received none",
        ),
        (
            lambda: BeliefVecEnv(toys(), toy_perceiver(), "filtered", belief_filter=make_filter(LATENTS, 1)),
            r"a Box \(1,\), received Box",
        ),
    ],
)
def test_what_does_not_fit_is_refused(use, message: str) -> None:
    with pytest.raises(ControlError, match=message):
        use()
