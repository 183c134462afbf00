"""The environments of a training: one lot to learn in, another to be judged in."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecMonitor

from robovae.belief import Perceiver
from robovae.collect.facts import describe
from robovae.control.features import BeliefFeatures
from robovae.control.vec_env import BeliefVecEnv
from robovae.filter import BeliefFilter
from robovae.policy.asymmetric import CRITIC
from robovae.policy.config import PolicyConfig
from robovae.policy.senses import Act, BeliefSense, Env, Sense, StateSense, check_camera, play, state_env

MakeEnv = Callable[[], Env]
SIDE_BY_SIDE = 5
"""Environments of an evaluation."""


@dataclass
class Arena:
    """What a policy learns in and is judged in."""

    env_id: str
    training: VecEnv
    judging: list[Env]
    sense: Sense

    @classmethod
    def of(cls, run: Path, make_env: MakeEnv, config: PolicyConfig) -> "Arena":
        """Make them all.

        Raises:
            RunError: no trained run.
            NotCalibratedError: no filter, but the features ask for one.
            ControlError: frames or actions are not those of the run.
            PolicyError: another camera.
        """
        count = min(config.eval_episodes, SIDE_BY_SIDE)
        if config.observation == "state":
            judging = [state_env(make_env()) for _ in range(count)]
            venv = DummyVecEnv([lambda: state_env(make_env())] * config.envs)
            return cls(describe(judging[0])["env_id"], VecMonitor(venv), judging, StateSense())
        perceiver = Perceiver.load(run, config.device)
        belief_filter = BeliefFilter.load(run) if config.features == "filtered" else None
        judging = [make_env() for _ in range(count)]
        check_camera(judging[0], perceiver)
        beliefs = BeliefVecEnv(
            DummyVecEnv([make_env] * config.envs),
            perceiver,
            config.features,
            stack=config.stack,
            belief_filter=belief_filter,
            drop=config.drop,
            corrupt=config.corrupt,
            rng=np.random.default_rng([config.seed, 1]),
            beside=CRITIC if config.critic == "state" else None,
        )
        features = BeliefFeatures(perceiver.latent_dim, config.features, config.stack, belief_filter)
        return cls(
            describe(judging[0])["env_id"], VecMonitor(beliefs), judging, BeliefSense(perceiver, features)
        )

    def judge(self, act: Act, seeds: Sequence[int]) -> list[float]:
        """The return of one episode of each seed, no frame lost.

        Raises:
            PolicyError: a reward is not finite.
        """
        return play(self.judging, self.sense, act, seeds)

    def close(self) -> None:
        """Free them."""
        self.training.close()
        for env in self.judging:
            env.close()
