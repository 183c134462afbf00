"""Scores: how strange a frame is, from one look at it. Higher = stranger, for every one of them."""

import torch
from torch import Tensor, nn

from robovae.uncertainty.look import ORDERS, Look

SCORES = ("surprise", "peak", "statistics", "spectrum", "sigma")
"""Names, in the order of the columns of `Insight.scores`; `Strangeness` gives all but the last."""
CONSTANT = ("spectrum",)
"""Those that are left out of a calibration where they never vary: a square that moves over a plain ground is
as sharp wherever it is."""


class Strangeness(nn.Module):
    """Every score of a look but sigma, fitted on nominal frames.

    - surprise: log of KL(q(grid|x) || p(grid|mu)), nats over the whole frame: what the belief leaves
      unexplained.
    - peak: the cell whose surprise stands out most, in deviations of its own logarithm.
    - statistics: log Mahalanobis distance of the feature maps' means and deviations, shrunk towards a
      diagonal covariance (Ledoit & Wolf 2004 give the form; the share is fixed).
    - spectrum: the same of the frame's power by fineness, which a blur, a codec or a noisy sensor changes. Of
      its own, because six numbers would be drowned by some hundreds of statistics.
    - sigma: mean log sigma of the calibrated belief: how much the frame leaves open. It follows from the
      others, and is added last (`Uncertainty`).

    Args:
        cells: (h, w) of the grid.
        statistics: S of a look.
    """

    cell_mean: Tensor
    cell_std: Tensor

    def __init__(self, cells: tuple[int, int], statistics: int) -> None:
        super().__init__()
        self.register_buffer("cell_mean", torch.zeros(cells))
        self.register_buffer("cell_std", torch.ones(cells))
        self.statistics = Mahalanobis(statistics)
        self.spectrum = Mahalanobis(2 * ORDERS)

    def fit(self, surprise: Tensor, statistics: Tensor, spectrum: Tensor) -> None:
        """Learn what nominal frames look like, from maps (N, h, w), statistics (N, S) and spectra (N, P)."""
        logs = torch.log(surprise + SMALL)
        self.cell_mean.copy_(logs.mean(0))
        self.cell_std.copy_(logs.std(0).clamp_min(LEAST_STD))
        self.statistics.fit(statistics)
        self.spectrum.fit(spectrum)

    def stands_out(self, look: Look) -> Tensor:
        """How far each cell's surprise is above its own, (B, h, w) deviations: the map of where."""
        out: Tensor = (torch.log(look.surprise + SMALL) - self.cell_mean) / self.cell_std
        return out

    def forward(self, look: Look) -> Tensor:
        """A look -> the scores of the frame itself, all but sigma: (B, len(SCORES) - 1)."""
        columns = (
            torch.log(look.surprise.sum((1, 2)) + SMALL),
            self.stands_out(look).amax((1, 2)),
            self.statistics(look.statistics),
            self.spectrum(look.spectrum),
        )
        return torch.stack(columns, 1)


class Mahalanobis(nn.Module):
    """Log Mahalanobis distance from nominal frames, shrunk towards a diagonal covariance.

    Args:
        size: numbers that a frame is described by.
    """

    mean: Tensor
    root: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("root", torch.eye(size))

    def fit(self, nominal: Tensor) -> None:
        """Learn mean and covariance of nominal frames (N, size)."""
        self.mean.copy_(nominal.mean(0))
        centred = (nominal - self.mean).double()
        covariance = centred.T @ centred / len(centred)
        diagonal = torch.diag(covariance.diagonal())
        shrunk = (1.0 - SHRINKAGE) * covariance + SHRINKAGE * diagonal
        # Not even where nothing varies at all is a direction of no width.
        least = 1e-10 * covariance.diagonal().mean() + 1e-12
        shrunk += least * torch.eye(len(shrunk), dtype=torch.float64)
        values, vectors = torch.linalg.eigh(shrunk)
        self.root.copy_(vectors * values.rsqrt())

    def forward(self, described: Tensor) -> Tensor:
        """Frames (B, size) -> (B,); no direction counts for more than `FAR` deviations."""
        whitened = ((described - self.mean) @ self.root).clamp(-FAR, FAR)
        return 0.5 * torch.log(whitened.square().mean(1) + 1e-12)


SMALL = 0.05
"""Nats below which a cell's surprise is all the same."""
LEAST_STD = 0.1
"""Deviation of a cell's log surprise at least: a cell in which nothing ever moved is not infinitely sure."""
FAR = 10.0
"""Deviations beyond which a direction is as far as can be: a feature map that slept through
all nominal frames of the fit wakes in one of ten thousand others, and must not outvote the rest."""
SHRINKAGE = 0.01
"""Share of the diagonal in the covariance."""
