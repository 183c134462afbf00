"""How predictable are codes? One-step error of a small GRU on mu and actions, against holding the last mu.

Latents of models that never saw two frames in a row are crinkled: neighbouring frames lie far apart, and no
filter can be built on them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robovae.evaluate.codes import Codes, EvaluateError

BURN_IN = 2
"""Predictions at the start of a window that do not count: velocity takes two frames to see."""


@dataclass(frozen=True)
class SmoothnessConfig:
    """How the GRU is trained."""

    steps: int = 600
    """Updates."""
    batch: int = 32
    """Windows in one."""
    length: int = 30
    """Frames of a window."""
    hidden: int = 128
    """Units."""
    lr: float = 2e-3
    """Of Adam."""
    seed: int = 0
    """Of weights and batches."""


class _Predictor(nn.Module):
    """The change to the next code, from all before it."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.gru = nn.GRU(inputs, hidden, batch_first=True)
        self.head = nn.Linear(hidden, outputs)

    def forward(self, z: Tensor, action: Tensor) -> Tensor:
        """Codes (B, L, D), actions (B, L, A) -> predictions of codes 1 to L - 1, (B, L - 1, D)."""
        memory, _ = self.gru(torch.cat([z, action], dim=-1)[:, :-1])
        out: Tensor = z[:, :-1] + self.head(memory)
        return out


def smoothness(train: Codes, test: Codes, config: SmoothnessConfig) -> dict[str, float]:
    """One-step prediction error on test episodes.

    Returns:
        "rmse" of the GRU and "hold_rmse" of the last code, in units of each dimension's own deviation over
        the training frames, and their "ratio": below 1, the smaller the better.

    Raises:
        EvaluateError: no episode is long enough.
    """
    shift, scale = train.mu.mean(0), train.mu.std(0) + 1e-6
    force = train.action.std(0) + 1e-6
    seen, unseen = (_windows(codes, shift, scale, force, config.length) for codes in (train, test))
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        model = _Predictor(train.mu.shape[1] + train.action.shape[1], config.hidden, train.mu.shape[1])
    _fit(model, *seen, config)
    z, action, mask = unseen
    with torch.no_grad():
        rmse = float(_error(model(z, action), z, mask).sqrt())
    hold = float(_error(z[:, :-1], z, mask).sqrt())
    return {"rmse": rmse, "hold_rmse": hold, "ratio": rmse / hold if hold else 1.0}


def _fit(model: _Predictor, z: Tensor, action: Tensor, mask: Tensor, config: SmoothnessConfig) -> None:
    optimiser = torch.optim.Adam(model.parameters(), config.lr)
    generator = torch.Generator().manual_seed(config.seed)
    for _ in range(config.steps):
        rows = torch.randint(len(z), (config.batch,), generator=generator)
        loss = _error(model(z[rows], action[rows]), z[rows], mask[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def _error(predicted: Tensor, z: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error of predictions of codes 1 to L - 1, where there is a frame."""
    weight = mask[:, 1 + BURN_IN :, None]
    squares = (predicted - z[:, 1:])[:, BURN_IN:].square() * weight
    return squares.sum() / (weight.sum() * z.shape[-1]).clamp_min(1.0)


def _windows(
    codes: Codes, shift: NDArray[Any], scale: NDArray[Any], force: NDArray[Any], length: int
) -> tuple[Tensor, Tensor, Tensor]:
    numbers, mask = codes.windows(length)
    long = mask.sum(axis=1) > 1 + BURN_IN
    if not long.any():
        raise EvaluateError(
            f"expected episodes of at least {2 + BURN_IN} frames, received at most {codes.lengths.max()}; "
            "collect longer ones"
        )
    numbers, mask = numbers[long], mask[long]
    z, action = (codes.mu[numbers] - shift) / scale, codes.action[numbers] / force
    return torch.from_numpy(z), torch.from_numpy(action), torch.from_numpy(mask.astype(np.float32))
