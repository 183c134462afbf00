"""The report: charts say what they are given; the page is self-contained, escaped, equal to figures.json."""

import base64
import json
import math
import os
import re
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
import torch

from robovae import report
from robovae.collect import CollectConfig, collect
from robovae.dynamics import FilterDynamics
from robovae.episodes import EpisodeError, EpisodeStore, write_episode
from robovae.episodes.episode import Episode
from robovae.filter.model import save_dynamics
from robovae.records import write_bytes
from robovae.report import charts, material, pictures, plots, words
from robovae.run.directory import RunError, RunFacts, build_model, load_model, save_model
from robovae.uncertainty import NotCalibratedError
from robovae.vae import ModelConfig
from tests.chromium import CONTRAST
from tests.toy_env import make_toy

HOSTILE = "<script>alert('1')</script>&\"><img src=x onerror=alert(2)>"
LABELS = charts.Labels("a title", "x", "y")


class Page(HTMLParser):
    """Every element of a page: (tag, attributes, text directly in it)."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str], list[str]]] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), []))

    def handle_endtag(self, tag):
        self.elements.append(("", {}, []))  # what follows is no longer directly in it

    def handle_data(self, data):
        if self.elements:
            self.elements[-1][2].append(data)

    def all(self, tag):
        return [(attrs, "".join(text)) for name, attrs, text in self.elements if name == tag]

    def tags(self):
        return {name for name, _, _ in self.elements if name}


def foreign(html: str) -> list[str]:
    """What a page would load or link to outside of itself."""
    page = Page(html)
    uses = [attrs[key] for _, attrs, _ in page.elements for key in ("src", "href", "srcset") if key in attrs]
    found = [use for use in uses if not use.startswith(("data:", "#"))]
    style = "".join(text for _, text in page.all("style"))
    return found + re.findall(r"https?://\S+", html) + re.findall(r"@import|url\(", style)


def mismatches(html: str, figures: dict) -> list[str]:
    """Numbers on a page that are not those of figures.json, or not shown as they are."""
    wrong = []
    for attrs, text in Page(html).all("data"):
        value = words.point(figures, attrs["data-figure"])
        digits = text.strip("%").replace(",", "").replace("\N{MINUS SIGN}", "-")
        share = 0.01 if text.endswith("%") else 1.0
        half = 0.501 * share * 0.1 ** len(digits.partition(".")[2])  # of the last digit shown
        if float(attrs["value"]) != value or abs(float(digits) * share - value) > half:
            wrong.append(f"{attrs} {text} {value}")
    return wrong


def save_toy(run: Path, deterministic: bool = False, env_id: str = "Toy-v0") -> Path:
    torch.manual_seed(int(deterministic))
    config = ModelConfig(
        latent_dim=6, channels=8, deep_channels=8, decoder_channels=8, global_channels=4, hidden=16,
        dynamics_hidden=8, deterministic=deterministic,
    )  # fmt: skip
    save_model(run, build_model(config, RunFacts((16, 16, 3), 2, env_id, {"height": 16, "width": 16})))
    return run


def metrics(run: Path) -> None:
    """As training writes them, with a row that lacks most."""
    rng = np.random.default_rng(0)
    rows = [
        {"phase": "local", "step": k, "seconds": 2.0 * k, "frames": 64 * k, "ev": 0.1 * k}
        for k in range(1, 6)
    ]
    known = {"ev": 0.5, "local_kl": 9.0, "global_kl": 2.0, "information": 3.0, "active_dims": 4}
    for k in range(1, 6):
        own = {"phase": "global", "step": k, "seconds": 10.0 + k, "frames": 512 * k, "elbo": 100.0 * k}
        parts = {part: rng.random(6).tolist() for part in ("spring", "capacity")}
        rows.append({**own, **known, **parts, "frames_per_second": 512.0})
    lines = [json.dumps(row) for row in [*rows, {"phase": "global", "step": 6}]]
    (run / "metrics.jsonl").write_text("\n".join(lines) + '\n{"phase": "glo')


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "toy"
    for split, count in (("train", 8), ("test", 4)):
        config = CollectConfig(episodes=count, seed=split, workers=1)
        collect(partial(make_toy, max_steps=12), path, config)
    return path


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """A run with everything: metrics, provenance, a plain autoencoder, and its report."""
    path = save_toy(tmp_path_factory.mktemp("run"))
    save_toy(path / "ae", deterministic=True)
    metrics(path)
    provenance = {
        "command": "robovae train x",
        "versions": {"torch": "2"},
        "machine": {"cores": 2},
        "git": None,
    }
    (path / "provenance.json").write_text(json.dumps({**provenance, "stages": {"train": {"seconds": 3.5}}}))
    (data / "collect.json").write_text(
        json.dumps({"result": {"train": {"fps": 1234.5}, "test": {"fps": None}}})
    )
    report.write(path, data, report.Effort.tiny())
    return path


@pytest.fixture(scope="module")
def html(run):
    return (run / "report" / "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def figures(run):
    return json.loads((run / "report" / "figures.json").read_text())


def test_write_leaves_three_files_and_nothing_else(run):
    assert sorted(path.name for path in (run / "report").iterdir()) == [
        "figures.json",
        "filmstrip.png",
        "index.html",
    ]


def test_the_page_loads_nothing_from_anywhere(html):
    assert foreign(html) == []
    assert "script" not in Page(html).tags()


@pytest.mark.parametrize(
    "bad", ['<img src="a.png">', '<a href="https://x.org">', "<style>@import 'x'</style>"]
)
def test_a_page_that_loads_something_would_be_found(html, bad):  # negative control
    assert foreign(html + bad)


def test_every_image_has_words_and_is_a_png_of_its_size(html):
    images = [attrs for attrs, _ in Page(html).all("img")]
    assert len(images) > 15
    for attrs in images:
        kind, _, coded = attrs["src"].partition(",")
        assert kind == "data:image/png;base64"
        decoded = cv2.imdecode(np.frombuffer(base64.b64decode(coded), np.uint8), cv2.IMREAD_UNCHANGED)
        assert decoded.shape[:2] == (int(attrs["height"]), int(attrs["width"]))
    assert all("alt" in attrs for attrs in images)
    assert (
        sum(not attrs["alt"] for attrs in images) == 3
    )  # the colour scales, whose ends are written beside them


def test_the_numbers_of_the_page_are_those_of_the_figures(html, figures):
    assert len(Page(html).all("data")) > 60
    assert mismatches(html, figures) == []


def test_a_wrong_number_would_be_found(html, figures):  # negative control
    assert mismatches(html, {**figures, "quality": {**figures["quality"], "ev": 2.0}})
    assert mismatches(html.replace(f">{figures['run']['latent_dim']}</data>", ">7</data>"), figures)


def test_sections_come_in_order_each_with_its_heading(html):
    order = [
        "seen",
        "where",
        "training",
        "information",
        "dimensions",
        "prior",
        "holes",
        "probes",
        "speed",
        "origin",
    ]
    sections = [attrs for attrs, _ in Page(html).all("section")]
    assert [attrs["id"] for attrs in sections] == order
    headings = {attrs.get("id") for attrs, _ in Page(html).all("h2")}
    assert {attrs["aria-labelledby"] for attrs in sections} == headings
    assert [attrs["href"] for attrs, _ in Page(html).all("a")] == [f"#{key}" for key in order]
    assert len(Page(html).all("h1")) == 1


def test_figures_hold_what_was_recorded_and_measured(figures):
    assert figures["speed"]["collect_fps"] == 1234.5
    assert figures["speed"]["global_fps"] == 512.0
    assert figures["training"]["frames"] == 64 * 5 + 512 * 5
    assert figures["training"]["seconds"] == 15.0
    assert figures["data"]["splits"]["test"] == {
        "episodes": 4, "frames": 52, "first_seed": 20000, "last_seed": 20003,
    }  # fmt: skip
    assert [row["name"] for row in figures["quality"]["probe"]] == ["x", "y"]


def test_dimensions_are_ranked_and_their_parts_add_up(figures):
    nats = [one["nats"] for one in figures["dimensions"]]
    assert nats == sorted(nats, reverse=True)
    for one in figures["dimensions"]:
        assert one["nats"] == pytest.approx(one["spring"] + one["capacity"])
        assert one["spring"] == figures["quality"]["spring"][one["dim"]]
    assert sum(nats) == pytest.approx(figures["quality"]["information"], rel=1e-4)


def test_the_filmstrip_shows_test_frames_on_top(run, data):
    image = cv2.imread(str(run / "report" / "filmstrip.png"), cv2.IMREAD_UNCHANGED)
    height, width = image.shape[:2]
    assert 700 < width < 1300
    factor = round(width / (10 * 16 + 9 * 2))
    first = image[: 16 * factor : factor, : 16 * factor : factor, 2::-1]
    store = EpisodeStore(data).split("test")
    assert any((first == frame).all() for frame in store.frames(np.arange(store.num_frames)))
    assert height == (3 * 16 + 2 * 2) * factor


def test_names_from_outside_are_escaped(data, tmp_path):
    evil = tmp_path / "evil"
    for episode in EpisodeStore(data):
        joints = [{**joint, "name": HOSTILE + joint["name"]} for joint in episode.meta["joints"]]
        meta = {**episode.meta, "env_id": HOSTILE, "joints": joints}
        extra = {name: np.array(array) for name, array in episode.extra.items()}
        arrays = {name: np.array(getattr(episode, name)) for name in episode.arrays() if name not in extra}
        write_episode(evil, Episode(**arrays, extra=extra, meta=meta))
    run = save_toy(tmp_path / "run", env_id=HOSTILE)
    page = report.write(run, evil, report.Effort.tiny()).read_text(encoding="utf-8")
    assert "script" not in Page(page).tags()
    assert not any("onerror" in attrs for attrs, _ in Page(page).all("img"))
    assert "&lt;script&gt;" in page
    assert "script" in Page(page + HOSTILE).tags()  # negative control


def test_a_bare_run_gets_a_page_that_says_what_is_missing(data, tmp_path):
    page = report.write(save_toy(tmp_path), data, report.Effort.tiny()).read_text(encoding="utf-8")
    assert "kept no metrics" in page
    assert "no plain autoencoder beside this run" in page
    assert "did not record the two parts" in page
    assert "n/a" in page
    assert json.loads((tmp_path / "report" / "figures.json").read_text())["walks"] is None


def test_a_plain_autoencoder_gets_a_page_without_a_bound(data, tmp_path):
    page = report.write(save_toy(tmp_path, deterministic=True), data, report.Effort.tiny()).read_text()
    assert "n/a" in page
    assert foreign(page) == []


def test_a_run_without_a_model_is_refused(data, tmp_path):
    with pytest.raises(RunError, match="expected a trained run"):
        report.write(tmp_path, data)
    assert list(tmp_path.iterdir()) == []


def test_a_dataset_without_test_episodes_is_refused(run, data, tmp_path):
    for episode in EpisodeStore(data).split("train"):
        write_episode(tmp_path / "train", episode)
    with pytest.raises(EpisodeError, match="expected episodes of split 'test'"):
        report.write(run, tmp_path / "train")


def test_frames_of_another_size_are_refused(run, tmp_path):
    for split in ("train", "test"):
        config = CollectConfig(episodes=2, seed=split, workers=1)
        collect(partial(make_toy, height=24, max_steps=6), tmp_path, config)
    with pytest.raises(RunError, match="expected the camera of the run"):
        report.write(run, tmp_path, report.Effort.tiny())


def test_what_is_of_another_run_is_refused_before_minutes_of_measuring(data, tmp_path, monkeypatch):
    save_toy(tmp_path, deterministic=True)
    save_dynamics(tmp_path, FilterDynamics.of(load_model(tmp_path).dynamics))
    save_toy(tmp_path)  # other weights than the filter's
    measured = []
    monkeypatch.setattr(material, "evaluate", lambda *parts: measured.append(parts))
    with pytest.raises(NotCalibratedError, match="robovae calibrate"):
        report.write(tmp_path, data)
    assert measured == []


def test_a_full_disk_leaves_the_old_file_and_nothing_half_written(tmp_path, monkeypatch):
    path = write_bytes(tmp_path / "index.html", b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_bytes(path, b"new")
    assert [one.read_bytes() for one in tmp_path.iterdir()] == [b"old"]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, [0.0, 0.25, 0.5, 0.75, 1.0]),
        (0.3, 9.7, [0.0, 2.5, 5.0, 7.5, 10.0]),
        (-3.0, 3.0, [-4.0, -2.0, 0.0, 2.0, 4.0]),
        (5.0, 5.0, [2.0, 4.0, 6.0, 8.0]),
    ],
)
def test_ticks_are_round_and_enclose(low, high, expected):
    assert charts.ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize(("value", "word"), [(0.25, "0.25"), (15000, "15k"), (2.5e6, "2.5M"), (9999, "9999")])
def test_tick_words(value, word):
    assert charts.short(value) == word


def test_a_line_goes_through_its_points():
    series = charts.Series("one", [0, 1, 2, 3], [0.0, math.nan, 4.0, 2.0])
    svg = ElementTree.fromstring(charts.line_chart([series], LABELS))
    (line,) = svg.iter("polyline")
    points = [tuple(map(float, pair.split(","))) for pair in line.get("points").split()]
    assert len(points) == 3  # not the one that is no number
    (x0, y0), (x2, y2), (x3, y3) = points
    assert (x2 - x0) / (x3 - x0) == pytest.approx(2 / 3, abs=1e-3)
    assert (y0 - y3) / (y0 - y2) == pytest.approx(0.5, abs=1e-2)  # up is more
    assert [title.text for title in svg.iter("title")] == ["one: 0 at 0", "one: 4 at 2", "one: 2 at 3"]


def test_bars_are_stacked_as_high_as_their_values():
    svg = ElementTree.fromstring(charts.bar_chart(["a", "b"], {"low": [1.0, 2.0], "top": [3.0, 0.0]}, LABELS))
    bars = [
        (float(bar.get("y")), float(bar.get("height")))
        for bar in svg.iter("rect")
        if bar.find("title") is not None
    ]
    low_a, low_b, top_a, top_b = bars
    assert low_b[1] == pytest.approx(2 * low_a[1], rel=1e-2)
    assert top_a[1] == pytest.approx(3 * low_a[1], rel=1e-2)
    assert top_a[0] + top_a[1] == pytest.approx(low_a[0], abs=0.02)
    assert top_b[1] == 0


@pytest.mark.parametrize("values", [[], [math.nan, math.inf]])
def test_charts_without_numbers_say_so(values):
    line = charts.line_chart([charts.Series("one", range(len(values)), values)], LABELS)
    bars = charts.bar_chart([str(v) for v in values], {"one": values}, LABELS)
    assert "no data" in line
    assert "no data" in bars


def test_charts_escape_names_and_are_well_formed():
    series = [charts.Series(HOSTILE, [0, 1], [1, 2]), charts.Series("b", [0, 1], [2, 3])]
    for svg in (
        charts.line_chart(series, charts.Labels(HOSTILE, HOSTILE, HOSTILE), marks=[(0.5, HOSTILE)]),
        charts.bar_chart([HOSTILE], {HOSTILE: [1.0], "b": [2.0]}, charts.Labels(HOSTILE, HOSTILE, HOSTILE)),
    ):
        tags = {element.tag for element in ElementTree.fromstring(svg).iter()}
        assert tags <= {"svg", "line", "polyline", "circle", "rect", "text", "title"}


def test_a_long_line_is_thinned_to_its_ends():
    series = charts.Series("one", range(5000), range(5000))
    svg = ElementTree.fromstring(charts.line_chart([series], LABELS))
    titles = [title.text for title in svg.iter("title")]
    assert len(titles) <= charts.MOST_POINTS + 1
    assert titles[0] == "one: 0 at 0"
    assert titles[-1] == "one: 4999 at 4999"


def test_the_steep_beginning_does_not_decide_the_range():
    assert charts.steady_range([-1000.0, *range(50, 70)]) == (52, 69)
    assert charts.steady_range([]) is None
    assert charts.steady_range([2.0, 2.0]) == (2.0, 2.0)


def test_phases_are_marked_where_they_begin():
    rows = [{"phase": "local", "seconds": 1.0}, {"phase": "local", "seconds": 4.0}, {"phase": "global"}, {}]
    assert plots.phases(rows) == [(4.0, "global level")]


@pytest.mark.parametrize(
    ("value", "form", "word"),
    [
        (-0.5, ".1f", "\N{MINUS SIGN}0.5"),
        (-0.0001, ".2f", "0.00"),
        (0.5, ".0%", "50%"),
        (12345, ",d", "12,345"),
    ],
)
def test_numbers_are_shown_as_people_read_them(value, form, word):
    assert words.shown(value, form) == word


def test_a_number_carries_its_place_and_full_value():
    found = words.number({"a/b": [{"c": 0.123456}]}, "/a~1b/0/c", ".2f")
    assert found == '<data value="0.123456" data-figure="/a~1b/0/c">0.12</data>'


@pytest.mark.parametrize("value", [None, "7", True, math.nan, math.inf])
def test_what_is_no_number_is_not_shown_as_one(value):
    assert words.number({"a": value}, "/a") == "n/a"
    assert words.number({}, "/a/b") == "n/a"


@pytest.mark.parametrize(("r2", "level"), [(0.95, "good"), (0.9, "fair"), (-0.05, "poor")])
def test_grades(r2, level):
    assert words.grade(r2)[0] == level


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [(0.1, 0.2, "the VAE wins"), (-0.1, 0.2, "no clear"), (-0.2, -0.1, "plain autoencoder")],
)
def test_a_margin_wins_only_beyond_its_interval(low, high, word):
    assert word in words.verdict({"low": low, "high": high})


def test_heat_maps_are_ordered_and_clipped():
    flat = pictures.heat(np.array([[[0.0, 0.5, 1.0, 9.0]]]), 0.0, 1.0, "nats")[0, 0].astype(int).sum(1)
    assert flat[0] < flat[1] < flat[2] == flat[3]


def test_sheets_are_transparent_between_frames():
    frames = np.full((3, 4, 5, 3), 7, np.uint8)
    sheet = pictures.sheet([frames, frames])
    assert sheet.shape == (4 * 2 + 2, 5 * 3 + 4, 4)
    assert (sheet[:4, :5, 3] == 255).all()
    assert (sheet[:, 5:7, 3] == 0).all()


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_real_browser_shows_the_page(tab, run, width, scheme):
    page = run / "report" / "index.html"
    tab.open(page, width, scheme=scheme)
    assert tab.complaints() == []
    assert tab.requests() == [page.resolve().as_uri()]
    sizes = tab.evaluate("[...document.images].map(i => i.naturalWidth * i.clientWidth)")
    assert len(sizes) > 15
    assert min(sizes) > 0
    assert tab.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert tab.evaluate("document.querySelectorAll('main > section').length") == 10
    ground = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground)[:3])) > 380) == (scheme == "light")


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_from_their_ground(tab, run, scheme):
    """WCAG AA: 4.5 to 1, for every element that holds words of its own."""
    tab.open(run / "report" / "index.html", 1280, scheme=scheme)
    worst = tab.evaluate(CONTRAST)
    assert 4.5 <= worst < 22


@pytest.mark.browser
def test_pale_words_would_be_found(tab, tmp_path):  # negative control
    page = tmp_path / "pale.html"
    page.write_text(
        "<!DOCTYPE html><body style='background: #fff'><p>dark</p><p style='color: #ccc'>pale</p>"
    )
    tab.open(page, 400)
    assert tab.evaluate(CONTRAST) == pytest.approx(1.61, abs=0.05)


@pytest.mark.browser
def test_a_page_that_complains_or_overflows_would_be_found(tab, tmp_path):  # negative control
    page = tmp_path / "bad.html"
    page.write_text(
        "<!DOCTYPE html><body><p style='width:2000px'>wide</p><img src='none.png' alt=''>"
        "<script>console.error('no'); throw Error('bad')</script>"
    )
    tab.open(page, 400)
    assert len(tab.complaints()) >= 2
    assert len(tab.requests()) == 2
    assert tab.evaluate("document.documentElement.scrollWidth - innerWidth") > 0
    assert tab.evaluate("Math.min(...[...document.images].map(i => i.naturalWidth))") == 0
