"""Foresight: latents whose next value can be told from those before.

The bound alone hardly asks for it: halving every prediction error saves log 2 nats a latent, out of tens of
thousands. Latents that no one can predict are of no use to a filter, so the global phase may ask for more.
"""

import torch
from torch import Tensor, nn

from robovae.gaussian import Gaussian

BURN_IN = 1
"""Predictions at the start of a window that do not count: velocity takes two frames to see."""
_LEAST = 1e-4


class Foresight(nn.Module):
    """A GRU that predicts the next mean from means and actions; it serves training only.

    Args:
        latent_dim: D.
        action_dim: A.
        hidden: units.
    """

    def __init__(self, latent_dim: int, action_dim: int, hidden: int) -> None:
        super().__init__()
        self.gru = nn.GRU(latent_dim + action_dim, hidden, batch_first=True)
        self.head = nn.Linear(hidden, latent_dim)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, lone: Gaussian, action: Tensor, mask: Tensor) -> Tensor:
        """How badly the next mean is told, against holding the last one; and how far scales have gone astray.

        Args:
            lone: beliefs of the frames under N(0, I), (B, L, D), L >= 3.
            action: in units of its own deviation, (B, L, A); action[:, t] leads from frame t on.
            mask: (B, L), 1 where there is a frame.

        Returns:
            0.5 log(mean squared error / mean squared change) summed over latents: nats a frame that a
            Gaussian of the error's width saves over one of the change's. It has no scale to shrink. To it is
            added KL(N(0, s) || N(0, 1)) of each latent's second moment s over all frames: within a sequence a
            well predicted latent may grow for next to nothing, but a lone frame is judged under N(0, I).
        """
        here, mu = mask > 0, lone.mu
        scaled = mu / (mu[here].std(0).detach() + 1e-3)
        memory, _ = self.gru(torch.cat([scaled, action], dim=-1)[:, :-1])
        counted = here[:, 1 + BURN_IN :]
        if not counted.any():
            return mu.new_zeros(())
        change = (scaled[:, 1:] - scaled[:, :-1])[:, BURN_IN:][counted]
        miss = change - self.head(memory)[:, BURN_IN:][counted]
        ratio = miss.square().mean(0) / change.square().mean(0).clamp_min(_LEAST**2)
        moment = (mu[here].square() + lone.sigma[here].square()).mean(0)
        return 0.5 * (torch.log(ratio + _LEAST) + moment - 1.0 - torch.log(moment)).sum()
