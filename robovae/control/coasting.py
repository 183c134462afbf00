"""Carrier: the features of one robot, over frames that nobody should act on too."""

from copy import deepcopy

import numpy as np
from numpy.typing import NDArray

from robovae.belief import Belief
from robovae.control.features import BeliefFeatures
from robovae.filter.belief_filter import BeliefFilter, silent

Floats = NDArray[np.float32]


class Carrier:
    """Carries what a policy sees of one robot through gaps in which its frames are not to be believed.

    In a gap the belief coasts: the filter predicts, from the actions, and takes in frames that say nothing.
    "filtered" features have that filter in them; beside others one runs along, and its predictions stand in
    for the beliefs of those frames. Without a filter the last belief is all there is: it goes stale at once.

    After a gap of more than `horizon` frames the carried belief is stale, and the next believed frame begins
    a new sequence: the filter would take what the frames say for a jump, and bend its velocity.

    Args:
        features: what the policy sees.
        belief_filter: what coasts; it is copied. Of "filtered" features it is not looked at.
        horizon: frames of a gap at most after which the carried belief is worth going on with.
    """

    def __init__(self, features: BeliefFeatures, belief_filter: BeliefFilter | None, horizon: int) -> None:
        self._features = features
        self._filtered = features.features == "filtered"
        self._beside = None if self._filtered else deepcopy(belief_filter)
        self._horizon = horizon if self._filtered or self._beside is not None else 0
        self._silence = silent(1, features.latent_dim)
        self.reset()

    @property
    def can_coast(self) -> bool:
        """Whether there is a filter, and a horizon to coast to."""
        return self._horizon > 0

    @property
    def is_stale(self) -> bool:
        """Whether no policy should act on the carried belief; true until a frame has been believed."""
        return not self._begun or self.gap > self._horizon

    @property
    def belief(self) -> Belief:
        """What the last features were built on, mu (1, D)."""
        return self._features.belief

    def reset(self) -> None:
        """Begin an episode."""
        self._features.reset()
        self._begun = False
        self.gap = 0
        """Frames in a row that were not believed, up to the last one."""

    def see(self, belief: Belief, action: Floats | None) -> Floats:
        """Believe the next frame.

        Args:
            belief: of the frame on its own, (1, D).
            action: what led to it, (1, A); none for the first.

        Returns:
            Features, (F,).
        """
        anew = self.is_stale
        if self._beside is not None:
            if anew:
                self._beside.reset()
            self._beside.update(belief, None if anew else action)
        self._begun, self.gap = True, 0
        return _only(self._features.begin(belief) if anew else self._features.update(belief, action))

    def coast(self, action: Floats | None) -> Floats:
        """Pass over the next frame; the arguments and the result are those of `see`."""
        self.gap += 1
        if not self._begun:
            return _only(self._features.begin(self._silence))
        if self._beside is not None:
            return _only(self._features.update(self._beside.update(self._silence, action)))
        return _only(self._features.update(self._silence if self._filtered else self.belief, action))


def _only(rows: Floats) -> Floats:
    row: Floats = rows[0]
    return row
