"""`robovae calibrate`: see through corruption and learn what to trust; fit filter and scores, set limits."""

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from robovae import provenance
from robovae.config import to_plain
from robovae.dynamics import FilterDynamics
from robovae.episodes import EpisodeStore
from robovae.monitor import Calibration, calibrate
from robovae.monitor.calibration import FORMAT
from robovae.monitor.conformal import check_episodes
from robovae.run.directory import RunModel, check_data, load_model
from robovae.run.files import CALIBRATION, SCORING, run_digest
from robovae.uncertainty.config import CalibrateConfig, CalibrateEvent, OnCalibrate
from robovae.uncertainty.fitting import fit_uncertainty
from robovae.uncertainty.following import TEMPORAL, TOLD
from robovae.uncertainty.frame_monitor import FILE
from robovae.uncertainty.model import FORM, Uncertainty, save_uncertainty
from robovae.uncertainty.scores import CONSTANT, SCORES
from robovae.uncertainty.scoring import Doubles, Frames, Scorer

FORMATS = {"uncertainty": FORM, "monitor": FORMAT}
"""Of what is written, but for the filter: a calibration of others is done anew."""
_JUDGED = 512
"""Frames on which nominal sigma is compared with the encoder's own."""


def calibrate_run(
    run: Path, data: Path, config: CalibrateConfig | None = None, on_event: OnCalibrate | None = None
) -> dict[str, Any]:
    """Calibrate a run: RUN/uncertainty.safetensors, RUN/filter.safetensors and RUN/monitor.json.

    All three are written at the end; what fails before leaves the run as it was.

    Args:
        run: a trained run.
        data: its dataset; denoising, trust and dynamics come from the train split, the limits from
            `calibrate`, the scales from both (see `CalibrateConfig.fitting`).
        config: how.
        on_event: told of progress.

    Returns:
        JSON-able: "seconds", "episodes" that the limits come from, how many of them lie "above" the
        "threshold" of the alarm, "gate", the limit of trust, and "sigma_ratio", the median of calibrated
        over raw sigma on its frames.

    Raises:
        RunError: no trained run, or a dataset of another environment or camera.
        EpisodeError: a split is missing.
        CalibrationError: the calibrate split has too few episodes for the rates.
        FrameError: the frames are not those of the run.
    """
    begin, config = time.monotonic(), config or CalibrateConfig()
    tell = on_event or (lambda event: None)
    model, store = load_model(run), EpisodeStore(data)
    check_data(model.facts, store)
    model.vae.requires_grad_(False)
    held_out, train = store.split("calibrate"), store.split("train")
    for alpha in (config.monitor.alpha, config.monitor.alpha_gate):
        check_episodes(len(held_out), alpha)
    uncertainty = fit_uncertainty(model, train, config, tell)
    dynamics = _fit_filter(model, uncertainty, train, config, tell)
    scorer = Scorer(model, uncertainty, dynamics)
    fitting, limiting = _parted(train, held_out, config)
    scales = [scores for store in fitting for scores in _scored(scorer, store, tell)]
    silent = {*TOLD, *(name for name in (*TEMPORAL, *CONSTANT) if _never_rises(name, scales))}
    calibration = calibrate(
        _without(silent, scales),
        _without(silent, _scored(scorer, limiting, tell)),
        config.monitor,
        resting=SCORES,
    )
    frames = held_out.frames(np.linspace(0, held_out.num_frames - 1, _JUDGED).astype(np.int64))
    seen = scorer.insight(frames)
    _save(run, uncertainty, dynamics, calibration)
    found = {
        "episodes": len(limiting),
        "above": calibration.above,
        "threshold": calibration.threshold,
        "gate": calibration.frames.limit(config.monitor.alpha_gate),
        "sigma_ratio": float((seen.total.log_sigma - seen.look.lone.log_sigma).exp().median()),
        "seconds": round(time.monotonic() - begin, 1),
    }
    provenance.record(run, "calibrate", {"config": to_plain(config), "result": found})
    return found


def _parted(
    train: EpisodeStore, held_out: EpisodeStore, config: CalibrateConfig
) -> tuple[list[EpisodeStore], EpisodeStore]:
    """Episodes for the scales of the scores, and others for the limits."""
    spare = min(config.fitting // 2, len(held_out) - config.monitor.episodes_needed())
    known = np.unique(np.linspace(0, len(train) - 1, config.fitting - spare).astype(int)).tolist()
    chosen = [(train, known), (held_out, range(spare))]
    fitting = [store.select(indices) for store, indices in chosen if indices]
    return fitting, held_out.select(range(spare, len(held_out)))


def _fit_filter(
    model: RunModel, uncertainty: Uncertainty, train: EpisodeStore, config: CalibrateConfig, tell: OnCalibrate
) -> FilterDynamics:
    from robovae.filter.fitting import fit_dynamics  # not before: it stands on this package

    return fit_dynamics(model, uncertainty, train, config.filter, tell)


def _save(run: Path, uncertainty: Uncertainty, dynamics: FilterDynamics, calibration: Calibration) -> None:
    """Write all files aside, and only then move them into place.

    The monitor is bound to the others and comes last: should not all arrive, the one that is there refuses
    them.
    """
    from robovae.filter.model import save_dynamics  # not before: it stands on this package

    with TemporaryDirectory(prefix=".calibration-", dir=run) as folder:
        aside = Path(folder)
        weights = "model.safetensors"  # what the others are bound to
        shutil.copyfile(run / weights, aside / weights)
        save_uncertainty(aside, uncertainty)
        save_dynamics(aside, dynamics)
        replace(calibration, fingerprint=run_digest(aside, SCORING)).save(aside / FILE)
        for name in CALIBRATION:
            (aside / name).replace(run / name)


@dataclass(frozen=True, eq=False)
class _Footage:
    """One episode of a store, as scorers take it."""

    frames: Frames
    lengths: NDArray[np.int64]
    action: NDArray[Any]

    @classmethod
    def of(cls, store: EpisodeStore, index: int) -> Self:
        episode = store[index]
        still = np.zeros((1, episode.action.shape[1]), np.float32)  # the last frame leads nowhere
        return cls(episode.image, np.array([len(episode.image)]), np.concatenate([episode.action, still]))


def _scored(scorer: Scorer, store: EpisodeStore, tell: OnCalibrate) -> list[dict[str, Doubles]]:
    """The scores of every episode."""
    found = []
    for index in range(len(store)):
        found.append(scorer.sequence_scores(_Footage.of(store, index)))
        tell(CalibrateEvent("scores", index + 1, len(store)))
    return found


def _never_rises(name: str, episodes: Sequence[Mapping[str, Doubles]]) -> bool:
    """Whether a score sits at its highest value, as stillness does where a robot hardly ever moves."""
    values = np.concatenate([scores[name] for scores in episodes])
    return bool(np.median([scores[name].max() for scores in episodes]) <= np.median(values))


def _without(names: set[str], episodes: Sequence[Mapping[str, Doubles]]) -> list[dict[str, Doubles]]:
    return [{name: values for name, values in scores.items() if name not in names} for scores in episodes]
