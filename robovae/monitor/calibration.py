"""What a monitor learns from nominal episodes, kept in a file that a person can read."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, Self

import numpy as np

from robovae.config import from_mapping, to_plain
from robovae.monitor.conformal import (
    CalibrationError,
    FrameTail,
    MonitorError,
    check_episodes,
    episodes_needed,
    threshold,
)
from robovae.monitor.evidence import Evidence, Scores, stack
from robovae.records import file_digest, read_json, write_json

FORMAT = 6
"""Version of monitor.json."""


@dataclass(frozen=True)
class MonitorConfig:
    """What decides a monitor, apart from its episodes.

    Raises:
        MonitorError: a value is out of range.
    """

    alpha: float = 0.01
    """False alarms a nominal episode, at most."""
    alpha_gate: float = 0.02
    """Share of nominal frames that cost trust, at most on average; each costs a few more until it returns."""
    alpha_drift: float = 0.01
    """Chance of a false drift over the whole life of a monitor, at most."""
    tail: float = 0.1
    """Share of fitting episodes in which a score passes level 1, and from which the tails of the evidence are
    told: sets the scales, no guarantee."""
    memory: float = 8.0
    """Frames that the fading means of the alarm reach back."""
    release: float = 0.9
    """Share of the gate's limit below which a frame is calm."""
    release_steps: int = 2
    """Calm frames in a row after which trust returns."""
    deadline: int = 5
    """Frames in a row within the limit after which trust returns, calm or not."""

    def __post_init__(self) -> None:
        for name in ("alpha", "alpha_gate", "alpha_drift", "tail"):
            if not 0 < getattr(self, name) < 1:
                raise MonitorError(f"{name}: expected a rate between 0 and 1, received {getattr(self, name)}")
        if not 1 <= self.memory < inf:
            raise MonitorError(f"memory: expected at least 1 frame, received {self.memory}")
        if not 0 < self.release <= 1:
            raise MonitorError(f"release: expected a share of the limit in (0, 1], received {self.release}")
        if not 1 <= self.release_steps <= self.deadline:
            raise MonitorError(
                f"release_steps: expected 1 to deadline = {self.deadline}, received {self.release_steps}"
            )

    def episodes_needed(self) -> int:
        """The fewest calibration episodes that its rates ask for."""
        return max(episodes_needed(self.alpha), episodes_needed(self.alpha_gate))


@dataclass(frozen=True)
class Calibration:
    """All a monitor needs; `Monitor(calibration)` watches with it.

    Raises:
        CalibrationError: episodes are too few for the rates, or lower in score than the fitting ones by far.
    """

    config: MonitorConfig
    """What it was made with."""
    fingerprint: str
    """Of all weights that gave the scores; "" for scores from elsewhere."""
    evidence: Evidence
    """Scales of the scores, from the fitting episodes."""
    maxima: tuple[float, ...]
    """Running maximum of the evidence in each calibration episode."""
    frames: FrameTail
    """Combined scores of the frames of the calibration episodes."""
    held: tuple[float, ...]
    """The same of episodes at rest: what the first frame of each adds up to, seen again and again."""
    longest: int
    """Frames in the longest calibration episode. What is promised is promised for episodes as long as those
    of the calibration are, not for all of them at this length."""

    def __post_init__(self) -> None:
        lowest = min(self.threshold, self.frames.limit(self.config.alpha_gate))
        if not 0 < lowest < inf:
            raise CalibrationError(
                "expected calibration episodes to score like the fitting ones, received a limit of "
                f"{lowest:.3g} where those have about 1; draw both from the same policy and scene"
            )

    @property
    def threshold(self) -> float:
        """The evidence above which the alarm is raised: in few episodes, moving or at rest."""
        alpha = self.config.alpha
        return max(threshold(self.maxima, alpha), threshold(self.held, alpha))

    @property
    def above(self) -> int:
        """How many of the calibration episodes themselves would have raised the alarm."""
        limit = self.threshold
        return sum(maximum > limit for maximum in self.maxima)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; `from_dict` is the inverse."""
        return {"format": FORMAT, **to_plain(self)}

    @classmethod
    def from_dict(cls, data: dict[str, Any], where: str = "calibration") -> Self:
        """Read what `to_dict` gave, strictly.

        Raises:
            MonitorError: it is of another format.
            ConfigError: a key is unknown or missing, or a value is of another type.
        """
        if data.get("format") != FORMAT:
            raise MonitorError(
                f"{where}: expected format {FORMAT}, received {data.get('format')}; run `robovae calibrate`"
            )
        return from_mapping(cls, {key: value for key, value in data.items() if key != "format"}, where)

    def save(self, path: Path) -> Path:
        """Write it, whole or not at all."""
        return write_json(path, self.to_dict())

    @classmethod
    def load(cls, path: Path, fingerprint: str | None = None) -> Self:
        """Read what `save` wrote.

        Args:
            path: the file, `monitor.json` of a run.
            fingerprint: of all weights that will give the scores; None takes any.

        Raises:
            MonitorError: there is none, or it is of another format or was made with other weights.
            ConfigError: it is damaged or was edited wrongly.
        """
        mend = f"run `robovae calibrate {path.parent}`"
        data = read_json(path)
        if data is None:
            raise MonitorError(f"{path}: expected a calibrated monitor, received none; {mend}")
        calibration = cls.from_dict(data, str(path))
        if fingerprint is not None and fingerprint != calibration.fingerprint:
            raise MonitorError(
                f"{path}: expected a monitor of the model, sigma and filter beside it ({fingerprint[:12]}), "
                f"received one of others ({calibration.fingerprint[:12] or 'none'}); {mend}"
            )
        return calibration


def calibrate(
    fitting: Sequence[Scores],
    calibration: Sequence[Scores],
    config: MonitorConfig | None = None,
    fingerprint: str = "",
    resting: Collection[str] = (),
) -> Calibration:
    """Learn scales from some nominal episodes and limits from others.

    A robot at rest shows its first frame for a whole episode, which episodes in motion do not tell of: what
    is a little strange in that frame adds up. So the limit is also one that few such episodes exceed.

    Args:
        fitting: name -> (T,) an episode; sets scales, so it may even be episodes the model has trained on.
        calibration: the same of episodes that nothing was fitted to or chosen on, alike those to be watched.
        config: rates and releases.
        fingerprint: of all weights that gave the scores.
        resting: names of the scores that stay what they are while a robot rests; the others are then usual.

    Raises:
        CalibrationError: episodes are too few, or a score is constant.
        MonitorError: names or lengths differ, or a score is not finite.
    """
    config = config or MonitorConfig()
    for alpha in (config.alpha, config.alpha_gate):
        check_episodes(len(calibration), alpha)
    evidence = Evidence.fit(fitting, config.tail, config.memory)
    levels = [evidence.levels(stack(scores, evidence.scores)) for scores in calibration]
    maxima = tuple(float(evidence.strengths(one, evidence.means(one)).max()) for one in levels)
    tail = FrameTail.fit([evidence.alone(one).max(axis=1) for one in levels])
    longest = max(map(len, levels))
    stays = np.isin(evidence.scores, list(resting))
    held = tuple(float(evidence.held(np.where(stays, one[0], 0.0), longest)) for one in levels)
    return Calibration(config, fingerprint, evidence, maxima, tail, held, longest)


def fingerprint_of(weights: Path) -> str:
    """Hex SHA-256 of a file of weights.

    Raises:
        MonitorError: there is no such file.
    """
    try:
        return file_digest(weights)
    except OSError as error:
        raise MonitorError(f"{weights}: expected weights, received {error.strerror}; train first") from error
