"""Numbers as people read them, each traceable: it carries its full value and its place in figures.json."""

import math
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

GOOD, FAIR = 0.95, 0.8
"""R² from which a quantity counts as well known, and as roughly known."""


def point(figures: Any, pointer: str) -> Any:
    """The value at a JSON pointer (RFC 6901) such as /quality/probe/0/r2, None where there is none."""
    for word in pointer.split("/")[1:]:
        key = word.replace("~1", "/").replace("~0", "~")
        try:
            figures = figures[int(key)] if isinstance(figures, list) else figures[key]
        except (KeyError, IndexError, TypeError, ValueError):
            return None
    return figures


def number(figures: Mapping[str, Any], pointer: str, form: str = ".3f") -> Markup:
    """A number of figures.json as a <data> element, "n/a" where it is missing or not finite.

    Args:
        figures: all of them.
        pointer: to the number.
        form: format specification of Python, such as ".1f" or ",d".
    """
    value = point(figures, pointer)
    if not is_number(value):
        return Markup("n/a")
    element = Markup('<data value="{}" data-figure="{}">{}</data>')
    return element.format(repr(value), pointer, shown(value, form))


def is_number(value: object) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def shown(value: float, form: str) -> str:
    """A number with a real minus, and none before a zero."""
    written = format(value, form)
    if not any(digit in written for digit in "123456789"):
        written = written.lstrip("-")
    return written if "e" in written else written.replace("-", "\N{MINUS SIGN}")


def grade(r2: float) -> tuple[str, str]:
    """CSS class and word of an R²."""
    if r2 >= GOOD:
        return "good", "well"
    return ("fair", "roughly") if r2 >= FAIR else ("poor", "hardly")


def verdict(margin: Mapping[str, float]) -> str:
    """Who wins by a margin (plain less VAE) with its interval."""
    if margin["low"] > 0:
        return "the VAE wins"
    return "the plain autoencoder wins" if margin["high"] < 0 else "no clear difference"


def covered(share: float, level: float) -> str:
    """What a coverage says of sigma at a nominal level."""
    if abs(share - level) < 0.05:
        return "true"
    return "overconfident" if share < level else "cautious"


def cell(line: Mapping[str, Any], severity: int) -> str:
    """All that is known of a cell of the heat map, as one line."""
    one = line["cells"][str(severity)]
    text = f"{line['fault']} {severity}, {line['score']}: {one['value']:.3f}"
    text += f" ({one['low']:.3f} to {one['high']:.3f})"
    if one["against"]:
        text += f", lowest against {one['against']}"
    if one["psnr"] is not None:
        text += f"; PSNR {one['psnr']:.1f} dB"
    if one["changed"] is not None:
        text += f"; {one['changed']:.0%} of the frames changed"
    alarms = [f"{alarm['value']:.0%} at {alpha}" for alpha, alarm in one["alarms"].items()]
    return text + (f"; episodes above the limit: {', '.join(alarms)}" if alarms else "")


def delay(line: Mapping[str, Any], severity: int) -> str:
    """All that is known of a cell of the table of delays, as one line."""
    one = line["cells"][str(severity)]
    text = f"{line['fault']} {severity}"
    if one["tpr"]:
        text += (
            f": detected in {one['tpr']['value']:.0%} ({one['tpr']['low']:.0%} to {one['tpr']['high']:.0%})"
        )
        text += f" of {one['tpr']['of']} episodes"
    mean = one["delay"]["restricted_mean"]
    return f"{text}; mean delay {mean:.1f} steps, the undetected counted to their end"
