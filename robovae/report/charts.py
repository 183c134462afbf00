"""Small charts as inline SVG: plain functions from numbers to text, coloured by the page's own CSS.

Colours are the classes c0, c1, ... of the page, so that one chart serves light, dark and print. Every point
and bar tells its value in a <title>, which browsers show on hover and screen readers read.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 420, 232
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 20, 30, 40  # half of a long number fits beside the axis
_DASHES = ("", "6 3", "2 3", "8 3 2 3")
MOST_POINTS = 160
"""A line is thinned to this many points: more cannot be told apart at this width."""


@dataclass(frozen=True)
class Series:
    """One line."""

    name: str
    """In the legend."""
    x: Sequence[float]
    y: Sequence[float]
    """As many as x; points that are not finite are left out."""
    band: tuple[Sequence[float], Sequence[float]] | None = None
    """Low and high at each x, all finite: shaded behind the line."""


@dataclass(frozen=True)
class Labels:
    """The words of a chart."""

    title: str
    """Read by screen readers, not drawn: the page has a heading for it."""
    x: str
    y: str


@dataclass(frozen=True)
class _Frame:
    """Maps values to places in the drawing."""

    x: tuple[float, float]
    y: tuple[float, float]

    def at_x(self, value: float) -> float:
        low, high = self.x
        return _LEFT + (value - low) / (high - low) * (WIDTH - _LEFT - _RIGHT)

    def at_y(self, value: float) -> float:
        low, high = self.y
        return HEIGHT - _BOTTOM - (value - low) / (high - low) * (HEIGHT - _TOP - _BOTTOM)


def line_chart(
    series: Sequence[Series],
    labels: Labels,
    *,
    y_range: tuple[float, float] | None = None,
    marks: Sequence[tuple[float, str]] = (),
) -> str:
    """Lines over a common axis.

    Args:
        series: at most 4 lines; empty ones are left out.
        labels: title and axes.
        y_range: lowest and highest value drawn; by default what the values need.
        marks: (x, word) of vertical lines.

    Returns:
        An <svg>; one that says "no data" where no point is finite.
    """
    points = {index: _finite(one) for index, one in enumerate(series)}
    points = {index: some for index, some in points.items() if some}
    if not points:
        return _svg(labels, f'<text class="note" x="{WIDTH / 2}" y="{HEIGHT / 2}">no data</text>')
    xs = [x for some in points.values() for x, _ in some]
    ys = [y for some in points.values() for _, y in some]
    x_ticks, y_ticks = ticks(min(xs), max(xs)), ticks(*(y_range or (min(ys), max(ys))))
    frame = _Frame(_span([min(xs), max(xs)]), _span([*y_ticks, *(y_range or ())]))
    inside = [tick for tick in x_ticks if frame.x[0] <= tick <= frame.x[1]]
    body = _axes(frame, labels, [(tick, short(tick)) for tick in inside], y_ticks)
    body += "".join(_band(frame, index, series[index]) for index in points)
    body += "".join(_line(frame, index, series[index].name, some) for index, some in points.items())
    body += "".join(_mark(frame, x, word) for x, word in marks if frame.x[0] < x < frame.x[1])
    return _svg(labels, body + _legend([(index, series[index].name) for index in points], lines=True))


def bar_chart(names: Sequence[str], stacks: Mapping[str, Sequence[float]], labels: Labels) -> str:
    """Upright bars, each a stack of the same parts.

    Args:
        names: of the bars, from left to right; every few are written where they would not fit.
        stacks: part -> one value >= 0 for each bar, the first part at the bottom.
        labels: title and axes.
    """
    totals = [sum(parts) for parts in zip(*stacks.values(), strict=True)]
    if not totals or not all(map(math.isfinite, totals)):
        return _svg(labels, f'<text class="note" x="{WIDTH / 2}" y="{HEIGHT / 2}">no data</text>')
    y_ticks = ticks(0.0, max(totals))
    frame = _Frame((0.0, float(len(names))), _span(y_ticks))
    every = math.ceil(max(map(len, names)) * 7 * len(names) / (WIDTH - _LEFT - _RIGHT))
    x_ticks = [(index + 0.5, name) for index, name in enumerate(names) if index % every == 0]
    body = _axes(frame, labels, x_ticks, y_ticks)
    base = [0.0] * len(names)
    for colour, (part, values) in enumerate(stacks.items()):
        for index, value in enumerate(values):
            tip = f"{names[index]}, {part}: {precise(value)}"
            body += _bar(frame, colour, index, base[index], value, tip)
            base[index] += value
    return _svg(labels, body + (_legend(list(enumerate(stacks)), lines=False) if len(stacks) > 1 else ""))


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers that enclose [low, high], about as many as asked for."""
    if not high > low:
        margin = abs(low) * 0.5 or 1.0
        low, high = low - margin, high + margin
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def short(value: float) -> str:
    """A tick's number: 0.25, 40, 1.5k, 2M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if unit == 'k' else size):g}{unit}"
    return f"{value:.4g}"


def precise(value: float) -> str:
    """A number in a tooltip: 4 digits that count."""
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"


def steady_range(values: Sequence[float], skip: float = 0.15) -> tuple[float, float] | None:
    """The range of a curve without its steep beginning, None if nothing is finite.

    Args:
        values: in order.
        skip: share of the values at the start that may fall outside.
    """
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return None
    rest = finite[min(int(len(finite) * skip), len(finite) - 1) :]
    return min(rest), max(rest)


def _finite(series: Series) -> list[tuple[float, float]]:
    both = zip(series.x, series.y, strict=True)
    points = [(float(x), float(y)) for x, y in both if math.isfinite(x) and math.isfinite(y)]
    every = math.ceil(len(points) / MOST_POINTS) or 1
    return points[:-1:every] + points[-1:]


def _span(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _svg(labels: Labels, body: str) -> str:
    title = escape(labels.title)
    return f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">{body}</svg>'


def _axes(
    frame: _Frame, labels: Labels, x_ticks: Sequence[tuple[float, str]], y_ticks: Sequence[float]
) -> str:
    left, right, bottom = _LEFT, WIDTH - _RIGHT, HEIGHT - _BOTTOM
    parts = []
    for tick in y_ticks:
        y = frame.at_y(tick)
        parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick end" x="{left - 6}" y="{y + 4:.1f}">{short(tick)}</text>')
    for tick, word in x_ticks:
        x = frame.at_x(tick)
        parts.append(f'<text class="tick mid" x="{x:.1f}" y="{bottom + 16}">{escape(word)}</text>')
    parts.append(f'<line class="axis" x1="{left}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
    middle = (left + right) / 2
    parts.append(f'<text class="label mid" x="{middle}" y="{HEIGHT - 6}">{escape(labels.x)}</text>')
    parts.append(f'<text class="label" x="2" y="12">{escape(labels.y)}</text>')
    return "".join(parts)


def _mark(frame: _Frame, x: float, word: str) -> str:
    place = frame.at_x(x)
    flips = place > WIDTH - 110
    return (
        f'<line class="mark" x1="{place:.1f}" x2="{place:.1f}" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}"/>'
        f'<text class="tick halo{" end" if flips else ""}" x="{place + (-4 if flips else 4):.1f}" '
        f'y="{HEIGHT - _BOTTOM - 5}">{escape(word)}</text>'
    )


def _line(frame: _Frame, index: int, name: str, points: Sequence[tuple[float, float]]) -> str:
    """A line, cut off where it leaves the range: an inner <svg> clips what is outside of it."""
    places = [(frame.at_x(x), frame.at_y(y)) for x, y in points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dots = "".join(
        f'<circle class="hit c{index}" cx="{px:.1f}" cy="{py:.1f}" r="4">'
        f"<title>{escape(name)}: {precise(y)} at {precise(x)}</title></circle>"
        for (px, py), (x, y) in zip(places, points, strict=True)
    )
    dash = f' stroke-dasharray="{_DASHES[index]}"' if _DASHES[index] else ""
    top, height = _TOP - 5, HEIGHT - _BOTTOM - _TOP + 6
    window = f'y="{top}" width="{WIDTH}" height="{height}" viewBox="0 {top} {WIDTH} {height}"'
    return f'<svg {window}><polyline class="line c{index}"{dash} points="{path}"/>{dots}</svg>'


def _band(frame: _Frame, index: int, series: Series) -> str:
    low, high = series.band or ((), ())
    around = [*zip(series.x, low, strict=False), *reversed([*zip(series.x, high, strict=False)])]
    path = " ".join(f"{frame.at_x(x):.1f},{frame.at_y(y):.1f}" for x, y in around)
    return f'<polygon class="bar c{index}" fill-opacity="0.16" points="{path}"/>' if path else ""


def _bar(frame: _Frame, colour: int, index: int, base: float, value: float, tip: str) -> str:
    left, right = frame.at_x(index + 0.14), frame.at_x(index + 0.86)
    top, bottom = frame.at_y(base + value), frame.at_y(base)
    return (
        f'<rect class="bar c{colour}" x="{left:.2f}" width="{right - left:.2f}" y="{top:.2f}" '
        f'height="{max(bottom - top, 0):.2f}"><title>{escape(tip)}</title></rect>'
    )


def _legend(names: Sequence[tuple[int, str]], lines: bool) -> str:
    """Swatch and word of each series, right-aligned above the plot."""
    if len(names) < 2:
        return ""
    parts, right = [], float(WIDTH - _RIGHT)
    for index, name in reversed(names):
        right -= len(name) * 7.0
        parts.append(f'<text class="tick" x="{right:.1f}" y="12">{escape(name)}</text>')
        right -= 24
        if lines:
            dash = f' stroke-dasharray="{_DASHES[index]}"' if _DASHES[index] else ""
            ends = f'x1="{right:.1f}" x2="{right + 18:.1f}" y1="8" y2="8"'
            parts.append(f'<line class="line c{index}"{dash} {ends}/>')
        else:
            parts.append(f'<rect class="bar c{index}" x="{right + 6:.1f}" y="3" width="10" height="10"/>')
        right -= 10
    return "".join(parts)
