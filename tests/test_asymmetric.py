"""Critics that see the state, of actors that see beliefs: who sees what, and what is kept of it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from stable_baselines3.common.vec_env import DummyVecEnv

from robovae.control import BeliefVecEnv
from robovae.policy import BeliefPolicy, train_policy
from robovae.policy.asymmetric import ACTOR, CRITIC
from robovae.policy.checkpoint import Progress, load_checkpoint, restore, save_checkpoint
from robovae.policy.learner import extract_actor, make_learner
from tests.test_policy import make_run
from tests.test_policy_training import TINY, Interrupt, make_env
from tests.toy_beliefs import LATENTS, toy_perceiver

APART = replace(TINY, critic="state", features="mu").filled()


@pytest.fixture(params=["sac", "tqc"])
def learner(request):
    beliefs = BeliefVecEnv(DummyVecEnv([make_env, make_env]), toy_perceiver(), beside="state")
    return make_learner(replace(APART, algo=request.param), beliefs)


def seen(belief: float, state: float) -> dict[str, torch.Tensor]:
    return {ACTOR: torch.full((3, LATENTS), belief), CRITIC: torch.full((3, 4), state)}


def test_the_actor_sees_beliefs_alone_and_the_critics_the_state_alone(learner) -> None:
    actor, critic, actions = learner.policy.actor, learner.policy.critic, torch.zeros(3, 2)

    def acts(*values: float) -> np.ndarray:
        return actor(seen(*values), deterministic=True).detach().numpy()

    def judges(network, *values: float) -> np.ndarray:
        found = network(seen(*values), actions)
        return np.stack([one.detach().numpy() for one in found])

    assert (acts(0.5, 0.0) == acts(0.5, 9.0)).all()
    assert (acts(0.5, 0.0) != acts(0.9, 0.0)).any()
    for network in (critic, learner.policy.critic_target):
        assert (judges(network, 0.0, 0.5) == judges(network, 9.0, 0.5)).all()
        assert (judges(network, 0.0, 0.5) != judges(network, 0.0, 0.9)).any()


def test_the_network_that_is_kept_needs_beliefs_alone(learner) -> None:
    learner.learn(40)
    actor = extract_actor(learner)
    assert actor.size == LATENTS
    theirs = learner.predict(
        {name: part.numpy() for name, part in seen(0.3, 5.0).items()}, deterministic=True
    )
    np.testing.assert_allclose(actor(np.full((3, LATENTS), 0.3, np.float32)), theirs[0], atol=1e-6)


def test_a_checkpoint_brings_both_halves_of_what_was_seen_back(learner, tmp_path: Path) -> None:
    learner.learn(40)
    save_checkpoint(tmp_path, "key", Progress(steps=40), learner, extract_actor(learner))
    path, progress = load_checkpoint(tmp_path, "key")
    algo = "tqc" if "TQC" in type(learner).__name__ else "sac"
    again = make_learner(replace(APART, algo=algo), learner.env)
    restore(path, progress, again)
    assert again.replay_buffer.pos == learner.replay_buffer.pos == 20
    for name in ("observations", "next_observations"):
        for key in (ACTOR, CRITIC):
            kept = getattr(learner.replay_buffer, name)[key][:20]
            assert np.abs(kept).max() > 0
            np.testing.assert_array_equal(getattr(again.replay_buffer, name)[key][:20], kept)


def test_a_policy_is_trained_resumed_and_acts_on_frames(tmp_path: Path) -> None:
    run = make_run(tmp_path / "toy")
    config = replace(TINY, critic="state")
    with pytest.raises(KeyboardInterrupt):
        train_policy(run, make_env, config, Interrupt(24))
    done = train_policy(run, make_env, config)
    assert (done["steps"], done["features"], done["config"]["critic"]) == (60, "filtered", "state")
    action = BeliefPolicy.load(run)(make_env().reset(seed=0)[0]["image"])
    assert action.shape == (2,)
