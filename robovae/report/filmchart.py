"""A film under the monitor: the strip of frames, and below it what the monitor made of them, step by step."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Protocol

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from robovae.belief import Belief
from robovae.monitor import Calibration, Verdict
from robovae.report.charts import precise, short, ticks
from robovae.report.films import Film
from robovae.report.pictures import Image, picture, row

WIDTH = 480
_LEFT, _RIGHT = 40, 8
_FRAMES = 8
_TIMES = (0.0, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
"""Ticks of the score, in gate limits."""


Values = NDArray[np.floating[Any]]


class Watches(Protocol):
    """What is needed of a calibrated monitor."""

    @property
    def calibration(self) -> Calibration:
        """Where its limits are."""

    def watch(self, frames: Image, action: NDArray[np.float32]) -> list[Verdict]:
        """Verdicts of a whole episode, from its first frame."""


@dataclass(frozen=True, eq=False)
class Watched:
    """A film and what the monitor made of it, T steps."""

    film: Film
    sigma: Values
    """(T,) mean sigma of the calibrated belief."""
    score: Values
    """(T,) combined score of each frame, in gate limits: the gate closes above 1."""
    trusted: NDArray[np.bool_]
    """(T,) whether the gate let the frame through."""
    alarm: int | None
    """Step of the alarm, None where none was raised."""
    why: str
    """Of the alarm; empty without one."""

    def facts(self) -> dict[str, Any]:
        """JSON-able: what the words beside the film say; means before the onset are None where it is 0."""
        onset = self.film.onset
        return {
            "fault": self.film.fault,
            "severity": self.film.severity,
            "steps": len(self.score),
            "onset": onset,
            "alarm": self.alarm,
            "late": None if self.alarm is None else self.alarm - onset,
            "why": self.why,
            "sigma_before": _mean(self.sigma[:onset]),
            "sigma_after": _mean(self.sigma[onset:]),
            "trusted_before": _mean(self.trusted[:onset]),
            "trusted_after": _mean(self.trusted[onset:]),
        }


def watch(monitor: Watches, perceive: Callable[[Image], Belief], film: Film) -> Watched:
    """Let a calibrated monitor watch a film from its first frame; `perceive` gives calibrated beliefs."""
    verdicts = monitor.watch(film.frames, film.action)
    limit = monitor.calibration.frames.limit(monitor.calibration.config.alpha_gate)
    alarm = next((step for step, verdict in enumerate(verdicts) if verdict.alarm), None)
    return Watched(
        film,
        perceive(film.frames).sigma.mean(axis=1),
        np.array([verdict.score for verdict in verdicts]) / limit,
        np.array([verdict.trusted for verdict in verdicts]),
        alarm,
        "" if alarm is None else str(verdicts[alarm].why),
    )


@dataclass(frozen=True)
class _Panel:
    """A plot within the drawing; x is the step, a step as wide as its share of the strip."""

    steps: int
    top: float
    bottom: float
    low: float
    high: float

    def at_x(self, step: float) -> float:
        return _LEFT + step / self.steps * (WIDTH - _LEFT - _RIGHT)

    def at_y(self, value: float) -> float:
        return self.bottom - (value - self.low) / (self.high - self.low) * (self.bottom - self.top)


def draw(watched: Watched) -> Markup:
    """The strip over the curves as one <svg>, so that they stay aligned at any width."""
    steps = len(watched.score)
    strip, side = _strip(watched.film)
    band = side + 5.0
    size = 1.06 * math.asinh(max(1.5, float(watched.score.max())))
    score = _Panel(steps, band + 52, band + 142, min(0.0, math.asinh(float(watched.score.min()))), size)
    sigma_ticks = ticks(0.0, max(1.0, float(watched.sigma.max())), about=2)  # 1 is the prior's: all alike
    sigma = _Panel(steps, score.bottom + 32, score.bottom + 102, 0.0, sigma_ticks[-1])
    known = [(math.asinh(value), short(value)) for value in _TIMES if math.asinh(value) <= size]
    parts = [
        strip,
        _band(watched.trusted, score, band),
        _axes(score, known, "score, in gate limits", lift=28),
        _limit(score),
        _line(score, 0, np.arcsinh(watched.score), watched.score, "score"),
        _axes(sigma, [(tick, short(tick)) for tick in sigma_ticks], "mean σ"),
        _line(sigma, 3, watched.sigma, watched.sigma, "mean σ"),
        _steps(sigma),
        _event(watched.film.onset, "onset", score.top, sigma),
    ]
    if watched.alarm is not None:
        parts.append(_event(watched.alarm, "alarm", score.top, sigma))
    height = sigma.bottom + 36
    title = f"{watched.film}: frames, trust, score and sigma by step"
    return Markup(
        f'<svg class="chart film" viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}">'
        + "".join(parts)
        + "</svg>"
    )


def _mean(values: NDArray[Any]) -> float | None:
    return float(values.mean()) if values.size else None


def _strip(film: Film) -> tuple[str, float]:
    """The middle frame of each share of the steps, and the height of the strip."""
    shares = min(_FRAMES, len(film.frames))
    middles = ((np.arange(shares) + 0.5) * len(film.frames) / shares).astype(int)
    shown = picture(row(film.frames[middles], gap=0), "")
    wide = WIDTH - _LEFT - _RIGHT
    high = wide * shown.size[1] / shown.size[0]
    place = f'x="{_LEFT}" y="0" width="{wide}" height="{high:.1f}"'
    return f'<image {place} href="{shown.uri}" preserveAspectRatio="none"/>', high


def _band(trusted: NDArray[np.bool_], panel: _Panel, top: float) -> str:
    """Runs of equal trust as bars."""
    edges = [0, *(np.flatnonzero(np.diff(trusted)) + 1).tolist(), len(trusted)]
    parts = []
    for first, end in itertools.pairwise(edges):
        word = "trusted" if trusted[first] else "untrusted"
        left, right = panel.at_x(first), panel.at_x(end)
        parts.append(
            f'<rect class="{word}" x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="8">'
            f"<title>{word}: steps {first} to {end - 1}</title></rect>"
        )
    return "".join(parts)


def _axes(panel: _Panel, marks: Sequence[tuple[float, str]], name: str, lift: float = 7) -> str:
    right = WIDTH - _RIGHT
    parts = [f'<text class="label" x="{_LEFT}" y="{panel.top - lift:.1f}">{escape(name)}</text>']
    for value, word in marks:
        y = panel.at_y(value)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick end" x="{_LEFT - 5}" y="{y + 4:.1f}">{word}</text>')
    return "".join(parts)


def _limit(panel: _Panel) -> str:
    y = panel.at_y(math.asinh(1.0))
    return f'<line class="limit" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'


def _line(panel: _Panel, colour: int, drawn: Values, values: Values, name: str) -> str:
    """A curve through the middle of each step; hovering tells the values themselves."""
    places = [(panel.at_x(step + 0.5), panel.at_y(float(value))) for step, value in enumerate(drawn)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dots = "".join(
        f'<circle class="hit c{colour}" cx="{x:.1f}" cy="{y:.1f}" r="4">'
        f"<title>{name}: {precise(float(value))} at step {step}</title></circle>"
        for step, ((x, y), value) in enumerate(zip(places, values, strict=True))
    )
    return f'<polyline class="line c{colour}" points="{path}"/>{dots}'


def _steps(panel: _Panel) -> str:
    middle, y = (_LEFT + WIDTH - _RIGHT) / 2, panel.bottom
    inside = [tick for tick in ticks(0, panel.steps, about=6) if tick < panel.steps and tick == int(tick)]
    return "".join(
        f'<text class="tick mid" x="{panel.at_x(tick + 0.5):.1f}" y="{y + 16:.1f}">{tick:g}</text>'
        for tick in inside
    ) + (
        f'<line class="axis" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="label mid" x="{middle}" y="{y + 32:.1f}">step</text>'
    )


def _event(step: int, word: str, top: float, last: _Panel) -> str:
    """A vertical line through both plots and its word; the alarm's stands above the onset's."""
    x = last.at_x(step)
    flips = x > WIDTH - 60
    high = top - (15 if word == "alarm" else 3)
    return (
        f'<line class="mark {word}" x1="{x:.1f}" x2="{x:.1f}" y1="{top - 2:.1f}" y2="{last.bottom:.1f}"/>'
        f'<text class="tick halo {word}{" end" if flips else ""}" x="{x + (-4 if flips else 4):.1f}" '
        f'y="{high:.1f}">{word}</text>'
    )
