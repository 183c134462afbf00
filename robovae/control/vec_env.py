"""BeliefVecEnv: beliefs as the observations of a Stable-Baselines3 VecEnv, one batch of frames a step."""

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from robovae.belief import Belief, Perceiver
from robovae.control.bursts import Bursts
from robovae.control.corrupter import Corrupter
from robovae.control.errors import ControlError
from robovae.control.observation import (
    belief_features,
    check_action,
    features_space,
    frame_key,
    vector_space,
)
from robovae.filter import BeliefFilter

try:
    from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
except ImportError as missing:
    raise ControlError(
        'BeliefVecEnv: expected stable-baselines3, received none; pip install "robovae[rl]"'
    ) from missing

Floats = NDArray[np.float32]
Frames = NDArray[np.uint8]
Seen = Floats | dict[str, Floats]
BELIEF = "belief"
"""The features, where observations hold more."""


class BeliefVecEnv(VecEnvWrapper):
    """`BeliefObservation` for the n environments of a VecEnv, with one call of the perceiver a step.

    That call reads the n next frames and, of episodes that begin, the first ones.
    `infos[i]["terminal_observation"]` holds features as well, so that bootstrapping at a time limit is right.
    Works inside and around `VecMonitor`.

    Args:
        venv: its observations are frames, or Dicts that hold them under `key`.
        perceiver: what reads the frames.
        features: one of `FEATURES`.
        stack: how many beliefs to see at once.
        belief_filter: for "filtered"; it is copied, so training and evaluation may share it.
        key: of the frames in a Dict.
        drop: frames lost on purpose: the belief of a lost one says nothing (mu 0, sigma 1), so that a filter
            coasts. The first frame of an episode is never lost.
        corrupt: frames spoilt on purpose, each burst in one way, so that a policy learns what they leave of a
            belief; see `Corrupter`. The first frame of an episode is never spoilt.
        rng: draws the bursts; None is `default_rng(0)`.
        beside: key of a vector in the Dict that is shown as well, (n, S) float32, for a critic that may see
            what the policy does not. Observations are then Dicts of "belief", (n, F), and this key.

    Raises:
        ControlError: the frames are not the perceiver's, the settings do not go together, or there is no
            vector under `beside`.
    """

    def __init__(
        self,
        venv: VecEnv,
        perceiver: Perceiver,
        features: str = "mu",
        *,
        stack: int = 1,
        belief_filter: BeliefFilter | None = None,
        key: str = "image",
        drop: Bursts | None = None,
        corrupt: Bursts | None = None,
        rng: np.random.Generator | None = None,
        beside: str | None = None,
    ) -> None:
        self.perceiver = perceiver
        self._key = frame_key(venv.observation_space, perceiver, key)
        self._features = belief_features(venv.action_space, perceiver, features, stack, belief_filter)
        space = features_space(self._features)
        self._beside = beside
        if beside is not None:
            space = gym.spaces.Dict({BELIEF: space, beside: vector_space(venv.observation_space, beside)})
        super().__init__(venv, observation_space=space)
        source = np.random.default_rng(0) if rng is None else rng
        self._losses = [] if drop is None else [drop.stream(each) for each in source.spawn(self.num_envs)]
        self._corrupter = None if corrupt is None else Corrupter(corrupt, source.spawn(self.num_envs))

    @property
    def belief(self) -> Belief:
        """The beliefs that the present observations were built on, mu (n, D); of "filtered", the filtered.

        Raises:
            ControlError: before `reset`.
        """
        return self._features.belief

    def reset(self) -> Seen:
        """Begin an episode in each environment, (n, F)."""
        observations = self.venv.reset()
        return self._shown(self._features.begin(self.perceiver(self._frames(observations))), observations)

    def step_async(self, actions: NDArray[Any]) -> None:
        """Send the actions (n, A).

        Raises:
            ControlError: one is not finite; no environment sees any.
        """
        check_action(actions, self.action_space)
        self._actions = np.array(actions)
        self.venv.step_async(actions)

    def step_wait(self) -> tuple[Seen, NDArray[Any], NDArray[np.bool_], list[dict[str, Any]]]:
        """Receive features (n, F), rewards (n,), dones (n,) and infos, as any VecEnv gives them."""
        observations, rewards, dones, infos = self.venv.step_wait()
        shown = self._frames(observations)
        ended = np.flatnonzero(dones)
        next_frames = shown.copy()
        for row in ended:
            next_frames[row] = self._frames(infos[row]["terminal_observation"])
        if self._corrupter is not None:
            next_frames = self._corrupter(next_frames)
        seen = self.perceiver(np.concatenate([next_frames, shown[ended]]))
        features = self._features.update(self._with_losses(seen[: len(shown)]), self._actions)
        if len(ended):
            infos = list(infos)
            for row in ended:
                last = self._shown(features[row].copy(), infos[row]["terminal_observation"])
                infos[row] = {**infos[row], "terminal_observation": last}
            features[ended] = self._features.begin(seen[len(shown) :], ended)
        return self._shown(features, observations), rewards, dones, infos

    def _shown(self, features: Floats, observations: Any) -> Seen:
        if self._beside is None:
            return features
        return {BELIEF: features, self._beside: np.asarray(observations[self._beside], np.float32)}

    def _frames(self, observations: Any) -> Frames:
        frames: Frames = observations if self._key is None else observations[self._key]
        return frames

    def _with_losses(self, belief: Belief) -> Belief:
        if not self._losses:
            return belief
        lost = np.array([next(losses) for losses in self._losses])[:, None]
        return Belief(np.where(lost, 0.0, belief.mu), np.where(lost, 1.0, belief.sigma))
