"""The report's section on policies and the closed loop: figures of real, tiny runs, and what is missing."""

import copy
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robovae import report
from robovae.closed_loop import Condition, Ledger, judge_loop
from robovae.closed_loop.video import FPS, record, side_by_side
from robovae.collect import CollectConfig, collect
from robovae.dynamics import FilterDynamics
from robovae.filter import save_dynamics
from robovae.judge.targets import Target
from robovae.records import read_json, write_json
from robovae.report import control, plots
from robovae.report.findings import ReportError
from robovae.run import policy_stage, run_stage
from robovae.run.directory import load_model
from robovae.run.files import policy_files, policy_places
from robovae.video import write_video
from tests.chromium import CONTRAST
from tests.test_closed_loop import CONFIG, CREW, FAULTS, known, make_arms, make_env
from tests.test_policy_training import TINY
from tests.test_report import HOSTILE, Page, foreign, mismatches, save_toy
from tests.toy_env import make_toy

DARK = Condition("dark", 5, "sensor", "TEST", 0.5)
LEARNT = {"": {}, "mu": {"features": "mu", "stack": 3}, "state": {"observation": "state"}}
"""Names of policies, and what of their config differs."""


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of random weights on which policies have learnt for a moment."""
    run = save_toy(tmp_path_factory.mktemp("run"))
    save_dynamics(run, FilterDynamics.of(load_model(run).dynamics))
    for name, how in LEARNT.items():
        config = replace(TINY, **how)
        stage = policy_stage(run, name, config, lambda: partial(make_toy, max_steps=6), lambda *_: None)
        run_stage(stage, lambda _: None)
    return run


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the judge says of toys, as control.json holds it."""
    ledger = Ledger(tmp_path_factory.mktemp("loop") / "episodes.jsonl")
    result = judge_loop(CREW, known(), FAULTS, CONFIG, ledger)
    return json.loads(json.dumps(result, allow_nan=False))


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The film of the toys."""
    columns = record(make_env, make_arms(("nominal", "guard")), DARK, 40_000, 12)
    return write_video(tmp_path_factory.mktemp("film") / "film.webp", side_by_side(columns), FPS)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("data") / "toy"
    for split, count in (("train", 6), ("test", 3)):
        config = CollectConfig(episodes=count, seed=split, workers=1)
        collect(partial(make_toy, max_steps=12), path, config)
    return path


def judged(run: Path, found: dict[str, Any], film: Path) -> Path:
    """The run, with what `robovae bench control` leaves in it."""
    write_json(run / "control" / "control.json", found)
    (run / "control" / "film.webp").write_bytes(film.read_bytes())
    return run


@pytest.fixture(scope="module")
def page(learnt: Path, found: dict[str, Any], film: Path, data: Path) -> Path:
    (learnt / "filter.safetensors").rename(learnt / "aside")  # so that nothing is dreamt, which takes time
    try:
        return report.write(judged(learnt, found, film), data, report.Effort.tiny())
    finally:
        (learnt / "aside").rename(learnt / "filter.safetensors")


@pytest.fixture(scope="module")
def html(page: Path) -> str:
    return page.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def figures(page: Path) -> dict[str, Any]:
    return json.loads(page.with_name("figures.json").read_text())


# ---- policies


def test_policies_are_told_as_they_were_judged(learnt: Path, figures: dict[str, Any]) -> None:
    told = figures["control"]["policies"]
    assert [(one["place"], one["label"]) for one in told] == [
        ("policy", "policy"),
        ("policy-mu", "mu"),
        ("policy-state", "state"),
    ]
    assert [one["sees"] for one in told] == ["filtered beliefs", "μ, 3 at once", "the true state"]
    for one in told:
        kept = read_json(learnt / one["place"] / "policy.json")
        assert kept is not None
        returns = kept["evaluation"]["returns"]
        assert one["return"]["value"] == pytest.approx(np.mean(returns))
        low, high = min(returns) - 1e-9, max(returns) + 1e-9  # a mean of equal numbers may round past them
        assert low <= one["return"]["low"] <= one["return"]["high"] <= high
        assert (one["return"]["of"], one["steps"]) == (len(returns), kept["steps"])
        lines = (learnt / one["place"] / "progress.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        assert [(row["step"], row["mean"]) for row in one["curve"]] == [(r["step"], r["mean"]) for r in rows]
        assert len(one["curve"]) >= 2


def test_every_policy_has_its_line(figures: dict[str, Any]) -> None:
    policies = figures["control"]["policies"]
    (svg,) = plots.learning(policies)
    assert len(list(ElementTree.fromstring(svg).iter("polyline"))) == 3
    assert [word in svg for word in (">policy<", ">mu<", ">state<")] == [True] * 3
    many = [{**one, "label": f"{one['label']}{k}"} for k in range(2) for one in policies]
    first, second = map(ElementTree.fromstring, plots.learning(many))
    assert [len(list(svg.iter("polyline"))) for svg in (first, second)] == [4, 2]
    assert plots.learning([{**policies[0], "curve": []}]) == []


def test_a_line_at_the_top_is_seen_and_alike_names_are_told_apart() -> None:
    def policy(label: str, means: list[float]) -> dict[str, Any]:
        curve = [{"step": step, "mean": mean} for step, mean in enumerate(means)]
        return {"label": label, "curve": curve}

    flat, rising = policy("filtered-a", [30.0, *[1000.0] * 9]), policy("filtered-b", [*range(0, 300, 30)])
    (svg,) = plots.learning([flat, rising])
    root = ElementTree.fromstring(svg)
    lines = [one.get("points", "").split() for one in root.iter("polyline")]
    heights = [float(point.split(",")[1]) for line in lines for point in line[3:]]
    assert min(heights) > 0  # within the picture, beginnings apart
    assert len(lines) == 2
    assert "filt…ed-a" in svg
    assert "filt…ed-b" in svg


def test_a_policy_that_still_learns_is_told_so(tmp_path: Path) -> None:
    rows = '{"step": 24, "mean": -3.0, "returns": [-3.0]}\n{"step": 48, "mean": -2.0}\n{"step": 7'
    (tmp_path / "policy-new").mkdir()
    (tmp_path / "policy-new" / "progress.jsonl").write_text(rows)
    found = control.gather(tmp_path)
    assert found.figures is not None
    (one,) = found.figures["policies"]
    assert not one["finished"]
    assert one["return"] is one["sees"] is None
    assert [row["mean"] for row in one["curve"]] == [-3.0, -2.0]
    assert found.figures["missing"][0]["what"] == "the rest of policy-new"


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (
            {"features": "filtered", "config": {"drop_share": 0.25}},
            "filtered beliefs; 25% of the frames lost in training",
        ),
        (
            {"features": "mu", "stack": 3, "config": {"drop_share": 0.1, "corrupt_share": 0.25}},
            "μ, 3 at once; 10% of the frames lost and 25% of the frames corrupted in training",
        ),
        ({"features": "state", "config": {"corrupt_share": 0.25}}, "the true state"),
        ({"features": "mu_sigma", "stack": 1}, "μ and σ"),
        ({"features": "else"}, None),
        ({}, None),
    ],
)
def test_what_a_policy_sees_in_words(record: dict[str, Any], words: str | None) -> None:
    assert control.sees(record) == words


@pytest.mark.parametrize(("algo", "teacher"), [("dagger", "state"), ("sac", None)])
def test_who_taught_a_policy(tmp_path: Path, algo: str, teacher: str | None) -> None:
    write_json(tmp_path / "policy.json", {"algo": algo, "config": {"teacher": "state"}})
    assert control.policy_facts(tmp_path)["taught_by"] == teacher


def test_policies_that_were_set_aside_are_left_out(tmp_path: Path) -> None:
    for name in ("policy", "policy.old-1", "policy-mu", "policy-mu.old-2", "policy_2"):
        (tmp_path / name).mkdir()
    (tmp_path / "policy.txt").write_text("no directory")
    assert policy_places(tmp_path) == ["policy", "policy-mu"]
    assert "policy-mu/policy.safetensors" in policy_files(tmp_path)


# ---- the closed loop


def test_the_figures_are_the_judges(found: dict[str, Any]) -> None:
    told = control.condense(found)
    json.dumps(told, allow_nan=False)
    assert told["shares"] == [0.25, 0.5]
    assert told["conditions"] == 1
    arms = {one["arm"]: one for one in told["arms"]}
    assert list(arms) == [row["arm"] for row in found["clean"]]
    assert all(one["what"] for one in told["arms"])
    for row in found["pooled"]:
        if row["pool"] == "TEST":
            burst = arms[row["arm"]]["bursts"][told["shares"].index(row["share"])]
            assert burst["score"] == row["score"]
            assert burst["interventions"] == row["interventions"]
    assert told["arms"][told["guarded"]]["arm"] == "guard"
    assert told["arms"][told["plain"]]["arm"] == "nominal"


def test_what_clean_episodes_cost_is_a_share_of_the_plain_policys_mean(found: dict[str, Any]) -> None:
    some = copy.deepcopy(found)
    means = {"nominal": 0.8, "guard": 0.76, "oracle": 0.88}
    for row in some["clean"]:
        row["mean"] = means.get(row["arm"], 0.5)
    lost = {one["arm"]: one["lost"] for one in control.condense(some)["arms"]}
    assert [lost[name] for name in means] == pytest.approx([0.0, 0.05, -0.1])
    assert lost["zero"] is lost["state"] is None  # they look at no frame
    for row in some["clean"]:
        row["mean"] = -1.0
    assert {one["lost"] for one in control.condense(some)["arms"]} == {None}


@given(st.none() | st.floats(-2, 2), st.none() | st.floats(-2, 2), st.sampled_from(["", "dark 5, 1 to 2"]))
def test_verdicts_are_those_of_the_targets(reached: float | None, least: float | None, note: str) -> None:
    bound = {} if least is None else {"least": least}
    one = Target("a", reached, **bound, note=note)
    told = control.target(one.facts())
    expected = "not measured" if reached is None else "missed" if one.missed else "met" if bound else ""
    assert (told["verdict"], told["note"]) == (expected, note)


def test_the_chart_has_a_line_an_arm_from_clean_on(found: dict[str, Any]) -> None:
    svg = ElementTree.fromstring(plots.bursts(control.condense(found)))
    lines = [line.get("points", "").split() for line in svg.iter("polyline")]
    assert [len(points) for points in lines] == [3, 3, 3]  # nominal, oracle, guard; at 0, 25 and 50 %
    inside = [
        float(pair.split(",")[1]) for area in svg.iter("polygon") for pair in area.get("points", "").split()
    ]
    assert 0 <= min(inside) < max(inside) <= 232
    assert not plots.bursts(control.condense({**found, "pooled": []}))


def test_a_film_is_shown_as_it_is(film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = control.load_film(film)
    assert shown is not None
    assert shown.uri.startswith("data:image/webp;base64,")
    assert shown.size == (3 * 194, 236)
    assert control.load_film(tmp_path / "none.webp") is None
    (tmp_path / "bad.webp").write_bytes(b"RIFF and no more")
    assert control.load_film(tmp_path / "bad.webp") is None
    (tmp_path / "empty.webp").write_bytes(b"")
    assert control.load_film(tmp_path / "empty.webp") is None
    monkeypatch.setattr(control, "MOST_BYTES", 100)
    assert control.load_film(film) is None


# ---- what is missing


def test_nothing_is_no_section(tmp_path: Path) -> None:
    assert control.gather(save_toy(tmp_path)) == control.Control(None)
    (tmp_path / "control").mkdir()
    (tmp_path / "control" / "control.json").write_text("{damaged")
    with pytest.raises(ReportError, match=r"expected what `robovae bench control .* writes.*run it again"):
        control.gather(tmp_path)


def test_what_is_missing_is_told_with_its_command(
    learnt: Path, figures: dict[str, Any], tmp_path: Path
) -> None:
    assert figures["control"]["missing"] == []
    write_json(tmp_path / "policy" / "policy.json", read_json(learnt / "policy-mu" / "policy.json"))
    found = control.gather(tmp_path)
    assert found.figures is not None
    assert found.figures["loop"] is None
    assert [one["command"] for one in found.figures["missing"]] == [
        "robovae policy RUN",
        "robovae policy RUN --observation state --name state",
        "robovae bench control RUN",
    ]


def test_a_lost_film_is_missing_and_nothing_else(learnt: Path, found: dict[str, Any]) -> None:
    policies = [control.policy_facts(learnt / place) for place in policy_places(learnt)]
    lacks = control.missing(policies, control.condense(found), None)
    assert lacks == [{"what": "its film", "command": "robovae bench control RUN"}]


# ---- the page


def test_the_section_stands_on_a_self_contained_page(html: str) -> None:
    sections = [attrs["id"] for attrs, _ in Page(html).all("section")]
    assert sections[-3:] == ["control", "speed", "origin"]
    assert [attrs["href"] for attrs, _ in Page(html).all("a")] == [f"#{name}" for name in sections]
    assert foreign(html) == []
    assert "script" not in Page(html).tags()
    (shown,) = [attrs for attrs, _ in Page(html).all("img") if attrs["src"].startswith("data:image/webp")]
    assert shown["alt"].startswith("Film: the same episode without a fault")


def test_its_numbers_are_those_of_figures_json(html: str, figures: dict[str, Any]) -> None:
    ours = [attrs for attrs, _ in Page(html).all("data") if attrs["data-figure"].startswith("/control")]
    assert len(ours) > 80
    assert mismatches(html, figures) == []
    wrong = copy.deepcopy(figures)
    wrong["control"]["loop"]["arms"][0]["clean"]["value"] += 0.2
    assert mismatches(html, wrong)  # negative control


def test_targets_tell_what_was_missed(html: str, figures: dict[str, Any]) -> None:
    verdicts = [one["verdict"] for one in figures["control"]["loop"]["targets"]]
    cells = [(attrs.get("class"), text) for attrs, text in Page(html).all("td") if text in verdicts and text]
    assert [text for _, text in cells] == [word for word in verdicts if word]
    classes = {"met": "good", "missed": "poor", "not measured": "fair"}
    assert all(kind == classes[text] for kind, text in cells)
    assert {"met", "missed"} <= set(verdicts)


def test_names_from_outside_are_escaped(
    tmp_path: Path, data: Path, found: dict[str, Any], film: Path
) -> None:
    evil = copy.deepcopy(found)
    for row in (*evil["clean"], *evil["pooled"]):
        row["arm"] += HOSTILE * (row["arm"] == "random")
    evil["targets"][0]["target"] = evil["targets"][0][""] = HOSTILE
    run = judged(save_toy(tmp_path / "run"), evil, film)
    write_json(run / "policy" / "policy.json", {"features": "mu", "algo": HOSTILE})
    text = report.write(run, data, report.Effort.tiny()).read_text(encoding="utf-8")
    assert "script" not in Page(text).tags()
    assert not any("onerror" in attrs for attrs, _ in Page(text).all("img"))
    assert "What is missing here" in text


BOXES = "[...document.querySelectorAll('#control .wide')].map(e => [e.scrollWidth, e.clientWidth])"


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
    assert len(boxes) == 3
    assert all((inner > outer) == (width == 400) for inner, outer in boxes)  # wide tables scroll in their box
    assert tab.evaluate("document.querySelector('.moving img').naturalWidth") == 3 * 194
    assert tab.evaluate("document.querySelectorAll('#control polyline').length") == 6
