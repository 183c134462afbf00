"""Everything that is computed of a frame, as one function without memory: what is exported."""

import torch
from torch import Tensor, nn

from robovae.dynamics import FilterDynamics, fuse
from robovae.gaussian import Gaussian
from robovae.uncertainty.following import temporal_scores
from robovae.uncertainty.model import Uncertainty
from robovae.vae import VAE


class Whole(nn.Module):
    """A run's encoder, calibration, scores and filter.

    Args:
        vae: of a calibrated run.
        uncertainty: its calibration.
        dynamics: of its belief filter.
    """

    def __init__(self, vae: VAE, uncertainty: Uncertainty, dynamics: FilterDynamics) -> None:
        super().__init__()
        self.vae, self.uncertainty, self.dynamics = vae, uncertainty, dynamics

    def forward(
        self,
        frames: Tensor,
        action: Tensor,
        first: Tensor,
        last: Tensor,
        last_log_sigma: Tensor,
        memory: Tensor,
        seen: Tensor,
    ) -> tuple[Tensor, ...]:
        """What `robovae.json` describes: its inputs here, its outputs given, each in its order."""
        insight = self.uncertainty(self.vae, frames.permute(0, 3, 1, 2).float() / 255.0)
        look, total = insight.look, insight.total
        prior, after = self.dynamics.step(Gaussian(last, last_log_sigma), action, memory)
        # Nothing leads to a first frame: its posterior is what is heard of it. What else there is may be NaN.
        heard = self.dynamics.heard(total)
        posterior = Gaussian.where(first > 0, heard, fuse(prior, heard))
        temporal = temporal_scores(total, prior, last, seen)
        return (
            *total,
            *look.lone,
            *look.local,
            look.surprise,
            look.statistics,
            look.spectrum,
            torch.cat([insight.scores, torch.where(first > 0, torch.zeros_like(temporal), temporal)], 1),
            *posterior,
            self.dynamics.fade(posterior, heard).log_sigma,
            torch.where(first > 0, torch.zeros_like(after), after),
        )
