"""BeliefObservation: any Gymnasium environment that shows frames, with beliefs as its observations."""

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from robovae.belief import Belief, Perceiver
from robovae.control.errors import ControlError
from robovae.control.features import BeliefFeatures
from robovae.filter import BeliefFilter

Floats = NDArray[np.float32]


class BeliefObservation(gym.Wrapper[Floats, Any, Any, Any], gym.utils.RecordConstructorArgs):
    """An environment whose observation is what `BeliefFeatures` makes of its frames, (F,) float32.

    A policy library needs no more than this to learn on latents; its replay buffer holds them, not pixels.

    An action that is not finite is refused: it comes from a policy that has diverged, and a filter that
    heard it would not recover.

    Args:
        env: its observation is a frame, or a Dict that holds one under `key`.
        perceiver: what reads the frames; several wrappers may share it.
        features: one of `FEATURES`.
        stack: how many beliefs to see at once.
        belief_filter: for "filtered"; it is copied, so several wrappers may share it.
        key: of the frame in a Dict.

    Raises:
        ControlError: the frames are not the perceiver's, or the settings do not go together.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        perceiver: Perceiver,
        features: str = "mu",
        *,
        stack: int = 1,
        belief_filter: BeliefFilter | None = None,
        key: str = "image",
    ) -> None:
        gym.utils.RecordConstructorArgs.__init__(
            self,
            perceiver=perceiver,
            features=features,
            stack=stack,
            belief_filter=belief_filter,
            key=key,
            _disable_deepcopy=True,
        )
        gym.Wrapper.__init__(self, env)
        self.perceiver = perceiver
        self._key = frame_key(env.observation_space, perceiver, key)
        self._features = belief_features(env.action_space, perceiver, features, stack, belief_filter)
        self.observation_space = features_space(self._features)

    @property
    def belief(self) -> Belief:
        """The belief that the last observation was built on, mu (1, D); of "filtered", the filtered one.

        Raises:
            ControlError: before `reset`.
        """
        return self._features.belief

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Floats, dict[str, Any]]:
        """Begin an episode.

        Raises:
            FrameError: a frame of another shape or dtype than the observation space promises.
        """
        observation, info = self.env.reset(seed=seed, options=options)
        return self._features.begin(self._perceive(observation))[0], info

    def step(self, action: Any) -> tuple[Floats, Any, bool, bool, dict[str, Any]]:
        """Act, and read the next frame.

        Raises:
            ControlError: an action that is not finite; the environment does not see it.
            FrameError: see `reset`.
        """
        check_action(action, self.action_space)
        observation, reward, terminated, truncated, info = self.env.step(action)
        seen = self._features.update(self._perceive(observation), np.asarray(action)[None])
        return seen[0], reward, terminated, truncated, info

    def _perceive(self, observation: Any) -> Belief:
        frame = observation if self._key is None else observation[self._key]
        return self.perceiver(np.asarray(frame)[None])


def frame_key(space: gym.Space[Any], perceiver: Perceiver, key: str) -> str | None:
    """Where the frame is in observations of a space: under `key`, or None where they are frames.

    Raises:
        ControlError: there are none, or not those of the perceiver.
    """
    held = space
    if isinstance(space, gym.spaces.Dict):
        if key not in space.spaces:
            raise ControlError(
                f"observation: expected a frame under {key!r}, received {', '.join(space.spaces)}; pass key="
            )
        held = space.spaces[key]
    if held.shape != perceiver.frame_shape or held.dtype != np.uint8:
        height, width, _ = perceiver.frame_shape
        raise ControlError(
            f"observation: expected frames {perceiver.frame_shape} uint8, received {held}; render at "
            f"{height}x{width} with the run's own: Camera(env, RenderSpec.from_dict(perceiver.render_spec))"
        )
    return key if held is not space else None


def belief_features(
    action_space: gym.Space[Any],
    perceiver: Perceiver,
    features: str,
    stack: int,
    belief_filter: BeliefFilter | None,
) -> BeliefFeatures:
    """What a wrapper of an environment keeps.

    Raises:
        ControlError: settings that do not go together, or a filter that knows other actions.
    """
    made = BeliefFeatures(perceiver.latent_dim, features, stack, belief_filter)
    if features == "filtered" and belief_filter is not None:
        wanted = (belief_filter.action_dim,)
        if not isinstance(action_space, gym.spaces.Box) or action_space.shape != wanted:
            raise ControlError(
                f"action_space: expected the filter's, a Box {wanted}, received {action_space}; "
                "load the filter from a run of this environment"
            )
    return made


def features_space(features: BeliefFeatures) -> gym.Space[Any]:
    """Box (F,) float32 without bounds."""
    return gym.spaces.Box(-np.inf, np.inf, (features.size,), np.float32)


def vector_space(space: gym.Space[Any], key: str) -> gym.Space[Any]:
    """Box (S,) float32 of the vector that observations of a space hold under `key`.

    Raises:
        ControlError: there is none.
    """
    held = space.spaces.get(key) if isinstance(space, gym.spaces.Dict) else None
    if not isinstance(held, gym.spaces.Box) or len(held.shape) != 1:
        raise ControlError(
            f"observation: expected a vector under {key!r}, received {held or space}; wrap the environment "
            "so that it shows one, or go without (critic belief)"
        )
    return gym.spaces.Box(held.low.astype(np.float32), held.high.astype(np.float32), held.shape, np.float32)


def check_action(action: Any, space: gym.Space[Any]) -> None:
    """Refuse continuous actions, of one robot or of several, that are not finite.

    Raises:
        ControlError: some are not.
    """
    if isinstance(space, gym.spaces.Box) and not np.isfinite(action).all():
        received = np.asarray(action).tolist()
        raise ControlError(f"action: expected finite numbers, received {received}; the policy has diverged")
