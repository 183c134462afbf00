"""The baselines that stand beside our scores in every table, fitted."""

from collections.abc import Sequence
from functools import partial

from robovae.belief import Perceiver
from robovae.judge.belief_detectors import Information, KnnMu, MahalanobisMu, RawSigma, Reconstruction
from robovae.judge.bound_detectors import LikelihoodRegret, NegativeElbo
from robovae.judge.detector import Detector, Once, Panel, Remembering, Sees
from robovae.judge.ensemble_detectors import EnsembleDecoded, EnsembleReconstruction, EnsembleWaic
from robovae.judge.feature_detectors import FeatureResidual, pooled_features
from robovae.judge.footage import Frames
from robovae.judge.outside import outside
from robovae.judge.pixel_detectors import Brightness, Chance, LaplacianVariance, MeanFrame, PcaReconstruction

REGRET = "costs an optimisation a frame; launch/benchmarks/uncertainty.py has it, on few frames"
ENSEMBLES = (EnsembleReconstruction, EnsembleDecoded, EnsembleWaic)
NO_ENSEMBLE = "needs further runs of the same task: --ensemble RUN"


def baselines(
    perceiver: Perceiver,
    train: Frames,
    *,
    regret_steps: int = 0,
    ensemble: Sequence[Perceiver] = (),
    sees: Remembering | None = None,
) -> Panel:
    """All baselines of one model, fitted on training frames; those that cannot be had are named with why.

    Args:
        perceiver: with the encoder's own sigma.
        train: (N, H, W, 3) training frames.
        regret_steps: of likelihood regret, which costs an optimisation a frame; 0 leaves it out.
        ensemble: other models of the same task; none leaves the ensemble out.
        sees: remembers the passes of `perceiver`, where others share them.

    Raises:
        JudgeError: too few training frames.
    """
    sees, features = sees or Remembering(perceiver), Once(pooled_features(perceiver))
    bound, (from_outside, skipped) = NegativeElbo(perceiver, sees=sees), outside(features)
    detectors: list[Detector] = [
        RawSigma(sees),
        Information(sees),
        Reconstruction(sees),
        bound,
        MahalanobisMu(sees),
        KnnMu(sees),
        FeatureResidual(features),
        *from_outside,
        PcaReconstruction(),
        Brightness(),
        LaplacianVariance(),
        MeanFrame(),
        Chance(),
    ]
    if regret_steps:
        detectors.append(LikelihoodRegret(perceiver, steps=regret_steps))
    else:
        skipped[LikelihoodRegret.name] = REGRET
    if ensemble:
        detectors += _ensemble(perceiver, sees, bound, ensemble)
    else:
        skipped |= {kind.name: NO_ENSEMBLE for kind in ENSEMBLES}
    panel = Panel(detectors, skipped)
    panel.fit(train)
    return panel


def _ensemble(
    perceiver: Perceiver, sees: Remembering, bound: NegativeElbo, others: Sequence[Perceiver]
) -> list[Detector]:
    """What a model and others say together; each one's beliefs are shared."""
    members = [(perceiver, sees), *((one, Remembering(one)) for one in others)]
    bounds = [bound, *(NegativeElbo(one, sees=seen) for one, seen in members[1:])]
    return [
        EnsembleReconstruction([seen.reconstruct for _, seen in members]),
        EnsembleDecoded([partial(_told, seen, one) for one, seen in members]),
        EnsembleWaic([one.score for one in bounds]),
    ]


def _told(sees: Sees, perceiver: Perceiver, frames: Frames) -> Frames:
    """The frames that the beliefs of frames describe."""
    return perceiver.decode(sees(frames).mu)
