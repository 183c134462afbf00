"""The baselines that stand beside our scores in every table, fitted."""

from collections.abc import Sequence

from robovae.belief import Perceiver
from robovae.judge.belief_detectors import (
    Ensemble,
    Information,
    KnnMu,
    MahalanobisMu,
    RawSigma,
    Reconstruction,
)
from robovae.judge.bound_detectors import LikelihoodRegret, NegativeElbo
from robovae.judge.detector import Detector, Panel, Remembering, Sees
from robovae.judge.footage import Frames
from robovae.judge.pixel_detectors import Brightness, Chance, LaplacianVariance, MeanFrame, PcaReconstruction


def baselines(
    perceiver: Perceiver, train: Frames, *, regret_steps: int = 0, ensemble: Sequence[Sees] = ()
) -> Panel:
    """All baselines of one model, fitted on training frames.

    Args:
        perceiver: with the encoder's own sigma.
        train: (N, H, W, 3) training frames.
        regret_steps: of likelihood regret, which costs an optimisation a frame; 0 leaves it out.
        ensemble: other models of the same data; none leaves the ensemble out.

    Raises:
        JudgeError: too few training frames.
    """
    sees = Remembering(perceiver)
    detectors: list[Detector] = [
        RawSigma(sees),
        Information(sees),
        Reconstruction(sees),
        NegativeElbo(perceiver),
        MahalanobisMu(sees),
        KnnMu(sees),
        PcaReconstruction(),
        Brightness(),
        LaplacianVariance(),
        MeanFrame(),
        Chance(),
    ]
    if regret_steps:
        detectors.append(LikelihoodRegret(perceiver, steps=regret_steps))
    if ensemble:
        detectors.append(Ensemble([sees, *ensemble]))
    panel = Panel(detectors)
    panel.fit(train)
    return panel
