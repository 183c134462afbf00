"""Train the observation VAE: `train(data, out, config)`; resumable, deterministic, torchrun-ready."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robovae import provenance
from robovae.config import to_plain
from robovae.episodes import EpisodeError, EpisodeStore, find_nonfinite
from robovae.records import digest, file_digest, read_json, write_json
from robovae.run.directory import RunFacts, RunModel, build_model, save_model
from robovae.train.config import TrainConfig, TrainError
from robovae.train.data import mean_frame
from robovae.train.device import Hardware, hardware
from robovae.train.journal import Journal, read_metrics
from robovae.train.loop import OnTrain, Trainer, TrainEvent

__all__ = ["CollapseError", "TrainConfig", "TrainError", "TrainEvent", "read_metrics", "train"]

HOW_NOT_WHAT = ("checkpoint_seconds", "device", "threads", "allow_collapse", "skip_damaged")
"""Settings that may change between two attempts at the same run."""
FINISHED, WEIGHTS = "training.json", "model.safetensors"
MIN_EV, MIN_INFORMATION = 0.05, 0.5
"""Below these the latents carry nothing."""


class CollapseError(TrainError):
    """The latents carry nothing; the model is there for a look, but the run does not count as finished."""


def train(data: Path, out: Path, config: TrainConfig, on_event: OnTrain | None = None) -> dict[str, Any]:
    """Train a two-level VAE on the train split of a dataset.

    Started by torchrun, every process takes part and the first writes. Run again after an interruption, it
    goes on to the weights that an uninterrupted run would have reached, bit for bit on one machine.

    Args:
        data: an episode store.
        out: the run directory; config.json, model.safetensors, metrics.jsonl and training.json are written.
        config: see there.
        on_event: told of progress.

    Returns:
        Seconds, seconds to EV levels, and the figures of each phase's best evaluation.

    Raises:
        EpisodeError: the dataset is missing, damaged or has no train split.
        TrainError: data or loss not finite; `out` holds another run.
        CollapseError: posterior collapse, unless it is allowed.
    """
    tell = on_event or (lambda event: None)
    if out.exists() and not out.is_dir():
        raise TrainError(f"{out}: expected a directory, received a file; choose another --out")
    store, held_out = _load(data, config, tell)
    facts = RunFacts(store.frame_shape, store.array("action", 0).shape[1], store.env_id, store.render_spec)
    settings = {name: value for name, value in to_plain(config).items() if name not in HOW_NOT_WHAT}
    key = digest(
        {"config": settings, "data": [record.sha256 for record in (*store.records, *held_out.records)]}
    )
    done = read_json(out / FINISHED)
    if done is not None:
        if done.get("key") != key:
            raise TrainError(
                f"{out}: expected a run of this config and data, received a finished one of another; "
                "choose another --out, or delete it"
            )
        if is_finished(out):
            tell(TrainEvent("skip", message=f"{out} is finished"))
            result: dict[str, Any] = done["result"]
            return result
    with hardware(config) as hw:
        torch.manual_seed(config.seed)
        model = build_model(config.model, facts)
        _fix_constants(model, store, hw)
        trainer = Trainer(model, store, held_out, config, hw, Journal(out, hw.rank == 0), key, tell)
        trainer.fit()
        result = trainer.result()
        if hw.rank == 0:
            _finish(out, model, config, result, key, hw)
    return result


def is_finished(run: Path) -> bool:
    """Whether a run was trained to its end and still has the very weights that came of it."""
    done, weights = read_json(run / FINISHED), run / WEIGHTS
    return done is not None and weights.is_file() and file_digest(weights) == done.get("weights")


def _load(data: Path, config: TrainConfig, tell: OnTrain) -> tuple[EpisodeStore, EpisodeStore]:
    """The training episodes and those held out of them."""

    def skipped(error: EpisodeError) -> None:
        tell(TrainEvent("skip", message=f"left out: {error}"))

    store = EpisodeStore(data, skip_damaged=config.skip_damaged, on_skip=skipped).split("train")
    find = f"find all with `robovae data verify {data}`"
    sound = []
    for index, record in enumerate(store.records):
        if store.is_whole(index):
            sound.append(index)
        else:
            error = EpisodeError(
                f"{record.path}: expected the bytes of seed {record.seed} as they were written, received "
                f"others; {find}, or train with --skip-damaged"
            )
            if not config.skip_damaged:
                raise error
            skipped(error)
    store = store.select(sound)
    for episode in store:
        if wrong := find_nonfinite(episode):
            raise TrainError(
                f"{data}: expected finite numbers, received NaN or inf in episode {episode.seed}: {wrong}; "
                f"{find}"
            )
    return store.holdout(config.validation, seed=0)


def _fix_constants(model: RunModel, store: EpisodeStore, hw: Hardware) -> None:
    """What is known before the first update: the mean frame, and the size of an action."""
    model.vae.mean_frame.copy_(mean_frame(store))
    if model.facts.action_dim:
        actions = [torch.from_numpy(store.array("action", i).copy()) for i in range(len(store))]
        model.dynamics.action_scale.copy_(_size(torch.cat(actions)))
    model.vae.to(hw.device)
    model.dynamics.to(hw.device)


def _size(actions: Tensor) -> Tensor:
    """What actions (N, A) are divided by, (A,): their deviation, or, where one never moves, its size or 1.

    Divided by its deviation of 0, it would saturate every unit that reads it.
    """
    deviation, largest = actions.std(0), actions.abs().amax(0)
    return torch.where(deviation > 1e-4 * largest, deviation, largest.clamp_min(1.0))


def _finish(
    out: Path, model: RunModel, config: TrainConfig, result: dict[str, Any], key: str, hw: Hardware
) -> None:
    save_model(out, model)
    provenance.record(out, "train", {"config": asdict(config), "hardware": hw.word, "result": result})
    if not config.allow_collapse:
        _refuse_collapse(out, config, result["final"]["global"])
    write_json(out / FINISHED, {"key": key, "weights": file_digest(out / WEIGHTS), "result": result})
    (out / "checkpoint.safetensors").unlink(missing_ok=True)


def _refuse_collapse(out: Path, config: TrainConfig, figures: dict[str, Any]) -> None:
    """Raise if the latents carry nothing.

    Raises:
        CollapseError: naming what collapsed.
    """
    ev, information = figures["ev"], figures.get("information", float("inf"))
    if ev >= MIN_EV and information >= MIN_INFORMATION:
        return
    dims = config.model.latent_dim
    raise CollapseError(
        f"{out}: expected latents that say something, received EV {ev:.3f}, {information:.2f} nats, "
        f"{figures.get('active_dims', dims)} of {dims} dimensions active: collapsed; "
        "lower beta, raise kl_warmup or free_bits, or keep it with --allow-collapse"
    )
