"""Carry beliefs through time, and let each frame count for as much as it says.

Prediction: the dynamics p(z_t | z_<t, a_<t), from the last posterior, faded (`FilterDynamics.fade`). Update:
what was predicted times what is heard of the frame's message (`FilterDynamics.heard`, `dynamics.fuse`),
precision by precision as in a Kalman update. A frame that says nothing (sigma = 1) leaves the prediction as
it is.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from robovae.dynamics import FilterDynamics, fuse
from robovae.gaussian import Gaussian

_LEAST_SILENCE = 1e-3
"""1 - sigma^2 at least: where there is no message, none can be missed by far."""


class Step(NamedTuple):
    """What one frame did to the belief, (B, D) each."""

    last: Tensor | None
    """Posterior mean after the frame before; None at the first frame of a sequence."""
    prior: Gaussian
    """Before the frame."""
    posterior: Gaussian
    """After it."""


class Tracker:
    """Tracks B sequences side by side.

    Args:
        dynamics: p(z_t | z_<t, a_<t).
    """

    def __init__(self, dynamics: FilterDynamics) -> None:
        self.dynamics = dynamics
        self._past: tuple[Gaussian, Tensor] | None = None

    def reset(self) -> None:
        """New sequences begin; their first prior is N(0, I)."""
        self._past = None

    @property
    def memory(self) -> Tensor | None:
        """What the dynamics remember, (B, hidden): all before the last frame, the velocity in it."""
        return None if self._past is None else self._past[1]

    def keep(self, count: int) -> None:
        """Go on with the first `count` sequences; the others have ended."""
        if self._past is not None:
            last, memory = self._past
            self._past = last.map(lambda part: part[:count]), memory[:count]

    @torch.no_grad()
    def begin(self, lone: Gaussian, rows: Tensor) -> Step:
        """Take in the first frame of new sequences in the place of some, the others stay as they are.

        Args:
            lone: beliefs of the first frames, (R, D).
            rows: (R,) numbers of the sequences that they replace.
        """
        assert self._past is not None, "begin() replaces sequences: expected update() before it"
        heard = self.dynamics.heard(lone)
        step = self._first(heard)
        last, memory = self._past
        onward = self.dynamics.fade(step.posterior, heard)
        for mine, new in zip((*last, memory), (*onward, self._blank(lone)), strict=True):
            mine[rows] = new
        return step

    @torch.no_grad()
    def update(self, lone: Gaussian, action: Tensor | None = None) -> Step:
        """Take in the next frame of each sequence.

        Args:
            lone: beliefs of the frames under N(0, I), (B, D), sigma <= 1; a frame of sigma 1 counts nothing.
            action: what led to these frames, (B, A); zeros if None. The first frame has none.
        """
        heard = self.dynamics.heard(lone)
        if self._past is None:
            step, memory = self._first(heard), self._blank(lone)
        else:
            last, memory = self._past
            width = self.dynamics.action_scale.numel()
            taken = memory.new_zeros(len(memory), width) if action is None else action
            prior, memory = self.dynamics.step(last, taken, memory)
            step = Step(last.mu, prior, fuse(prior, heard))
        onward = self.dynamics.fade(step.posterior, heard)
        self._past = onward.map(torch.clone), memory.clone()
        return step

    @staticmethod
    def _first(heard: Gaussian) -> Step:
        prior = Gaussian.standard(heard.mu)
        return Step(None, prior, fuse(prior, heard))

    def _blank(self, lone: Gaussian) -> Tensor:
        return lone.mu.new_zeros(len(lone.mu), self.dynamics.cell.hidden_size)


def innovations(prior: Gaussian, lone: Gaussian) -> tuple[Tensor, Tensor]:
    """How far each latent's message lies from its prediction.

    Args:
        prior: what was predicted, (..., D).
        lone: beliefs of the frames under N(0, I), (..., D), sigma <= 1.

    Returns:
        (location - m)^2 / (v + s^2) with v the message's variance, about 1 where both widths are true and 0
        where the frame says nothing: the normalised innovation squared of a Kalman filter (Bar-Shalom et
        al. 2001, 5.4), an update a latent; and v + s^2 times (1 - sigma^2), which goes to 1 where the frame
        says nothing. (..., D) each.
    """
    variance = torch.exp(2.0 * lone.log_sigma)
    silence = (1.0 - variance).clamp_min(_LEAST_SILENCE)
    # The location is mu / silence and v is variance / silence: both sides are taken times the silence.
    width = variance + silence * torch.exp(2.0 * prior.log_sigma)
    return (lone.mu - silence * prior.mu).square() / (silence * width), width
