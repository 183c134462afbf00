"""The page: a template filled with the material; style and pictures are in it, and nothing that it loads."""

import json
from functools import partial
from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from robovae.report import filmchart, looks, plots, words
from robovae.report.material import Material
from robovae.report.pictures import picture, scale_bar, shade
from robovae.report.words import grade, number, verdict

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""What a browser may load for this page: nothing from anywhere."""

AUROC = "nats"
"""Palette of the heat map of AUROC."""


def render(material: Material) -> str:
    """The whole page as HTML; what comes from outside is escaped by the template engine."""
    here, figures = files("robovae.report"), material.figures
    engine = Environment(
        loader=FunctionLoader(lambda name: here.joinpath(name).read_text(encoding="utf-8")),
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    template = engine.get_template("page.html.jinja")
    rows, covered = figures["training"]["rows"], (figures["uncertainty"] or {}).get("coverage")
    return template.render(
        m=material,
        f=figures,
        n=partial(number, figures),
        grade=grade,
        verdict=verdict,
        pretty=partial(json.dumps, indent=2, ensure_ascii=False),
        policy=POLICY,
        style=Markup(here.joinpath("style.css").read_text(encoding="utf-8")),
        span=looks.SPAN,
        curves=plots.training(rows),
        parts=plots.parts_over_training(rows),
        bars=plots.by_dimension(figures["dimensions"]),
        realism=plots.realism(figures["walks"]) if figures["walks"] else "",
        maps={key: (picture(scale_bar(look[0]), ""), look[1]) for key, look in looks.MAPS.items()},
        worst=_worst_probe(material),
        covered=plots.covered(covered) if covered else "",
        covered_words=words.covered,
        cell_words=words.cell,
        delay_words=words.delay,
        shade=partial(shade, low=0.5, high=1.0, palette=AUROC),
        auroc_bar=picture(scale_bar(AUROC), ""),
        films=[filmchart.draw(one) for one in material.films],
    )


def _worst_probe(material: Material) -> int | None:
    """Index of the probe's row with the lowest R², None if nothing was probed."""
    rows = enumerate(material.figures["quality"]["probe"])
    known = [(row["r2"], index) for index, row in rows if "r2" in row]
    return min(known)[1] if known else None
