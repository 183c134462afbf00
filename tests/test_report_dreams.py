"""The report's section on dreams: there with a filter, gone without; its numbers, its chart and its films."""

import json
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from robovae import report
from robovae.collect import CollectConfig, collect
from robovae.dreaming import Dreamer
from robovae.dynamics import FilterDynamics
from robovae.episodes import EpisodeStore
from robovae.filter import save_dynamics
from robovae.report import charts, dreams
from robovae.report.charts import Labels, Series
from robovae.run.directory import load_model
from tests.chromium import CONTRAST, Tab
from tests.test_report import Page, foreign, mismatches, save_toy
from tests.toy_env import make_toy


def make_data(path: Path, steps: int) -> Path:
    for split, count in (("train", 4), ("test", 5)):
        config = CollectConfig(episodes=count, seed=split, workers=1)
        collect(partial(make_toy, max_steps=steps), path, config)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data") / "toy", 16)


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a filter, and its report."""
    path = save_toy(tmp_path_factory.mktemp("run"))
    torch.manual_seed(1)
    dynamics = FilterDynamics.of(load_model(path).dynamics)
    torch.nn.init.normal_(dynamics.head.weight, std=0.2)
    save_dynamics(path, dynamics)
    report.write(path, data, report.Effort.tiny())
    return path


@pytest.fixture(scope="module")
def html(run: Path) -> str:
    return (run / "report" / "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def figures(run: Path) -> dict:
    return json.loads((run / "report" / "figures.json").read_text())


def test_the_section_stands_between_probes_and_speed_and_loads_nothing(html: str) -> None:
    page = Page(html)
    sections = [attrs["id"] for attrs, _ in page.all("section")]
    assert sections[-4:] == ["probes", "dreaming", "speed", "origin"]
    assert [attrs["href"] for attrs, _ in page.all("a")] == [f"#{name}" for name in sections]
    assert foreign(html) == []
    assert "script" not in page.tags()


def test_its_numbers_are_those_of_the_figures(html: str, figures: dict) -> None:
    assert mismatches(html, figures) == []
    told = [attrs["data-figure"] for attrs, _ in Page(html).all("data")]
    assert sum(pointer.startswith("/dreams/") for pointer in told) > 30
    wrong = {**figures, "dreams": {**figures["dreams"], "steps": 99}}
    assert mismatches(html, wrong)  # negative control


def test_a_run_without_a_filter_has_no_such_section(data: Path, tmp_path: Path) -> None:
    run = save_toy(tmp_path)
    found = dreams.gather(run, EpisodeStore(data).split("test"))
    assert (found.figures, found.films, found.chart) == (None, [], "")


def test_episodes_that_end_with_the_beginning_leave_nothing_to_dream(run: Path, tmp_path: Path) -> None:
    short = EpisodeStore(make_data(tmp_path, dreams.BEGIN - 1)).split("test")
    assert short.lengths.max() == dreams.BEGIN
    assert dreams.gather(run, short).figures is None


def test_errors_are_those_of_dreams_from_every_episode(run: Path, data: Path, figures: dict) -> None:
    dreamer, test = Dreamer.load(run), EpisodeStore(data).split("test")
    errors, means = [], []
    for episode in test:
        belief = dreamer.perceiver(np.array(episode.image))
        actions = np.array(episode.action)
        start = np.array(episode.image[:5]), actions[:4]
        errors.append(dreamer.imagine(actions[4:], start, 12).errors(belief.mu[5:]))
        means.append(belief.mu)
    unit = np.sqrt(np.concatenate(means).var(axis=0).mean())
    found = figures["dreams"]
    assert (found["episodes"], found["steps"], len(found["by_step"])) == (5, 12, 12)
    assert found["deviation"] == pytest.approx(unit, rel=1e-4)
    for place, name in enumerate(("dream", "hold")):
        rows = np.stack([both[place] for both in errors]) / unit
        for quantile, part in ((0.25, "low"), (0.5, "median"), (0.75, "high")):
            expected = np.quantile(rows, quantile, axis=0)
            np.testing.assert_allclose([one[name][part] for one in found["by_step"]], expected, rtol=1e-3)


def test_quartiles_are_over_the_episodes_that_last_as_long() -> None:
    ones, twos = np.ones(3, np.float32), np.full(2, 2, np.float32)
    rows = dreams.by_step([(ones, 3 * ones), (twos, 3 * twos)], deviation=0.5)
    assert [one["episodes"] for one in rows] == [2, 2, 1]
    assert rows[0]["dream"] == {"low": 2.5, "median": 3.0, "high": 3.5}
    assert rows[2]["hold"] == {"low": 6.0, "median": 6.0, "high": 6.0}
    assert dreams.ahead(rows) == 3
    assert dreams.ahead([{"dream": one["hold"], "hold": one["dream"]} for one in rows]) == 0


def test_three_films_show_what_came_what_was_seen_and_what_was_dreamt(run: Path, data: Path) -> None:
    found = dreams.gather(run, EpisodeStore(data).split("test"))
    assert found.figures is not None
    assert [one["seed"] for one in found.figures["films"]] == [20000, 20002, 20004]
    for blocks in found.films:
        assert [[strip.name for strip in block] for block in blocks] == [["Came", "Seen", "Dreamt"]] * 2
        assert {strip.picture.size for block in blocks for strip in block} == {(5 * 16 + 8, 16)}
        assert blocks[0][0].note.endswith("steps 1, 2, 3, 5, 6")
        assert blocks[1][0].note.endswith("steps 7, 8, 10, 11, 12")


def test_a_band_lies_between_its_low_and_its_high() -> None:
    labels, x = Labels("a", "b", "c"), [0.0, 1.0, 2.0]
    banded = Series("one", x, [1.0, 2.0, 1.0], ([0.0, 1.0, 1.0], [2.0, 4.0, 1.0]))
    svg = ElementTree.fromstring(charts.line_chart([banded], labels, y_range=(0.0, 4.0)))
    (band,) = svg.iter("polygon")
    places = [tuple(map(float, pair.split(","))) for pair in band.get("points", "").split()]
    (line,) = svg.iter("polyline")
    on_line = [tuple(map(float, pair.split(","))) for pair in line.get("points", "").split()]
    assert [round(px) for px, _ in places] == [round(px) for px, _ in [*on_line, *reversed(on_line)]]
    assert places[2][1] == places[3][1] == on_line[2][1]  # low, high and middle are one
    down = places[0][1] - on_line[0][1]
    assert down == pytest.approx(on_line[0][1] - places[5][1], abs=0.2)
    assert places[1][1] - places[4][1] == pytest.approx(3 * down, abs=0.3)
    plain = charts.line_chart([Series("one", x, x)], labels)
    assert "polygon" not in plain


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_a_real_browser_shows_it(tab: Tab, run: Path, width: int, scheme: str) -> None:
    tab.open(run / "report" / "index.html", width, scheme=scheme)
    assert tab.complaints() == []
    sizes = tab.evaluate("[...document.querySelectorAll('#dreaming img')].map(i => i.naturalWidth)")
    assert sizes == [5 * 16 + 8] * 18
    assert tab.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    area = tab.evaluate("document.querySelector('#dreaming polygon').getBoundingClientRect().width")
    assert area > 100
    assert tab.evaluate(CONTRAST) >= 4.5
