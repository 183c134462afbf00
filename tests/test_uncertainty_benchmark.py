"""The monitor's battery, sanity rows, cost and targets; `robovae evaluate` and the benchmark around them."""

import importlib.util
import io
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from rich.console import Console

import robovae_envs.camera
import robovae_envs.faults
from robovae.belief import Belief, Perceiver
from robovae.cli import main, trial
from robovae.cli.console import WIDE
from robovae.cli.task_tables import alarm_rows, figure_rows, task_tables
from robovae.cli.trial import LateFault, Scale, Trial
from robovae.cli.verdicts import judge_tables, nominal_rows, sigma_rows, titled
from robovae.cli.watching import photograph_crops
from robovae.episodes import EpisodeStore, write_episode
from robovae.episodes.episode import RESERVED, split_of
from robovae.errors import RobovaeError
from robovae.evaluate import ProbeConfig
from robovae.judge import Footage, Functions, Ground, JudgeConfig, JudgeError, Subject, Twins, judge
from robovae.judge.alarms import rate
from robovae.judge.battery import BatteryConfig, battery
from robovae.judge.errors import UnreadableError
from robovae.judge.exact import binomial_interval
from robovae.judge.pixel_detectors import Chance
from robovae.judge.sanity import made_up_pictures, sanity
from robovae.judge.speed import watching_cost
from robovae.judge.targets import BRIEFLY, Target, least_covered, targets
from robovae.judge.tasks import by_task
from robovae.judge.traces import Trace, watch
from robovae.monitor import Calibration, Monitor, MonitorConfig, calibrate
from robovae.report.uncertainty import condense
from robovae.run.directory import RunFacts, build_model, save_model
from robovae.uncertainty import CalibrateConfig, FrameMonitor, calibrate_run
from robovae.vae import ModelConfig
from tests.test_evaluate import rollout
from tests.test_judge import FAULTS, ToyFaulty, ToySees, ground, make_env
from tests.toy_env import ToyEnv

SCRIPT = Path(__file__).parents[1] / "launch" / "benchmarks" / "uncertainty.py"
ALPHA = 0.1
STEPS = 12
CONFIG = BatteryConfig(nominal=60, policies=("random", "bang"), faulted=30, severities=(5,), steps=STEPS)


# ---- the battery, on a monitor whose answer is known


class ToyLate(ToyFaulty):
    """A toy fault that sets in at a step."""

    def __init__(self, fault: str | None, severity: int, onset: int) -> None:
        super().__init__(ToyEnv(), fault, severity)
        self.onset, self.seen = onset, []

    def _see(self, observation: Any) -> Any:
        failed = super()._see(observation)
        return failed if len(self.past) > self.onset else observation


def score(footage: Footage) -> np.ndarray:
    """Chance on nominal frames, whose brightness is always the same; far above it on others."""
    brightness = footage.frames.mean(axis=(1, 2, 3), dtype=np.float64)
    usual = ToyEnv().reset(seed=0)[0]["image"].mean(dtype=np.float64)
    return Chance().score(footage.frames) + 100 * np.abs(brightness - usual)


class ToyMonitor:
    """Watches brightness; `louder` is added to what it was calibrated on."""

    def __init__(self, louder: float = 0.0) -> None:
        self.louder = louder
        episodes = [{"brightness": score(one)} for one in nominal(range(10_000, 10_160))]
        config = MonitorConfig(alpha=ALPHA, alpha_gate=ALPHA, tail=0.1)
        self.calibration: Calibration = calibrate(episodes[:60], episodes[60:], config)

    def sequence_scores(self, footage: Footage) -> dict[str, np.ndarray]:
        return {"brightness": score(footage) + self.louder, "another": np.zeros(len(footage))}


def nominal(seeds: range) -> Iterator[Footage]:
    for seed in seeds:
        yield Twins(lambda *_: ToyEnv(), [seed], steps=STEPS).clean


@pytest.fixture(scope="module")
def monitor() -> ToyMonitor:
    return ToyMonitor()


FAULTED = {name: FAULTS[name] for name in ("dim", "late")}


@pytest.fixture(scope="module")
def found(monitor: ToyMonitor) -> dict[str, Any]:
    return battery(monitor, ToyLate, FAULTED, 0.02, CONFIG)


def test_a_fault_that_is_seen_is_caught_at_its_onset(found: dict[str, Any]) -> None:
    json.dumps(found, allow_nan=False)
    dim = found["cells"][0]
    assert (dim["fault"], dim["severity"]) == ("dim", 5)
    assert dim["alarm"]["delay"] == {"median": 0.0, "restricted_mean": 0.0}
    assert dim["alarm"]["tpr"]["value"] >= 0.8  # the rest alarmed falsely before the onset
    assert dim["alarm"]["false_alarms_an_episode"]["of"] == 30
    assert dim["gate"]["untrusted"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert dim["gate"]["delay"]["restricted_mean"] == 0.0


def test_a_fault_that_the_score_cannot_see_is_not(found: dict[str, Any]) -> None:
    late = found["cells"][1]
    assert late["alarm"]["tpr"]["value"] < 0.4
    assert late["alarm"]["delay"]["median"] is None
    assert late["gate"]["untrusted"]["value"] < 0.5


def test_false_alarms_are_as_rare_as_promised(found: dict[str, Any]) -> None:
    seen = found["nominal"]["random"]
    assert found["alpha"] == found["alpha_gate"] == ALPHA
    assert found["longest"] == STEPS + 1
    assert (seen["episodes"], seen["frames"]) == (60, 60 * (STEPS + 1))
    assert seen["false_alarms_an_episode"]["low"] <= ALPHA
    hours = seen["false_alarms_an_hour"]["hours"]
    assert hours <= 60 * (STEPS + 1) * 0.02 / 3600
    assert seen["untrusted"]["low"] <= seen["untrusted"]["value"] <= seen["untrusted"]["high"]
    assert nominal_rows(found)[0][""] == ""


def test_a_monitor_that_alarms_too_often_is_said_to_miss() -> None:
    config = replace(CONFIG, policies=("random",), nominal=20, faulted=2)
    loud = battery(ToyMonitor(louder=1.0), ToyLate, {}, 0.02, config)
    assert loud["nominal"]["random"]["false_alarms_an_episode"]["low"] > ALPHA
    assert nominal_rows(loud)[0][""] == "missed"


def test_all_seeds_are_of_no_split_and_twins_share_their_onset(monitor: ToyMonitor) -> None:
    seeds, onsets = [], []

    class Recorded(ToyLate):
        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            seeds.append(seed)
            onsets.append((self.fault, self.onset))
            return super().reset(seed=seed, options=options)

    told = []
    config = replace(CONFIG, nominal=8, faulted=6)
    battery(monitor, Recorded, FAULTED, 0.02, config, lambda *part: told.append(part))
    assert {split_of(seed) for seed in seeds} == {RESERVED}
    drawn = {fault: [onset for name, onset in onsets if name == fault] for fault in FAULTED}
    assert drawn["dim"] == drawn["late"]
    assert len(set(drawn["dim"])) > 1
    assert all(1 <= onset <= STEPS for onset in drawn["dim"])
    assert told == [(0, 4, "random"), (1, 4, "bang"), (2, 4, "dim 5"), (3, 4, "late 5")]


def test_episodes_watched_together_are_watched_each_for_itself(monitor: ToyMonitor) -> None:
    footage = Twins(lambda *_: ToyLate("dim", 5, 6), range(50_000, 50_004), steps=STEPS).clean
    values = monitor.sequence_scores(footage)["brightness"].reshape(4, -1)
    for trace, row in zip(watch(monitor, footage), values, strict=True):
        verdicts = Monitor(monitor.calibration).watch({"brightness": row})
        assert trace.distrusted.tolist() == [not verdict.trusted for verdict in verdicts]
        alarms = [step for step, verdict in enumerate(verdicts) if verdict.alarm]
        assert trace.alarm == (alarms[0] if alarms else None)


def test_what_was_watched_is_read_back_while_all_is_the_same(monitor: ToyMonitor, tmp_path: Path) -> None:
    config = replace(CONFIG, policies=("random",), nominal=8, faulted=4)
    played: list[int | None] = []

    class Counted(ToyLate):
        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            played.append(seed)
            return super().reset(seed=seed, options=options)

    def go(one: ToyMonitor, config: BatteryConfig = config) -> dict[str, Any]:
        played.clear()
        found = battery(one, Counted, FAULTED, 0.02, config, cache=tmp_path)
        return {name: found[name] for name in ("nominal", "cells")}

    fresh = battery(monitor, ToyLate, FAULTED, 0.02, config)
    first = go(monitor)
    assert first == {name: fresh[name] for name in first}
    assert len(played) == 8 + 2 * 4
    assert go(monitor) == first
    assert len(played) == 3  # one episode of each part tells whether it is the same
    go(monitor, replace(config, nominal=9))
    assert len(played) == 9 + 2
    go(ToyMonitor(louder=0.5))
    assert len(played) == 8 + 2 * 4
    next(tmp_path.iterdir()).unlink()
    go(monitor)
    assert 3 <= len(played) <= 10  # a part that is missing is watched again


def test_an_episode_that_ends_before_its_onset_is_a_clean_one() -> None:
    trace = Trace(2, np.zeros(5, bool))
    assert trace.watched(5).onset is None
    assert trace.watched(4).onset == 4


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"nominal": 1}, "nominal: expected at least 2, received 1"),
        ({"policies": ()}, "received 0 policies"),
        ({"faulted": 700}, "expected a policy and faulted <= nominal"),
        ({"first_seed": 40_000}, r"seeds of no split \(50000 to 99999\), received 40000"),
        ({"first_seed": 99_000}, "received 99000 to"),
    ],
)
def test_battery_configs_are_checked(change: dict[str, Any], said: str) -> None:
    with pytest.raises(JudgeError, match=said):
        BatteryConfig(**change)


def test_episodes_too_short_for_an_onset_are_refused(monitor: ToyMonitor) -> None:
    with pytest.raises(JudgeError, match="at least 4 frames, received 3"):
        battery(monitor, ToyLate, FAULTED, 0.02, replace(CONFIG, steps=2))


# ---- sanity and cost


def test_pictures_that_say_nothing_and_one_that_does(monitor: ToyMonitor) -> None:
    def silent(frames: np.ndarray) -> Belief:
        usual = np.isclose(frames.mean(axis=(1, 2, 3)), ToyEnv().reset(seed=0)[0]["image"].mean())
        mu = np.where(usual[:, None], 3.0, 0.0) * np.ones((len(frames), 2))
        return Belief(mu, np.where(usual[:, None], 0.1, 1.0) * np.ones_like(mu))

    rng = np.random.default_rng(0)
    frames = Twins(lambda *_: ToyEnv(), [50_000], steps=5).clean.frames
    shown = {"nominal frames": frames, **made_up_pictures((16, 16, 3), 7, rng)}
    usual, noise, black = sanity(monitor, silent, shown)
    assert (noise["pictures"], black["pictures"]) == (7, 1)
    for row in (noise, black):
        assert (row["sigma"], row["information"]) == (1.0, 0.0)
        assert (row["alarmed"], row["untrusted"]) == (1.0, 1.0)
    assert usual["sigma"] == pytest.approx(0.1)
    assert usual["information"] > 4
    assert usual["untrusted"] < 0.7


def test_photographs_are_cut_to_the_frame() -> None:
    crops = photograph_crops((16, 24, 3), 5, np.random.default_rng(0))
    if crops is None:
        pytest.skip("no package with photographs is installed")
    assert crops.shape == (5, 16, 24, 3)
    assert crops.std(axis=(1, 2, 3)).min() > 5


def test_the_cost_of_watching_is_what_comes_on_top_of_encoding() -> None:
    footage = Twins(lambda *_: ToyEnv(), [50_000, 50_001], steps=20).clean
    calls: list[Any] = []

    def encode(frames: np.ndarray) -> None:
        assert frames.shape == (1, 16, 16, 3)
        time.sleep(0.002)

    def update(extra: float) -> SimpleNamespace:
        def go(frame: np.ndarray, action: Any = None) -> None:
            assert torch.get_num_threads() == 1
            calls.append(action)
            encode(frame[None])
            time.sleep(extra)

        return SimpleNamespace(reset=lambda: calls.append("reset"), update=go)

    dear = watching_cost(encode, update(0.004), footage, frames=25)
    assert dear["share"] == pytest.approx(2.0, rel=0.5)
    assert dear["update_ms"]["p50"] > dear["encode_ms"]["p50"] > 1.9
    assert calls[:2] == ["reset", None]
    np.testing.assert_array_equal(calls[2], footage.action[0])
    assert [call for call in calls if isinstance(call, str)] == ["reset", "reset"]
    assert watching_cost(encode, update(0.0), footage, frames=25)["share"] < 0.5
    assert watching_cost(encode, update(0.0), footage, frames=33)["frames"] == 33  # round again: there are 42


# ---- targets


def test_targets_say_what_they_miss() -> None:
    both = Target("x", 0.98, 0.85, 0.97)
    assert (both.wanted, both.missed, both.facts()[""]) == ("0.85 to 0.97", True, "missed")
    assert not Target("x", 0.97, 0.85, 0.97).missed
    assert Target("x", 0.7, 0.75, note="defocus").facts()[""] == "missed defocus"
    assert Target("x", 0.2).facts() == {"target": "x", "wanted": "", "reached": 0.2, "": ""}
    assert Target("x", None, 0.5).facts()[""] == "not measured"
    assert not Target("x", None, 0.5).missed


def cell_row(fault: str, share: float) -> dict[str, Any]:
    """A cell of TEST whose sigma ranks perfectly, which no true one does; by frame it is upside down."""
    coverage = {name: {"value": share} for name in ("50", "68", "90", "95")}
    facts = {"coverage": coverage, "nll": {"value": 0.0}, "rms_error": {"value": 0.0}}
    sigma = np.linspace(1.0, 2.0, 50)
    frames = np.column_stack([sigma[::-1], np.repeat(sigma[:, None], 10, axis=1)])
    pairs = np.column_stack([sigma, sigma])
    one = {**facts, "sigma_ratio": 1.0, "pairs": pairs.tolist(), "by_frame": frames.tolist()}
    return {"fault": fault, "kind": "sensor", "split": "TEST", "truth": {"total": one, "raw": one}}


def test_the_fault_that_is_covered_least_is_named() -> None:
    rows = [cell_row("a", 0.9), cell_row("a", 0.5), cell_row("b", 0.8), cell_row("b", 0.8)]
    assert least_covered(rows) == ("a", pytest.approx(0.7))
    assert least_covered([]) == ("", None)


def judgement(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What targets need of what `judge` returns."""
    summary = {"means": {}, "harm": {"log_sigma": None}}
    return {"cells": rows, "config": {"seed": 0}, "summary": summary, "widening": {"test": 1.1}}


def test_rank_correlations_stand_beside_their_ceilings() -> None:
    found = targets(judgement([cell_row("a", 0.9)]))
    assert len(found) == len(BRIEFLY)
    rank, ceiling, frames, frames_ceiling = found[-4:]
    assert rank.reached == pytest.approx(1.0)
    assert (rank.least, rank.note) == (0.7, f"(ceiling {ceiling.reached:.3f})")
    assert frames.reached == pytest.approx(-1.0)
    assert 0.1 < ceiling.reached < frames_ceiling.reached < 1.0  # ten latents a frame average their chance
    assert not any(one.wanted or one.missed for one in (ceiling, frames, frames_ceiling))
    (row,) = sigma_rows([cell_row("a", 0.9)], seed=0)
    shown = [row[name] for name in ("Spearman", "ceiling", "by frame", "its ceiling")]
    assert shown == [one.reached for one in found[-4:]]


def test_targets_without_a_cell_of_test_are_not_measured() -> None:
    found = dict(zip(BRIEFLY, targets(judgement([])), strict=True))
    assert found.pop("widening").reached == 1.1  # of nominal frames
    assert all(one.facts()[""].startswith("not measured") for one in found.values())


@pytest.mark.parametrize(("test", "rare", "missed"), [(1.25, 2.0, ()), (1.3, 2.1, ("widening", "on rare"))])
def test_sigma_of_nominal_frames_may_not_be_inflated(test: float, rare: float, missed: tuple[str]) -> None:
    found = targets(judgement([]) | {"widening": {"test": test, "rare": rare}})
    named = dict(zip(BRIEFLY, found, strict=True))
    assert tuple(name for name, one in named.items() if one.missed) == missed


def test_a_belief_that_tells_nothing_has_nothing_to_lose() -> None:
    class Blind:
        def lost(self, *args: Any) -> float:
            raise UnreadableError("nothing")

    one = Subject([Functions({"chance": Chance().score})], ToySees(), ToySees(), Blind())
    config = JudgeConfig(episodes=2, steps=3, severities=(5,), faults=("dim",), draws=5)
    harm = judge(one, Ground(ground().test), make_env, FAULTS, config)["cells"][0]["harm"]
    assert harm["loss"] is harm["class"] is None
    assert harm["rms_error"] > 0


# ---- runs of one task over their seeds


def told(run: str, env_id: str, reached: float | None, alarms: dict[str, int], **more: Any) -> dict[str, Any]:
    """What `by_task` needs of a run of the benchmark, with 500 nominal episodes a policy."""
    rows = [Target(name, reached, 0.7).facts() for name in BRIEFLY]
    nominal = {policy: {"false_alarms_an_episode": rate(count, 500)} for policy, count in alarms.items()}
    battery = {"alpha": more.pop("alpha", 0.01), "nominal": nominal}
    spec = more.pop("spec", {"width": 64})
    return {"run": run, "env_id": env_id, "render_spec": spec, "judge": {"targets": rows}, "battery": battery}


def test_runs_are_told_together_if_environment_and_camera_are_the_same() -> None:
    few = {"random": 5}
    runs = [
        told("a-0", "A", 0.5, few),
        told("b-0", "B", 0.1, few),
        told("a-1", "A", 0.9, few, spec={"width": 64}),
        told("a-small", "A", 0.9, few, spec={"width": 32}),
        told("a-2", "A", 0.7, few),
    ]
    tasks = by_task(runs)
    assert [one["runs"] for one in tasks] == [["a-0", "a-1", "a-2"], ["b-0"], ["a-small"]]
    assert [one["seeds"] for one in tasks] == [3, 1, 1]
    assert [row["target"] for row in tasks[0]["figures"]] == list(BRIEFLY)
    for row in tasks[0]["figures"]:
        assert (row["low"], row["mean"], row["high"], row["of"]) == (0.5, pytest.approx(0.7), 0.9, 3)
        assert row["wanted"] == ">= 0.7"
    json.dumps(tasks, allow_nan=False)
    assert by_task([]) == []


def test_figures_that_were_not_measured_do_not_count() -> None:
    runs = [told("0", "A", None, {"random": 0}), told("1", "A", 0.8, {"random": 0})]
    (both,), (none,) = by_task(runs), by_task(runs[:1])
    assert [(row["mean"], row["of"]) for row in both["figures"]] == [(0.8, 1)] * len(BRIEFLY)
    assert [(row["mean"], row["low"], row["of"]) for row in none["figures"]] == [(None, None, 0)] * len(
        BRIEFLY
    )
    assert {row["A (0)"] for row in figure_rows([none])} == {""}
    assert {row["A (0, 1)"] for row in figure_rows([both])} == {"0.800"}  # one run has no range
    assert figure_rows([]) == []


def test_false_alarms_are_counted_over_the_episodes_of_all_seeds() -> None:
    counts = [{"random": 3, "zero": 0, "bang": 51}, {"random": 7, "zero": 1, "bang": 23}]
    (task,) = by_task([told(str(seed), "A", 0.8, count) for seed, count in enumerate(counts)])
    random, zero, bang = task["false_alarms"]
    assert [(row["alarms"], row["episodes"]) for row in (random, zero, bang)] == [
        (10, 1000), (1, 1000), (74, 1000),
    ]  # fmt: skip
    assert [random["low"], random["high"]] == binomial_interval(10, 1000)
    assert random["value"] == 0.01
    assert [row["seen"] for row in (random, zero, bang)] == [True, False, False]
    assert [row["alpha_lies"] for row in (random, zero, bang)] == ["within", "above", "below"]
    assert [row[""] for row in alarm_rows(task)] == ["", "", ""]  # bang was not promised anything


def test_seeds_that_together_alarm_too_often_miss_though_none_does_alone() -> None:
    runs = [told(str(seed), "A", 0.8, {"random": 9}) for seed in range(4)]
    assert [alarm_rows(by_task([one])[0])[0]["alpha lies"] for one in runs] == ["within"] * 4
    (row,) = alarm_rows(by_task(runs)[0])
    assert (row["alarms"], row["alpha lies"], row[""]) == (36, "below", "missed")


def test_rates_that_were_promised_differently_are_not_pooled() -> None:
    runs = [told(str(alpha), "A", 0.8, {"random": 5}, alpha=alpha) for alpha in (0.01, 0.05)]
    (task,) = by_task(runs)
    assert [(row["alpha"], row["episodes"]) for row in task["false_alarms"]] == [(0.01, 500), (0.05, 500)]


ENVS = ("Reacher-v5", "InvertedPendulum-v5")


def test_the_tables_by_task_fit_a_pipe() -> None:
    counts = {"random": 3, "zero": 0, "bang": 51}
    runs = [
        told(f"{env_id}-{seed}", env_id, 0.8 + 0.0312 * seed, counts) for env_id in ENVS for seed in range(3)
    ]
    console = Console(width=WIDE, file=io.StringIO())
    with console.capture() as said:
        for item in task_tables(by_task(runs)):
            console.print(item, soft_wrap=isinstance(item, str), markup=False)
    lines = said.get().splitlines()
    headings = [f"{name} ({', '.join(f'{name}-{seed}' for seed in range(3))})" for name in ENVS]
    assert lines[2].split() == ["target", "wanted", *" ".join(headings).split()]
    assert lines[3].split() == ["AUROC", ">=", "0.7", *["0.831", "(0.800", "to", "0.862)"] * 2]
    assert len(lines) == 2 * 3 + len(BRIEFLY) + 2 * 3  # no row is folded
    assert task_tables([]) == []


# ---- the command and the benchmark, on a tiny run without GL


MONITOR = MonitorConfig(alpha=0.2, alpha_gate=0.2, tail=0.2)
TINY = Scale(JudgeConfig.tiny(), 4, 6, 200, ProbeConfig(steps=200, batch=64, hidden=32))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("toy") / "data"
    for first, count in ((0, 12), (10_000, 8), (20_000, 4), (30_000, 4)):
        for seed in range(first, first + count):
            write_episode(path, rollout(seed))
    return path


@pytest.fixture(scope="module")
def calibrated(data: Path) -> Path:
    run = write_run(data.parent / "run", 0)
    calibrate_run(run, data, replace(CalibrateConfig.tiny(), monitor=MONITOR))
    return run


def write_run(run: Path, seed: int) -> Path:
    frames = np.concatenate([rollout(seed).image for seed in range(4)])
    return write_model(run, RunFacts((16, 16, 3), 2, "Toy-v0", {}), frames, seed)


def write_model(run: Path, facts: RunFacts, frames: np.ndarray, seed: int = 0) -> Path:
    """An untrained model, whose mu are stretched until they tell frames apart."""
    torch.manual_seed(seed)
    model = build_model(ModelConfig.tiny(), facts)
    last, latents = model.vae.global_encoder.body[-1], model.vae.config.latent_dim
    with torch.no_grad():
        mu = torch.from_numpy(Perceiver(model)(frames).mu)
        last.weight[:latents] /= mu.std(0)[:, None]
        last.bias[:latents] = (last.bias[:latents] - mu.mean(0)) / mu.std(0)
    save_model(run, model)
    return run


@pytest.fixture
def toy_envs(monkeypatch: pytest.MonkeyPatch) -> None:
    faults = {name: FAULTS[name] for name in ("dim", "salt", "late")}
    monkeypatch.setattr(robovae_envs.faults, "FAULTS", faults)
    monkeypatch.setattr(robovae_envs.camera, "is_mujoco", lambda env: True)
    monkeypatch.setattr(Trial, "make_env", lambda self, *how: ToyLate(*(how or (None, 0, 0))))
    monkeypatch.setattr(Trial, "cells", lambda self, steps: partial(ToyLate, onset=0))
    monkeypatch.setattr(Trial, "step_seconds", 0.02)
    monkeypatch.setattr(trial.Scale, "quick", classmethod(lambda cls: TINY))


@pytest.mark.usefixtures("toy_envs")
def test_evaluate_judges_and_goes_on(
    calibrated: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", str(calibrated), "--data", str(data), "--out", str(tmp_path)]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["fault"] for row in found["headline"]] == ["dim", "salt"]
    assert {row["score"] for row in found["timing"]} == {"innovation", "stillness", "monitor"}
    scores = {row["score"] for row in found["scores"]}
    assert {
        "monitor",
        "innovation",
        "stillness",
        "raw_sigma",
        "elbo",
        "knn_mu",
        "chance",
        "log_sigma",
    } <= scores
    assert found["controls"][0] == {"control": "severity 0", "AUROC": 0.5, "": "of 3 faults"}
    assert all(row["ms"] > 0 for row in found["scores"])
    assert not scores & {row["baseline"] for row in found["skipped"]}
    whole = json.loads((tmp_path / "judge.json").read_text())
    assert len(whole["cells"]) == 6
    assert (tmp_path / "judge.csv").read_text().startswith("fault,severity,kind")
    cells = {path: path.stat().st_mtime_ns for path in (calibrated / "judge" / "cells").iterdir()}
    assert main([*words, "--faults", "dim"]) == 0
    shown = capsys.readouterr().out
    assert "quick: the intervals are wide" in shown
    assert "mean AUROC, severities 3 to 5" in shown
    assert "timing faults" not in shown
    assert "needs further runs of the same task: --ensemble RUN" in shown
    assert cells == {path: path.stat().st_mtime_ns for path in (calibrated / "judge" / "cells").iterdir()}


@pytest.mark.usefixtures("toy_envs")
def test_evaluate_watches_the_monitor_too_and_leaves_out_what_the_environment_cannot_show(
    calibrated: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(robovae_envs.camera, "is_mujoco", lambda env: False)
    assert main(["evaluate", str(calibrated), "--data", str(data), "--out", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["fault"] for row in found["headline"]] == ["salt"]
    whole = json.loads((tmp_path / "judge.json").read_text())
    assert set(whole["battery"]["nominal"]) == {"random", "zero", "bang"}
    assert {row["fault"] for row in whole["battery"]["cells"]} <= {"salt", "late"}
    shown = condense(whole)
    assert [row["policy"] for row in shown["false_alarms"]] == ["random", "zero", "bang"]
    assert shown["sanity"][0]["picture"] == "nominal frames"


def test_what_can_be_mended_is_one_line(
    calibrated: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(write_run(tmp_path / "raw", 0)), "--data", str(data)]) == 2
    assert "expected a calibrated run" in capsys.readouterr().err
    write_episode(tmp_path / "other", rollout(0, env_id="Other-v0"))
    assert main(["evaluate", str(calibrated), "--data", str(tmp_path / "other")]) == 2
    assert "expected the environment of" in capsys.readouterr().err
    assert main(["evaluate", str(calibrated), "--data", str(data), "--faults", "dimm"]) == 2
    assert "no fault 'dimm'" in capsys.readouterr().err


@pytest.mark.usefixtures("toy_envs")
def test_further_runs_of_the_task_are_an_ensemble(
    calibrated: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", str(calibrated), "--data", str(data), "--out", str(tmp_path), "--faults", "dim"]
    for seed in (1, 2):
        words += ["--ensemble", str(write_run(tmp_path / f"run-{seed}", seed))]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    ensemble = {"ensemble_reconstruction", "ensemble_decoded", "ensemble_waic"}
    assert ensemble <= {row["score"] for row in found["scores"]}
    assert not ensemble & {row["baseline"] for row in found["skipped"]}


def test_runs_of_another_task_are_no_ensemble(
    calibrated: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = np.zeros((4, 16, 16, 3), np.uint8)
    other = {
        "environment": RunFacts((16, 16, 3), 2, "Other-v0", {}),
        "camera": RunFacts((16, 16, 3), 2, "Toy-v0", {"size": 16}),
        "frame shape": RunFacts((32, 32, 3), 2, "Toy-v0", {}),
    }
    for name, facts in other.items():
        run, shown = tmp_path / name, np.resize(frames, (4, *facts.frame_shape))
        write_model(run, facts, shown + np.arange(4, dtype=np.uint8)[:, None, None, None])
        assert main(["evaluate", str(calibrated), "--data", str(data), "--ensemble", str(run)]) == 2
        assert f"expected the {name} of the ensemble's first run" in capsys.readouterr().err
    for same in (calibrated, write_run(tmp_path / "same", 0)):
        assert main(["evaluate", str(calibrated), "--data", str(data), "--ensemble", str(same)]) == 2
        assert "expected a model that was trained apart" in capsys.readouterr().err
    assert main(["evaluate", str(calibrated), "--data", str(data), "--ensemble", str(tmp_path / "no")]) == 2
    assert str(tmp_path / "no") in capsys.readouterr().err


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, toy_envs: None) -> ModuleType:
    spec = importlib.util.spec_from_file_location("uncertainty", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "uncertainty", module)
    spec.loader.exec_module(module)
    quick = BatteryConfig(nominal=6, policies=("random", "zero"), faulted=2, severities=(5,), steps=8)
    few = JudgeConfig(episodes=2, steps=2, severities=(5,), draws=10)
    monkeypatch.setattr(module, "QUICK", module.Effort(TINY, quick, few, 1))
    monkeypatch.setattr(module, "watching_cost", lambda *args: watching_cost(*args, frames=10))
    return module


def test_the_benchmark_measures_once_and_again_when_a_run_changes(
    bench: ModuleType, calibrated: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "found.json"
    options = bench.Uncertainty(runs=(calibrated,), data=(data,), out=out)
    bench.main(options)
    shown = capsys.readouterr().out
    for title in (
        "targets",
        "negative controls",
        "false alarms",
        "gate:",
        "no robot frames",
        "baselines that",
        "by task over seeds",
    ):
        assert f"\n{title}" in shown
    found = json.loads(out.read_text())
    assert {"machine", "versions", "git", "quick"} <= found.keys()
    (task,) = found["tasks"]
    assert (task["env_id"], task["seeds"], len(task["figures"])) == ("Toy-v0", 1, len(BRIEFLY))
    assert [row["episodes"] for row in task["false_alarms"]] == [6, 6]
    one = found["runs"][0]
    assert [row["score"] for row in one["regret"]] == ["monitor", "likelihood_regret"]
    assert all(row["ms"] > 0 for row in one["regret"])
    assert one["ensemble"] == []
    assert [row["fault"] for row in one["battery"]["cells"]] == ["dim", "late"]  # TEST only
    assert "pairs" not in out.read_text()
    assert out.stat().st_size < 100_000
    parts = ("scores", "regret", "battery", "pictures and cost")
    bench.main(options)
    again = capsys.readouterr()
    assert all(f"{part}: skip" in again.err for part in parts)
    assert json.loads(out.read_text())["runs"] == found["runs"]
    (calibrated / "judge" / "benchmark-quick" / "regret.json").unlink()
    bench.main(options)
    gone = capsys.readouterr().err
    assert [part for part in parts if f"{part}: skip" not in gone] == ["regret"]
    config = replace(CalibrateConfig.tiny(), monitor=MONITOR, seed=1)
    calibrate_run(calibrated, data, config)
    bench.main(options)
    assert ": skip" not in capsys.readouterr().err


def test_three_runs_of_one_task_are_one_ensemble_and_two_are_none(bench: ModuleType) -> None:
    known = [("A", {}), ("A", {}), ("B", {}), ("A", {"size": 8}), ("A", {}), ("A", {})]
    runs = [Path(str(number)) for number in range(6)]
    tasks = {run: bench.task_of(*one) for run, one in zip(runs, known, strict=True)}
    assert bench.others_of(runs[0], tasks) == [runs[1], runs[4]]
    assert all(bench.others_of(run, tasks) == [] for run in runs[1:])


@pytest.mark.slow
def test_the_benchmark_makes_an_ensemble_of_three_runs_once(
    bench: ModuleType, calibrated: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judged, member = (write_run(tmp_path / f"run-{seed}", seed) for seed in (1, 2))
    calibrate_run(judged, data, replace(CalibrateConfig.tiny(), monitor=MONITOR))
    out = tmp_path / "found.json"
    bench.main(bench.Uncertainty(runs=(calibrated, judged), data=(data,), members=(member,), out=out))
    first, other = json.loads(out.read_text())["runs"]
    assert first["ensemble"] == ["run-1", "run-2"]
    assert "ensemble_waic" in {row["score"] for row in first["judge"]["scores"]}
    assert other["ensemble"] == []
    assert "ensemble_waic" in {row["baseline"] for row in other["judge"]["skipped"]}


def test_the_benchmark_refuses_a_member_of_a_task_that_is_not_judged(
    bench: ModuleType, calibrated: Path, data: Path, tmp_path: Path
) -> None:
    frames = np.concatenate([rollout(seed).image for seed in range(4)])
    stranger = write_model(tmp_path / "stranger", RunFacts((16, 16, 3), 2, "Other-v0", {}), frames)
    options = bench.Uncertainty(runs=(calibrated,), data=(data,), members=(stranger,), out=tmp_path / "out")
    with pytest.raises(RobovaeError, match=r"--members: expected runs of Toy-v0 with .*stranger of Other-v0"):
        bench.main(options)
    assert not (tmp_path / "out").exists()


def test_the_benchmark_wants_a_dataset_for_each_run(bench: ModuleType) -> None:
    with pytest.raises(RobovaeError, match="dataset of each of 3 runs, or one of all, received 2"):
        bench.Uncertainty(runs=(Path(),) * 3, data=(Path(),) * 2)


# ---- faults that set in late


def test_a_late_fault_draws_its_onset_from_the_seed() -> None:
    made: list[int] = []

    def fail(onset: int) -> gym.Env[Any, Any]:
        made.append(onset)
        return ToyLate("dim", 5, onset)

    env = LateFault(ToyEnv(), fail, latest=6)
    for seed in (*range(30), *range(30)):
        env.reset(seed=seed)
    assert made[:30] == made[30:]
    assert set(made) == set(range(1, 7))
    first = env.reset(seed=0)[0]["image"]
    seen = [first, *(env.step(np.zeros(2))[0]["image"] for _ in range(made[-1]))]
    assert [int(frame.max()) for frame in seen] == [230] * made[-1] + [57]


def test_faults_of_timing_set_in_before_the_judge_cuts_an_episode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trial, "_usual", 1001)
    monkeypatch.setattr(Trial, "_camera", lambda self: ToyEnv())
    onsets = []

    def fail(seen: gym.Env[Any, Any], fault: str, severity: int, *, onset: int) -> gym.Env[Any, Any]:
        onsets.append(onset)
        return seen

    monkeypatch.setattr(robovae_envs.faults, "Faulty", fail)
    env = Trial.cells(object.__new__(Trial), 50)("freeze", 3)
    for seed in range(40):
        env.reset(seed=seed)
    assert min(onsets) >= 1
    assert max(onsets) <= 25


def test_tables_without_rows_are_left_out() -> None:
    assert titled([], "nothing") == []
    kinds = ("targets", "headline", "timing", "sigma", "scores", "skipped", "controls")
    assert judge_tables(dict.fromkeys(kinds, ())) == []


@pytest.mark.gl
@pytest.mark.slow
def test_reacher_from_collecting_to_the_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = str(tmp_path / "data"), str(write_reacher(tmp_path))
    monkeypatch.setattr(trial.Scale, "quick", classmethod(lambda cls: TINY))
    capsys.readouterr()
    words = ["evaluate", run, "--data", data, "--json", "--faults", "exposure", "freeze", "occluder"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["fault"] for row in found["headline"]] == ["exposure", "occluder"]
    assert found["timing"][0]["fault"] == "freeze"
    assert Trial(Path(run), Path(data)).step_seconds == pytest.approx(0.02)
    assert FrameMonitor.load(run).calibration.longest == 13


def write_reacher(folder: Path) -> Path:
    """A calibrated run on a handful of short episodes."""
    for split, count in (("train", 8), ("calibrate", 8), ("test", 4), ("rare", 4)):
        words = ["--split", split, "--episodes", str(count), "--max-steps", "12", "--workers", "1"]
        assert main(["collect", "Reacher-v5", "--size", "32", "--out", str(folder / "data"), *words]) == 0
    train = EpisodeStore(folder / "data").split("train")
    facts = RunFacts(train.frame_shape, 2, train.env_id, train.render_spec)
    run = write_model(folder / "run", facts, train.frames(np.arange(train.num_frames)))
    calibrate_run(run, folder / "data", replace(CalibrateConfig.tiny(), monitor=MONITOR))
    return run
