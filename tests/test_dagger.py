"""A pupil of a policy on the state: what it is taught, that it learns, and what is refused."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.vec_env import DummyVecEnv

from robovae.policy import BeliefPolicy, PolicyConfig, PolicyError, train_policy
from robovae.policy.asymmetric import ACTOR, CRITIC
from robovae.policy.learner import extract_actor, make_learner
from robovae.policy.network import Actor
from robovae.policy.saving import inputs_of, policy_dir, save_policy
from robovae.run.acting import acting_stages
from robovae.run.recipe import CollectStage, Recipe
from robovae.run.stages import run_stage
from tests.test_policy import make_run, save_random
from tests.test_policy_training import TINY, Interrupt, make_env

SPACE = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
PUPIL = replace(
    TINY, algo="dagger", features="mu", learning_starts=8, hidden=(64,), learning_rate=3e-3
).filled()


def homing() -> Actor:
    """Pushes against position and velocity, weakly: no action is at its bound."""
    weight = -0.5 * np.concatenate([np.eye(2), np.eye(2)], axis=1).astype(np.float32)
    return Actor(((weight, np.zeros(2, np.float32)),), "relu", "squashed", SPACE)


class Knowing(gym.ObservationWrapper):
    """Beliefs in which the whole state can be read, turned about."""

    def __init__(self) -> None:
        super().__init__(make_env())
        state = self.env.observation_space["state"]
        self.observation_space = gym.spaces.Dict({ACTOR: state, CRITIC: state})

    def observation(self, observation: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {ACTOR: -observation["state"], CRITIC: observation["state"]}


@pytest.fixture
def pupil():
    return make_learner(PUPIL, DummyVecEnv([Knowing, Knowing]), 0, homing())


@pytest.fixture
def run(tmp_path: Path) -> Path:
    path = make_run(tmp_path / "toy")
    record = {"observation": "state", "features": "state", "stack": 1}
    save_policy(policy_dir(path, "state"), homing(), record)
    return path


def error(pupil) -> float:
    """Mean square between the pupil's actions and those of `homing`, in all that the pupil met."""
    buffer = pupil.replay_buffer
    met = {name: rows[: buffer.pos].reshape(-1, rows.shape[-1]) for name, rows in buffer.observations.items()}
    with torch.no_grad():
        own, _ = pupil.predict(met, deterministic=True)
    return float(np.square(own - homing()(met[CRITIC])).mean())


def test_the_teacher_acts_first_and_the_pupil_then(pupil) -> None:
    pupil.learn(8)
    seen = pupil.replay_buffer
    told = homing()(seen.observations[CRITIC][: seen.pos].reshape(-1, 4))
    acted = seen.actions[: seen.pos].reshape(-1, 2)
    assert 0 < np.abs(acted - told).max() < 0.3, "the teacher's actions, and noise"
    pupil.teacher = None  # nobody to ask while it acts, and nothing to learn
    pupil.train = lambda *args, **settings: None
    pupil.learn(8, reset_num_timesteps=False)
    assert seen.pos == 8


def test_it_comes_nearer_to_the_teacher_and_its_critics_learn_nothing(pupil) -> None:
    critics = [part.detach().clone() for part in pupil.critic.parameters()]
    pupil.learn(40)
    before = error(pupil)
    pupil.train(400, 32)
    assert error(pupil) < 0.2 * before
    assert all(torch.equal(*pair) for pair in zip(critics, pupil.critic.parameters(), strict=True))
    assert extract_actor(pupil).size == 4


def test_a_teacher_of_the_other_way_is_followed_the_other_way(pupil) -> None:
    weight, bias = homing().layers[0]
    pupil.teacher = Actor(((-weight, bias),), "relu", "squashed", SPACE)
    pupil.learn(40)
    pupil.train(400, 32)
    far = error(pupil)
    pupil.teacher = homing()
    pupil.train(400, 32)
    assert error(pupil) < 0.2 * far


def test_a_pupil_is_trained_resumed_and_acts_on_frames(run) -> None:
    config = replace(TINY, algo="dagger", learning_starts=8)
    with pytest.raises(KeyboardInterrupt):
        train_policy(run, make_env, config, Interrupt(24))
    done = train_policy(run, make_env, config)
    assert (done["steps"], done["algo"], done["config"]["teacher"]) == (60, "dagger", "state")
    assert BeliefPolicy.load(run)(make_env().reset(seed=0)[0]["image"]).shape == (2,)
    write_other_teacher(run)
    with pytest.raises(PolicyError, match="received a finished one of another"):
        train_policy(run, make_env, config)


def write_other_teacher(run: Path) -> None:
    weight, bias = homing().layers[0]
    save_policy(policy_dir(run, "state"), Actor(((2 * weight, bias),), "relu", "squashed", SPACE), {})


def test_what_it_depends_on_is_told(run) -> None:
    config = PolicyConfig(algo="dagger")
    known = inputs_of(run, config)["teacher"]
    assert known is not None
    assert inputs_of(run, replace(config, teacher="nobody"))["teacher"] is None
    assert "teacher" not in inputs_of(run, PolicyConfig())
    write_other_teacher(run)
    assert inputs_of(run, config)["teacher"] != known


def test_a_teacher_that_is_none_is_refused(run) -> None:
    teach = partial(train_policy, run, make_env)
    with pytest.raises(
        PolicyError, match=r"teacher 'nobody': expected .* received none; run `robovae policy"
    ):
        teach(replace(TINY, algo="dagger", teacher="nobody"))
    save_random(run, "mu", name="blind")
    with pytest.raises(PolicyError, match=r"teacher 'blind': expected a policy on the state, .* one on mu"):
        teach(replace(TINY, algo="dagger", teacher="blind"))


@pytest.mark.parametrize(
    ("changes", "match"), [({"observation": "state"}, "observation"), ({"critic": "belief"}, "critic")]
)
def test_a_pupil_sees_beliefs_and_its_teacher_the_state(changes, match) -> None:
    with pytest.raises(PolicyError, match=f"{match}: expected .*the teacher sees"):
        PolicyConfig(algo="dagger", **changes)


def test_in_a_recipe_teachers_learn_before_their_pupils(tmp_path: Path) -> None:
    run = make_run(tmp_path / "toy")
    recipe = Recipe(tmp_path / "recipe.yaml", CollectStage("Toy-v0", tmp_path / "data"), run, {}, None)
    policies = {
        "": replace(TINY, algo="dagger", learning_starts=8),
        "state": replace(TINY, observation="state"),
    }
    done = []
    for stage in acting_stages(recipe, policies, lambda collect: make_env, None, lambda *event: None):
        run_stage(stage, lambda event: None)
        done.append(stage.name)
    assert done == ["policy-state", "policy"]
    known = inputs_of(run, policies[""])
    assert known["teacher"] is not None
