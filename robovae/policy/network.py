"""The network that acts: a small perceptron in numpy, and what its outputs mean as actions."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, get_args

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from robovae.policy.config import PolicyError

Floats = NDArray[np.float32]
Activation = Literal["relu", "tanh"]
Head = Literal["squashed", "clipped", "argmax"]
"""tanh, scaled to the bounds; clipped to the bounds; the largest of the choices."""
Space = gym.spaces.Box | gym.spaces.Discrete[Any]


@dataclass(frozen=True, eq=False, repr=False)
class Actor:
    """Features in, deterministic actions out.

    Args:
        layers: weight (out, in) and bias (out,) of each.

    Raises:
        PolicyError: layers that do not fit one another or the actions, or weights that are not finite.
    """

    layers: tuple[tuple[Floats, Floats], ...]
    activation: Activation
    """Between two layers."""
    head: Head
    space: Space
    """Of the actions."""

    def __post_init__(self) -> None:
        shapes = [weight.shape for weight, _ in self.layers]
        chained = all(one[0] == two[1] for one, two in pairwise(shapes))
        known = self.activation in get_args(Activation) and self.head in get_args(Head)
        if not (shapes and chained and known and shapes[-1][0] == _outputs(self.space)):
            raise PolicyError(
                f"expected layers that lead to {_outputs(self.space)} outputs, received {shapes}, "
                f"{self.activation}, {self.head}; train the policy again"
            )
        if not all(np.isfinite(part).all() for layer in self.layers for part in layer):
            raise PolicyError("expected finite weights, received NaN or infinity; lower learning_rate")

    def __repr__(self) -> str:
        sizes = [self.size, *(len(bias) for _, bias in self.layers)]
        return f"Actor({' -> '.join(map(str, sizes))}, {self.head})"

    @property
    def size(self) -> int:
        """F, width of the features."""
        return int(self.layers[0][0].shape[1])

    def __call__(self, x: Floats) -> NDArray[Any]:
        """Actions for features (B, F): (B, *shape) of a Box, (B,) integers of a Discrete space.

        Raises:
            PolicyError: features of another width.
        """
        if x.ndim != 2 or x.shape[1] != self.size:
            raise PolicyError(f"features: expected (B, {self.size}), received {x.shape}")
        hidden = np.asarray(x, np.float32)
        for weight, bias in self.layers[:-1]:
            inner = hidden @ weight.T + bias
            hidden = np.maximum(inner, 0.0) if self.activation == "relu" else np.tanh(inner)
        weight, bias = self.layers[-1]
        return self._action(hidden @ weight.T + bias)

    def _action(self, output: Floats) -> NDArray[Any]:
        space = self.space
        if isinstance(space, gym.spaces.Discrete):
            chosen: NDArray[np.int64] = np.argmax(output, axis=1)
            return chosen
        action: NDArray[Any] = output.reshape(-1, *space.shape)
        if self.head == "squashed":
            action = space.low + 0.5 * (np.tanh(action) + 1.0) * (space.high - space.low)
        return action.clip(space.low, space.high).astype(space.dtype)


def check_space(space: gym.Space[Any], box_only: bool = False) -> Space:
    """Refuse action spaces that no policy of ours can act in.

    Args:
        space: of an environment.
        box_only: as SAC and TQC demand.

    Raises:
        PolicyError: neither a bounded Box nor Discrete from 0.
    """
    if isinstance(space, gym.spaces.Box) and space.is_bounded():
        return space
    if isinstance(space, gym.spaces.Box):
        raise PolicyError(f"action space: expected finite bounds, received {space}; wrap it in RescaleAction")
    if isinstance(space, gym.spaces.Discrete) and space.start == 0 and not box_only:
        return space
    kinds, mend = ("a Box", "use algo ppo") if box_only else ("a Box, or Discrete from 0", "wrap it")
    raise PolicyError(f"action space: expected {kinds}, received {space}; {mend}")


def _outputs(space: Space) -> int:
    return int(space.n) if isinstance(space, gym.spaces.Discrete) else int(np.prod(space.shape))
