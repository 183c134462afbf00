"""How well frames are explained: squared errors, the ELBO of lone frames and of sequences, the IWAE bound."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robovae.elbo import iwae, log_likelihood, lone_frame_terms
from robovae.episodes import EpisodeStore
from robovae.evaluate.codes import Doubles, spread_frames
from robovae.evaluate.intervals import by_episode, interval, mean, share_explained
from robovae.evaluate.smoothness import BURN_IN
from robovae.frames import BATCH, batched, to_tensor
from robovae.gaussian import kl
from robovae.run.directory import RunModel
from robovae.train.data import Sequences, Windows
from robovae.vae import VAE

WINDOWS = 8
"""Windows that are computed at a time."""
MEAN_FRAMES = 4096
"""Training frames, evenly spread, whose mean is the baseline of EV."""

Numbers = dict[str, Any]


@torch.inference_mode()
def explained(model: RunModel, store: EpisodeStore, train: EpisodeStore) -> Numbers:
    """Explained variance around the mean frame of training, at both levels.

    Returns:
        "ev" of frames through the grid and "ev_global" of frames through mu alone, with "intervals".
    """
    vae = model.vae
    device = vae.mean_frame.device
    baseline = to_tensor(spread_frames(train, MEAN_FRAMES), device).mean(0)
    rows = []
    for frames in store.batches(BATCH):
        images = to_tensor(frames, device)
        local, belief = vae(images)
        guesses = (vae.decode_grid(local.mu), vae.decode(belief.mu), baseline)
        rows.append(torch.stack([(images - guess).square().flatten(1).sum(1) for guess in guesses], 1))
    sums = by_episode(_array(torch.cat(rows)), store.lengths)
    found: Numbers = {"intervals": {}}
    for place, name in enumerate(("ev", "ev_global")):
        pair = sums[:, [place, 2]]
        found[name] = float(share_explained(pair.sum(0, keepdims=True))[0])
        found["intervals"][name] = interval(pair, share_explained)
    return found


@torch.inference_mode()
def lone_bound(model: RunModel, store: EpisodeStore, seed: int) -> Numbers:
    """The ELBO of frames on their own, whose prior is N(0, I): nats a frame.

    Returns:
        "elbo" and its parts "reconstruction", "local_kl", "global_kl"; "intervals" of the ELBO.
    """
    generator = _generator(model.vae, seed)
    rows = [
        torch.stack(lone_frame_terms(model.vae, to_tensor(frames, generator.device), generator), 1)
        for frames in store.batches(BATCH)
    ]
    terms = _array(torch.cat(rows))
    elbo = terms @ [1.0, -1.0, -1.0]
    counted = np.stack([by_episode(elbo, store.lengths), store.lengths.astype(np.float64)], axis=1)
    parts = dict(zip(("reconstruction", "local_kl", "global_kl"), terms.mean(0).tolist(), strict=True))
    return {"elbo": float(elbo.mean()), **parts, "intervals": {"elbo": interval(counted, mean)}}


@torch.inference_mode()
def weighted_bound(model: RunModel, store: EpisodeStore, samples: int, frames: int, seed: int) -> Numbers:
    """The importance-weighted bound on some frames, and the ELBO on the same ones: nats a frame.

    Returns:
        "bound", "elbo", "samples" (K) and "frames".
    """
    generator = _generator(model.vae, seed)
    chosen = spread_frames(store, frames)
    bounds, elbos = [], []
    for part in batched(chosen):
        images = to_tensor(part, generator.device)
        bounds.append(iwae(model.vae, images, samples, generator))
        elbos.append(lone_frame_terms(model.vae, images, generator).elbo)
    return {
        "bound": float(torch.cat(bounds).mean()),
        "elbo": float(torch.cat(elbos).mean()),
        "samples": samples,
        "frames": len(chosen),
    }


@torch.inference_mode()
def sequence_bound(model: RunModel, store: EpisodeStore, length: int, windows: int, seed: int) -> Numbers:
    """The ELBO of frames within sequences, under the temporal prior, on the first frames of episodes.

    Returns:
        "elbo" and its parts, nats a frame; "frames"; and of the model's own one-step predictions, against
        holding the last latent: "prediction_rmse", "hold_rmse", "prediction_ratio".
    """
    generator = _generator(model.vae, seed)
    episodes = np.unique(np.linspace(0, len(store) - 1, windows).astype(int))
    totals, sequences = np.zeros(7), Sequences(store)
    for first in range(0, len(episodes), WINDOWS):
        chosen = episodes[first : first + WINDOWS]
        batch = sequences.at(chosen, np.zeros_like(chosen), length)
        totals += _window_sums(model, store.frames(batch.numbers.ravel()), batch, generator)
    frames, predictions = totals[0], max(totals[4], 1.0)
    reconstruction, local_kl, global_kl = totals[1:4] / frames
    rmse, hold = np.sqrt(totals[5:] / predictions)
    return {
        "elbo": float(reconstruction - local_kl - global_kl),
        "reconstruction": float(reconstruction),
        "local_kl": float(local_kl),
        "global_kl": float(global_kl),
        "prediction_rmse": float(rmse),
        "hold_rmse": float(hold),
        "prediction_ratio": float(rmse / hold) if hold else None,
        "frames": int(frames),
    }


def _window_sums(
    model: RunModel,
    frames: NDArray[np.uint8],
    windows: Windows,
    generator: torch.Generator,
) -> Doubles:
    """Sums over windows: frames, the bound's three parts, predictions, their squared error, and holding's."""
    vae, device = model.vae, generator.device
    images, here = to_tensor(frames, device), windows.mask.to(device) > 0
    local, belief = vae(images)
    lone = belief.map(lambda part: part.view(*here.shape, -1))
    rollout = model.dynamics.rollout(lone, windows.action.to(device), _normal(lone.mu, generator))
    z = rollout.z.flatten(0, 1)
    grid = local.sample(_normal(local.mu, generator))
    parts = torch.stack(
        [
            torch.ones(len(images), device=device),
            log_likelihood(images, vae.decode_grid(grid), vae.pixel_std),
            kl(local, vae.predict_grid(z)).flatten(1).sum(1),
            kl(rollout.posterior, rollout.prior).flatten(0, 1).sum(1),
        ],
        dim=1,
    )
    missed = (rollout.z - rollout.prior.mu).square()[:, 1:]
    held = (rollout.z[:, 1:] - rollout.z[:, :-1]).square()
    counted = here.clone()[:, 1:]
    counted[:, :BURN_IN] = False
    steps = torch.stack([torch.ones_like(missed), missed, held], dim=-1)[counted].flatten(0, 1)
    return np.concatenate([_array(parts[here.flatten()].double().sum(0)), _array(steps.double().sum(0))])


def _generator(vae: VAE, seed: int) -> torch.Generator:
    return torch.Generator(vae.mean_frame.device).manual_seed(seed)


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator, device=like.device)


def _array(tensor: Tensor) -> Doubles:
    array: Doubles = tensor.double().cpu().numpy()
    return array
