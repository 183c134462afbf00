"""The report's section on uncertainty: figures as the judge has them, films as the monitor sees them."""

import copy
import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from robovae import report
from robovae.belief import Belief
from robovae.collect import CollectConfig, collect
from robovae.judge import Functions, Subject, Watched, alarm_table, judge
from robovae.monitor import Monitor, MonitorConfig, calibrate
from robovae.report import filmchart, pictures, shortfalls, uncertainty, words
from robovae.report.films import Film, FilmError, load_films, save_films
from robovae.report.findings import ReportError
from tests.chromium import CONTRAST
from tests.test_judge import CONFIG, FAULTS, ground, make_env, saturated, subject
from tests.test_report import HOSTILE, Page, foreign, mismatches, save_toy
from tests.toy_env import make_toy

STEPS = 24


def bright(frames: np.ndarray) -> np.ndarray:
    return np.abs(frames.mean(axis=(1, 2, 3)) - 30.0) + 100.0 * saturated(frames)


@pytest.fixture(scope="module")
def judged() -> dict[str, Any]:
    """What the judge itself says of toys, under the names of the monitor's scores."""
    toy = subject()
    named = Functions({"monitor": bright, "innovation": lambda frames: -bright(frames)})
    whole = Subject([*toy.scorers, named], toy.total, toy.raw, toy.reader)
    return judge(whole, ground(), make_env, FAULTS, CONFIG)


@pytest.fixture(scope="module")
def battery() -> dict[str, Any]:
    """As `robovae.judge.battery.battery` gives it, from the real tables of alarms."""
    clean = [Watched(STEPS, None, None)] * 19 + [Watched(STEPS, None, 3)]
    nominal = alarm_table(clean, 0.02)
    keys = ("false_alarms_an_episode", "false_alarms_an_hour")
    untrusted = {"value": 0.02, "low": 0.01, "high": 0.03}
    cells = []
    for severity, alarms in ((1, (None, None, 20)), (5, (9, 9, 10))):
        table = alarm_table([*(Watched(STEPS, 8, alarm) for alarm in alarms), *clean], 0.02)
        cells.append(
            {"fault": "dim", "severity": severity, "kind": "rendered", "split": "TEST", "alarm": table}
        )
    return {
        "alpha": 0.01, "longest": STEPS, "cells": cells,
        "nominal": {"random": {**{key: nominal[key] for key in keys}, "untrusted": untrusted}},
    }  # fmt: skip


@pytest.fixture(scope="module")
def found(judged: dict[str, Any], battery: dict[str, Any]) -> dict[str, Any]:
    noise = {
        "picture": "white noise", "pictures": 5, "sigma": 0.9, "information": 0.8, "most_information": 1.0,
        "alarmed": 1.0, "untrusted": 1.0,
    }  # fmt: skip
    return {"judge": judged, "battery": battery, "sanity": [noise]}


class ToyMonitor:
    """A real monitor over one toy score; it need not encode anything."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        episodes = [{"bright": rng.normal(3.0, 1.0, STEPS)} for _ in range(40)]
        self.calibration = calibrate(episodes[:20], episodes[20:], MonitorConfig(alpha=0.05, alpha_gate=0.05))

    def watch(self, frames: np.ndarray, action: np.ndarray) -> list[Any]:
        assert len(action) == len(frames)
        return Monitor(self.calibration).watch({"bright": bright(frames)})


def toy_film(fault: str = "dim", severity: int = 5, onset: int = 8, change: int = 0) -> Film:
    """A dark toy episode whose frames light up at the onset."""
    frames = np.full((STEPS, 16, 16, 3), 28, np.uint8)
    frames[onset:] += np.uint8(change)
    return Film(fault, severity, frames, np.zeros((STEPS, 2), np.float32), onset)


def perceive(frames: np.ndarray) -> Belief:
    """Sigma is the brightness of the frame."""
    sigma = frames.mean(axis=(1, 2, 3))[:, None] / 255
    return Belief(np.zeros_like(sigma), sigma)


# ---- films


def test_films_come_back_as_they_were(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    kept = []
    for name, severity, steps in (("freeze", 5, 4), ("dim", 2, 3)):
        frames = rng.integers(0, 256, (steps, 8, 6, 3), np.uint8)
        kept.append(Film(name, severity, frames, rng.random((steps, 2), np.float32), 1))
    path = save_films(tmp_path / "judge" / "films.safetensors", kept)
    again = load_films(path)
    assert [str(film) for film in again] == ["dim 2", "freeze 5"]
    for film, other in zip(sorted(kept, key=str), again, strict=True):
        assert (film.frames == other.frames).all()
        assert (film.action == other.action).all()
        assert film.onset == other.onset


def test_no_file_is_no_film(tmp_path: Path) -> None:
    assert load_films(tmp_path / "none") == []


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = save_films(tmp_path / "films", [toy_film()])
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(FilmError, match="received a damaged file"):
        load_films(path)


@pytest.mark.parametrize("name", ["dim/frames", "dim/x/frames", "dim/1/frames", "dim/1/more"])
def test_a_file_of_something_else_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "films").write_bytes(save({name: np.zeros((2, 8, 8, 3), np.uint8)}))
    with pytest.raises(FilmError, match="expected <fault>/<severity> with frames, action, onset"):
        load_films(tmp_path / "films")


def test_one_film_a_fault_and_severity(tmp_path: Path) -> None:
    with pytest.raises(FilmError, match="dim 5: expected one film of it, received two"):
        save_films(tmp_path / "films", [toy_film(), toy_film()])


@pytest.mark.parametrize(
    ("frames", "action", "onset", "said"),
    [
        (np.zeros((2, 8, 8, 3), np.float32), np.zeros((2, 1)), 0, "uint8, received"),
        (np.zeros((2, 8, 8), np.uint8), np.zeros((2, 1)), 0, r"\(T, H, W, 3\) uint8"),
        (np.zeros((2, 8, 8, 3), np.uint8), np.zeros((1, 1)), 0, "2 rows of actions"),
        (np.zeros((2, 8, 8, 3), np.uint8), np.zeros((2, 1)), 2, "an onset below that"),
    ],
)
def test_films_whose_parts_do_not_fit_are_refused(frames: Any, action: Any, onset: int, said: str) -> None:
    with pytest.raises(FilmError, match=said):
        Film("dim", 1, frames, action, onset)


def test_the_chart_is_aligned_with_the_strip() -> None:
    watched = filmchart.watch(ToyMonitor(), perceive, toy_film(change=90))
    svg = ElementTree.fromstring(filmchart.draw(watched))
    (strip,) = svg.iter("image")
    left, wide = float(strip.get("x", 0)), float(strip.get("width", 0))
    lines = {line.get("class"): line for line in svg.iter("line")}
    place = left + wide * watched.film.onset / STEPS
    assert float(lines["mark onset"].get("x1", 0)) == pytest.approx(place, abs=0.1)
    for curve in svg.iter("polyline"):
        xs = [float(pair.split(",")[0]) for pair in curve.get("points", "").split()]
        assert xs == pytest.approx([left + wide * (step + 0.5) / STEPS for step in range(STEPS)], abs=0.1)
    bars = [bar for bar in svg.iter("rect") if bar.get("class") in ("trusted", "untrusted")]
    assert [bar.get("class") for bar in bars] == ["trusted", "untrusted"]
    assert float(bars[1].get("x", 0)) == pytest.approx(place, abs=0.1)
    assert sum(float(bar.get("width", 0)) for bar in bars) == pytest.approx(wide, abs=0.2)


def test_a_watched_film_says_what_the_monitor_said() -> None:
    facts = filmchart.watch(ToyMonitor(), perceive, toy_film(change=90)).facts()
    assert (facts["alarm"], facts["late"]) == (8, 0)
    assert (facts["trusted_before"], facts["trusted_after"]) == (1.0, 0.0)
    assert facts["sigma_before"] == pytest.approx(28 / 255)
    assert facts["sigma_after"] == pytest.approx(118 / 255)
    assert facts["why"].startswith("bright")
    json.dumps(facts, allow_nan=False)


def test_a_film_without_an_alarm_has_no_mark_of_one() -> None:  # negative control
    watched = filmchart.watch(ToyMonitor(), perceive, toy_film(onset=0))
    svg = ElementTree.fromstring(filmchart.draw(watched))
    assert "mark alarm" not in {line.get("class") for line in svg.iter("line")}
    assert "mark alarm" in filmchart.draw(filmchart.watch(ToyMonitor(), perceive, toy_film(change=90)))
    facts = watched.facts()
    assert facts["alarm"] is facts["late"] is facts["sigma_before"] is None
    assert facts["trusted_after"] == 1.0


# ---- figures


def test_the_figures_are_the_judges(found: dict[str, Any]) -> None:
    figures = uncertainty.condense(found)
    json.dumps(figures, allow_nan=False)
    assert [line["fault"] for line in figures["maps"]["lone"]] == ["dim", "salt"]
    timing = [(line["fault"], line["score"]) for line in figures["maps"]["timing"]]
    assert timing == [("late", "monitor"), ("late", "innovation")]
    for row in found["judge"]["cells"]:
        for line in figures["maps"]["timing" if row["kind"] == "timing" else "lone"]:
            if line["fault"] == row["fault"]:
                told = line["cells"][str(row["severity"])]
                assert told["value"] == row["scores"][line["score"]]["auroc"]["value"]
    assert figures["mean"] == found["judge"]["summary"]["means"]["TEST"]["monitor"]
    assert figures["controls"]["low"] == figures["controls"]["high"] == 0.5
    assert figures["widening"] == found["judge"]["widening"]


def test_a_bare_judgement_reads_like_one_among_others(found: dict[str, Any]) -> None:
    assert uncertainty.condense(found["judge"]) == uncertainty.condense({"judge": found["judge"]})


def test_what_was_not_measured_is_empty() -> None:
    figures = uncertainty.condense({})
    assert figures["maps"] == {"lone": [], "timing": []}
    assert figures["mean"] is figures["coverage"] is None
    assert not any(
        figures[key]
        for key in ("false_alarms", "delays", "worst", "rivals", "sanity", "severities", "widening")
    )


def test_coverage_is_the_mean_over_cells_of_test_without_timing(found: dict[str, Any]) -> None:
    pooled = uncertainty.condense(found)["coverage"]
    tested = [row for row in found["judge"]["cells"] if row["fault"] == "dim"]  # salt is DEV, late is timing
    assert pooled["cells"] == len(tested) == 3
    for one, name in zip(pooled["levels"], ("50", "68", "90", "95"), strict=True):
        for which in ("total", "raw"):
            values = [row["truth"][which]["coverage"][name]["value"] for row in tested]
            assert one[which]["value"] == pytest.approx(np.mean(values))
            assert (one[which]["low"], one[which]["high"]) == (min(values), max(values))
    assert pooled["worst"]["value"] == pooled["levels"][2]["total"]["low"]


def test_alarms_and_delays_are_those_of_the_battery(battery: dict[str, Any]) -> None:
    figures = uncertainty.condense({"battery": battery})
    (row,) = figures["false_alarms"]
    assert (row["policy"], row["alpha"]) == ("random", 0.01)
    assert row["false_alarms_an_episode"]["value"] == 0.05
    (line,) = figures["delays"]
    assert line["cells"]["1"]["delay"]["median"] is None
    assert line["cells"]["5"]["delay"]["median"] == 1.0
    assert line["cells"]["5"]["tpr"]["value"] == 1.0


def row_of(severity: int, **scores: float) -> dict[str, Any]:
    """A judge's row whose draws lie 0.05 to either side of each score."""
    table = {
        name: {"auroc": {"value": value, "low": value - 0.05, "high": value + 0.05}, "draws": [value] * 20}
        for name, value in scores.items()
    }
    return {"fault": "dim", "severity": severity, "kind": "rendered", "split": "TEST", "scores": table}


def test_the_worst_cells_come_first_with_the_best_baseline() -> None:
    rows = [row_of(k, monitor=0.5 + 0.05 * k, pca=0.6, chance=0.99, sigma=1.0) for k in (5, 1, 4, 2, 3)]
    told = shortfalls.worst_cells([*rows, row_of(5, pca=0.1)], "monitor")
    assert [one["severity"] for one in told] == [1, 2, 3, 4, 5]
    assert told[0]["best"] == {"name": "pca", "value": 0.6}  # neither our own score nor chance
    assert shortfalls.worst_cells([row_of(1, monitor=0.5)], "monitor")[0]["best"] is None


def test_a_baseline_beats_us_where_its_whole_lead_is_above_0() -> None:
    rows = [row_of(1, monitor=0.7, pca=0.9, knn=0.7), row_of(3, monitor=0.8, pca=0.85, knn=0.1)]
    rows[1]["scores"]["pca"]["draws"] = [0.7] * 3 + [0.9] * 17  # better on average, not surely
    means = {"monitor": {"value": 0.75}, "pca": {"value": 0.87}, "knn": {"value": 0.4}}
    table = shortfalls.rivals(rows, means, "monitor")
    assert [(one["name"], one["better"], one["cells"]) for one in table] == [
        ("pca", 1, 2), ("monitor", 0, 2), ("knn", 0, 2),
    ]  # fmt: skip
    assert table[0]["lead"]["severity"] == 1
    assert table[0]["lead"]["value"] == pytest.approx(0.2)
    assert table[1]["lead"] is table[2]["lead"] is None
    assert shortfalls.rivals([row_of(1, monitor=0.7, sigma=0.9)], {}, "monitor") == []


@given(st.floats(0.0, 1.0))
def test_shades_carry_words_that_can_be_read(value: float) -> None:
    ground, ink = pictures.shade(value, 0.5, 1.0, "nats").split(";")
    colour = np.array([int(ground[-6:][k : k + 2], 16) for k in (0, 2, 4)]) / 255
    linear = np.where(colour <= 0.03928, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    lights = sorted((float(linear @ [0.2126, 0.7152, 0.0722]), 1.0 if ink == "color:#fff" else 0.0))
    assert (lights[1] + 0.05) / (lights[0] + 0.05) >= 4.5


def test_shades_differ_over_the_scale_and_are_cut_at_its_ends() -> None:
    shades = [pictures.shade(value, 0.5, 1.0, "nats") for value in (0.1, 0.5, 0.75, 1.0)]
    assert shades[0] == shades[1]
    assert len(set(shades)) == 3


@pytest.mark.parametrize(("share", "word"), [(0.9, "true"), (0.5, "overconfident"), (0.97, "cautious")])
def test_coverage_in_words(share: float, word: str) -> None:
    assert words.covered(share, 0.9) == word


# ---- the page


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("data") / "toy"
    for split, count in (("train", 6), ("test", 3)):
        config = CollectConfig(episodes=count, seed=split, workers=1)
        collect(partial(make_toy, max_steps=12), path, config)
    return path


def draw(run: Path, data: Path, found: dict[str, Any], kept: list[Film] | None = None) -> Path:
    """The page of a run with such findings; the toy monitor stands for the run's."""
    save_toy(run)
    (run / "judge").mkdir()
    (run / "judge" / "judge.json").write_text(json.dumps(found))
    with pytest.MonkeyPatch.context() as patch:
        if kept:
            save_films(run / "judge" / "films.safetensors", kept)
            (run / "monitor.json").write_text("{}")
            patch.setattr(uncertainty, "FrameMonitor", SimpleNamespace(load=lambda run: ToyMonitor()))
        return report.write(run, data, report.Effort.tiny())


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, data: Path, found: dict[str, Any]) -> Path:
    kept = [toy_film("late", 3), toy_film("dim", 5, change=90), toy_film("salt", 1, onset=0, change=90)]
    return draw(tmp_path_factory.mktemp("run"), data, found, kept)


@pytest.fixture(scope="module")
def html(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def test_the_section_stands_on_a_self_contained_page(html: str) -> None:
    assert [attrs["id"] for attrs, _ in Page(html).all("section")][-3:] == ["failing", "speed", "origin"]
    assert "#failing" in {attrs.get("href") for attrs, _ in Page(html).all("a")}
    assert foreign(html) == []
    assert "script" not in Page(html).tags()


def test_its_numbers_are_those_of_figures_json(html: str, page: Path) -> None:
    figures = json.loads(page.with_name("figures.json").read_text())
    ours = [attrs for attrs, _ in Page(html).all("data") if attrs["data-figure"].startswith("/uncertainty")]
    assert len(ours) > 60
    assert {"/uncertainty/widening/test", "/uncertainty/widening/rare"} <= {a["data-figure"] for a in ours}
    assert mismatches(html, figures) == []
    wrong = copy.deepcopy(figures)
    wrong["uncertainty"]["maps"]["lone"][0]["cells"]["1"]["value"] += 0.2
    assert mismatches(html, wrong)  # negative control


def test_every_cell_of_the_heat_map_is_shaded_and_tells_its_interval(html: str, page: Path) -> None:
    figures = json.loads(page.with_name("figures.json").read_text())["uncertainty"]
    cells = [attrs for attrs, _ in Page(html).all("td") if "background" in attrs.get("style", "")]
    assert len(cells) == sum(len(line["cells"]) for lines in figures["maps"].values() for line in lines)
    first = figures["maps"]["lone"][0]["cells"]["1"]
    assert f"{first['value']:.3f} ({first['low']:.3f} to {first['high']:.3f})" in cells[0]["title"]


def test_films_stand_in_the_order_of_their_kinds(html: str, page: Path) -> None:
    told = json.loads(page.with_name("figures.json").read_text())["uncertainty"]["films"]
    assert [one["kind"] for one in told] == ["rendered", "sensor", "timing"]
    assert html.count('class="chart film"') == 3
    assert "The alarm came at once" in html
    assert "No alarm was raised" in html


def test_without_a_judgement_there_is_no_section(tmp_path: Path) -> None:
    save_toy(tmp_path)
    assert uncertainty.gather(tmp_path).figures is None
    (tmp_path / "judge").mkdir()
    for damaged in ("{damaged", '{"cells": [{}]}', '{"cells": 5}', '{"battery": {"nominal": [1]}}'):
        (tmp_path / "judge" / "judge.json").write_text(damaged)
        with pytest.raises(ReportError, match=r"expected what `robovae evaluate .* writes.*run it again"):
            uncertainty.gather(tmp_path)


def test_films_without_a_monitor_are_not_shown(tmp_path: Path) -> None:
    save_films(tmp_path / "judge" / "films.safetensors", [toy_film()])
    save_toy(tmp_path)
    assert uncertainty.watch_films(tmp_path) == []


def test_parts_that_were_not_measured_are_left_out(
    tmp_path: Path, data: Path, battery: dict[str, Any]
) -> None:
    for name, some in (("nothing", {}), ("battery", {"battery": battery})):
        page = draw(tmp_path / name, data, some).read_text()
        assert "When the camera fails" in page
        assert "Is σ true?" not in page
        assert ("Detection and its delay" in page) == (name == "battery")
        assert foreign(page) == []


def test_names_from_outside_are_escaped(
    tmp_path: Path, data: Path, judged: dict[str, Any], battery: dict[str, Any]
) -> None:
    evil = json.loads(json.dumps({"judge": judged, "battery": battery}))
    for row in (*evil["judge"]["cells"], *evil["battery"]["cells"]):
        row["fault"] = row["split"] = HOSTILE
        row["scores"] = {HOSTILE: 0, **row.get("scores", {})}
        row["scores"][HOSTILE] = row["scores"].get("brightness")
    evil["battery"]["nominal"] = {HOSTILE: evil["battery"]["nominal"]["random"]}
    page = draw(tmp_path / "run", data, evil, [toy_film(HOSTILE.replace("/", ""), change=90)]).read_text()
    assert "script" not in Page(page).tags()
    assert not any("onerror" in attrs for attrs, _ in Page(page).all("img"))
    assert page.count("&lt;script&gt;") > 5


BOXES = "[...document.querySelectorAll('.wide')].map(e => [e.scrollWidth, e.clientWidth])"


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_a_real_browser_shows_the_section(tab: Any, page: Path, width: int, scheme: str) -> None:
    tab.open(page, width, scheme=scheme)
    assert tab.complaints() == []
    assert tab.requests() == [page.resolve().as_uri()]
    assert tab.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert 4.5 <= tab.evaluate(CONTRAST) < 22
    boxes = tab.evaluate(BOXES)
    assert len(boxes) == 6
    assert all((inner > outer) == (width == 400) for inner, outer in boxes)  # wide tables scroll in their box
    assert tab.evaluate("document.querySelectorAll('svg.film image').length") == 3
