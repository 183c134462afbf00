"""The judge of the closed loop, on toys whose answer is known; every check also has a case that fails it."""

import csv
import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robovae.closed_loop import (
    CLEAN,
    PERSISTENT,
    ClosedLoopError,
    Condition,
    Crew,
    Guarded,
    Ledger,
    LoopConfig,
    Random,
    Reflex,
    Still,
    crew,
    judge_loop,
    play,
    to_csv,
)
from robovae.closed_loop.arms import Arm, constant_sigma
from robovae.closed_loop.book import Book
from robovae.closed_loop.condition import conditions, controls, spans
from robovae.closed_loop.crew import Job
from robovae.closed_loop.scores import Yardstick, higher, iqm, less, mean, worst
from robovae.closed_loop.summary import alarms, figures
from robovae.closed_loop.video import record, side_by_side
from robovae.judge import JudgeError
from robovae.judge.exact import binomial_interval
from robovae.uncertainty import NotCalibratedError
from tests.toy_env import ToyEnv

STEPS = 20
CONFIG = replace(LoopConfig.tiny(), episodes=4, steps=STEPS, faults=("dark",))


class Facts(NamedTuple):
    kind: str
    split: str


FAULTS = {"dark": Facts("sensor", "TEST"), "dim": Facts("rendered", "DEV"), "late": Facts("timing", "TEST")}


# ---- a toy whose camera goes dark, and who acts in it


class ToyFaulty(gym.Wrapper[Any, Any, Any, Any]):
    """The toy, whose frames are black in some windows; `leak` is what severity 0 adds to the reward."""

    def __init__(self, fault: str | None, severity: int, windows: Any, leak: float = 0.0) -> None:
        super().__init__(ToyEnv(max_steps=STEPS))
        self.fault, self.severity, self.windows, self.leak = fault, severity, windows, leak

    def reset(self, **kwargs: Any) -> Any:
        self.count = 0
        return self._see(*self.env.reset(**kwargs))

    def step(self, action: Any) -> Any:
        self.count += 1
        observation, reward, *ends, info = self.env.step(action)
        observation, info = self._see(observation, info)
        return observation, reward + (self.leak if self.fault else 0.0), *ends, info

    def _see(self, observation: Any, info: Any) -> Any:
        active = any(first <= self.count < first + steps for first, steps in self.windows)
        dark = active and self.severity > 0
        image = np.zeros_like(observation["image"]) if dark else observation["image"]
        return {**observation, "image": image}, {**info, "fault": active}


def make_env(fault: str | None, severity: int, windows: Any, leak: float = 0.0) -> Any:
    return ToyFaulty(fault, severity, windows, leak)


class ToPlace:
    """Pushes the square to the centre as far as it sees it; in the dark it runs away."""

    def __init__(self) -> None:
        self.last = np.zeros(2)

    def reset(self) -> None:
        self.last = np.zeros(2)

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        if not frame.any():
            return np.ones(2, np.float32)
        place = np.argwhere(frame[..., 0] > 100).mean(axis=0) / 7.5 - 1
        push = -place - 3 * (place - self.last)
        self.last = place
        return np.clip(push, -1, 1).astype(np.float32)


class ToyGuard:
    """Rests while it is dark, and alarms after two such frames."""

    def __init__(self) -> None:
        self.policy, self.mode, self.dark = ToPlace(), "policy", 0

    def reset(self) -> None:
        self.policy.reset()
        self.mode, self.dark = "policy", 0

    def act(self, frame: np.ndarray, trusted: bool | None = None) -> Any:
        trusted = bool(frame.any()) if trusted is None else trusted
        self.mode = "policy" if trusted else "fallback"
        self.dark = 0 if trusted else self.dark + 1
        return self.policy(frame) if trusted else np.zeros(2, np.float32), SimpleNamespace(
            alarm=self.dark > 1
        )


SPACE = ToyEnv().action_space
MAKERS: Mapping[str, Any] = {
    "nominal": lambda: Reflex(ToPlace()),
    "guard": lambda: Guarded(ToyGuard()),
    "oracle": lambda: Guarded(ToyGuard(), oracle=True),
    "state": lambda: Reflex(
        Stateless(lambda state: np.clip(-state[:2] - 3 * state[2:], -1, 1)), lambda o: o["state"]
    ),
    "zero": lambda: Still(SPACE),
    "random": lambda: Random(SPACE),
    "fallback": lambda: Still(SPACE, "fallback"),
}


class Stateless:
    def __init__(self, act: Any) -> None:
        self.act = act

    def reset(self) -> None:
        pass

    def __call__(self, seen: Any) -> Any:
        return self.act(seen)


def make_arms(names: tuple[str, ...] = tuple(MAKERS)) -> dict[str, Arm]:
    return {name: MAKERS[name]() for name in names}


def known(names: tuple[str, ...] = tuple(MAKERS)) -> dict[str, Any]:
    return {name: {"toy": 1} for name in names}


CREW = Crew(make_arms, make_env)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    ledger = Ledger(tmp_path_factory.mktemp("loop") / "episodes.jsonl")
    return judge_loop(CREW, known(), FAULTS, CONFIG, ledger)


def of(rows: list[dict[str, Any]], **wanted: Any) -> dict[str, Any]:
    (row,) = [row for row in rows if all(row[name] == value for name, value in wanted.items())]
    return row


# ---- scores


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30), st.floats(0.1, 9), st.floats(-9, 9))
def test_scores_lie_within_and_move_along(values: list[float], scale: float, shift: float) -> None:
    array = np.array(values)
    assert worst(array) <= mean(array) + 1e-9
    for statistic in (iqm, mean, worst):
        assert array.min() - 1e-9 <= statistic(array) <= array.max() + 1e-9
        assert statistic(scale * array + shift) == pytest.approx(scale * statistic(array) + shift, abs=1e-6)


def test_closed_forms_of_the_scores() -> None:
    values = np.array([100.0, 2.0, 3.0, -50.0, 4.0, 5.0, 1000.0, -7.0])
    assert iqm(values) == (2 + 3 + 4 + 5) / 4
    assert worst(values) == -50
    assert worst(np.arange(20.0)) == 0.5
    assert np.array_equal(iqm(np.stack([values, -values])), [3.5, -3.5])


def test_the_yardstick_is_0_at_zero_action_and_1_at_the_reference() -> None:
    rng = np.random.default_rng(0)
    zero, one = rng.normal(-12, 3, (1, 40)), rng.normal(-4, 1, (1, 40))
    yardstick = Yardstick.of(zero, one, draws=400, seed=0)
    assert yardstick.score(zero, mean).value == pytest.approx(0)
    assert yardstick.score(one, mean).value == pytest.approx(1)
    low, high = yardstick.score(one).interval()
    assert low < yardstick.score(one).value < high
    own = yardstick.kept(one, one)
    assert own is not None
    assert own.facts() == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert yardstick.kept(one, zero - 5) is None
    short = less(yardstick.score(zero, mean), yardstick.score(one, mean))
    assert short.value == pytest.approx(-1)
    assert short.interval()[1] < 0
    assert higher(yardstick.score(zero, mean), yardstick.score(one, mean)).value == pytest.approx(1)


def test_comparisons_are_paired_by_seed() -> None:
    """What seeds differ by falls out of a share, but not out of a score."""
    rng = np.random.default_rng(1)
    clean = rng.normal(-5, 2, (1, 60))
    yardstick = Yardstick.of(clean - 10, clean + 1, draws=400, seed=0)
    kept = yardstick.kept(np.repeat(clean - 0.5, 3, axis=0), clean, mean)
    assert kept is not None
    low, high = kept.interval()
    own = yardstick.score(clean, mean).interval()
    assert high - low < 0.2 * (own[1] - own[0])


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    rng, held = np.random.default_rng(2), 0
    for _ in range(100):
        returns = rng.normal(-4, 1, (3, 30))
        low, high = Yardstick(-12, -4, rng.integers(0, 30, (200, 30))).score(returns).interval()
        held += low <= 1 <= high
    assert 85 <= held <= 100


def test_a_reference_that_is_no_better_than_nothing_is_refused() -> None:
    with pytest.raises(ClosedLoopError, match=r"returns more than zero action \(1\), received 1; train"):
        Yardstick.of(np.ones(3), np.ones(3), draws=2, seed=0)


# ---- conditions


@given(st.lists(st.booleans(), max_size=40))
def test_spans_are_the_runs_of_flags(flags: list[bool]) -> None:
    again = np.zeros(len(flags), bool)
    for first, steps in spans(flags):
        assert not again[max(first - 1, 0) : first + steps + 1].any()
        again[first : first + steps] = True
    assert again.tolist() == flags


def test_windows_are_of_seed_and_share_alone() -> None:
    dark, dim = Condition("dark", 5, "sensor", "TEST", 0.25), Condition("dim", 1, "rendered", "DEV", 0.25)
    assert dark.windows(40_000, 200, 20) == dim.windows(40_000, 200, 20)
    assert dark.windows(40_000, 200, 20) != dark.windows(40_001, 200, 20)
    assert dark.windows(40_000, 200, 20) != replace(dark, share=0.5).windows(40_000, 200, 20)
    assert CLEAN.windows(40_000, 200, 20) == ()


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_bursts_cover_their_share(share: float) -> None:
    one = Condition("dark", 5, "sensor", "TEST", share)
    windows = [one.windows(seed, 200, 20) for seed in range(200)]
    assert np.mean([sum(steps for _, steps in some) / 200 for some in windows]) == pytest.approx(
        share, abs=0.03
    )
    assert max(steps for some in windows for _, steps in some) <= 20
    assert min(first for some in windows for first, _ in some) >= 1


def test_a_fault_that_stays_comes_in_the_first_half_and_stays() -> None:
    one = Condition("dark", 5, "sensor", "TEST", PERSISTENT)
    windows = [one.windows(seed, 50, 20) for seed in range(200)]
    assert {len(some) for some in windows} == {1}
    assert {first + steps for ((first, steps),) in windows} == {51}
    assert {first for ((first, _),) in windows} == set(range(1, 26))


def test_the_plan_is_of_test_faults_unless_told() -> None:
    config = replace(CONFIG, faults=None)
    planned = conditions(FAULTS, config)
    assert [str(one) for one in planned] == [
        *("dark 5 bursts 25%", "late 5 bursts 25%", "dark 5 bursts 50%", "late 5 bursts 50%"),
        *("dark 5 to the end", "late 5 to the end"),
    ]
    assert [one.severity for one in controls(FAULTS, config)] == [0, 0]
    assert conditions(FAULTS, replace(config, faults=("dim",), persistent=False))[0].split == "DEV"
    with pytest.raises(JudgeError, match="no fault 'darl'; did you mean 'dark'"):
        conditions(FAULTS, replace(config, faults=("darl",)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"episodes": 1}, "episodes: expected at least 2, received 1"),
        ({"shares": (1.0,)}, r"shares: expected some between 0 and 1, received \(1.0,\)"),
        ({"severities": (0,)}, r"severities: expected some from 1 to 5, received \(0,\)"),
        ({"first_seed": 20_000}, r"fault split \(40000 to 49999\), received 20000 to 20002"),
    ],
)
def test_configs_are_checked(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ClosedLoopError, match=said):
        replace(LoopConfig.tiny(), **change)


# ---- one episode


def test_an_episode_tells_what_happened() -> None:
    env = make_env("dark", 5, ((4, 3), (10, 99)))
    seen: list[Any] = []
    played = play(env, Guarded(ToyGuard()), 40_000, 12, lambda *step: seen.append(step))
    assert (played.steps, played.faulted, played.fallback, played.coast) == (12, 5, 5, 0)
    assert (played.onset, played.alarm) == (4, 5)
    assert [flag for _, _, flag in seen] == [4 <= step < 7 or step >= 10 for step in range(12)]
    assert [mode for _, mode, _ in seen] == ["fallback" if flag else "policy" for _, _, flag in seen]
    assert not seen[4][0].any()
    assert play(env, Reflex(ToPlace()), 40_000, 99).steps == STEPS  # the environment ends it


def test_only_the_oracle_is_told_the_truth() -> None:
    """At severity 0 nothing is to be seen: only the truth says that the fault is there."""
    env = make_env("dark", 0, ((4, 3),))
    assert play(env, Guarded(ToyGuard()), 40_000, STEPS).fallback == 0
    assert play(env, Guarded(ToyGuard(), oracle=True), 40_000, STEPS).fallback == 3


def test_returns_that_are_no_number_are_refused() -> None:
    with pytest.raises(ClosedLoopError, match="finite rewards, received a return of nan at seed 40000"):
        play(make_env("dark", 5, (), leak=np.nan), Still(SPACE), 40_000, 3)


def test_random_actions_are_of_the_seed() -> None:
    def actions(seed: int) -> list[list[float]]:
        arm = Random(SPACE)
        arm.reset(seed)
        return [arm.act({}, False).tolist() for _ in range(3)]

    assert actions(1) == actions(1) != actions(2)


def test_a_constant_sigma_leaves_mu_alone() -> None:
    def perceive(frames: np.ndarray) -> Any:
        return SimpleNamespace(mu=np.full((1, 3), 2.0, np.float32), sigma=frames.std())

    belief = constant_sigma(perceive, np.array([0.1, 0.2, 0.3], np.float32))({"image": np.zeros((4, 4, 3))})
    assert belief.mu.tolist() == [[2, 2, 2]]
    assert belief.sigma == pytest.approx(np.array([[0.1, 0.2, 0.3]]))


# ---- the ledger and the book


def test_the_ledger_remembers_and_passes_over_what_is_broken(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "episodes.jsonl"
    ledger = Ledger(path)
    ledger.add([{"key": "a", "x": 1}, {"key": "b", "x": 2}])
    with path.open("a") as file:
        file.write('{"key": "c", "x"')  # the power failed
    again = Ledger(path)
    assert len(again) == 2
    assert "c" not in again
    again.add([{"key": "c", "x": 3}])
    assert Ledger(path)["c"] == {"key": "c", "x": 3}
    assert len(Ledger(path)) == 3
    with pytest.raises(ValueError, match="Out of range"):
        again.add([{"key": "d", "x": float("nan")}])


def test_the_key_holds_all_that_an_episode_follows_from(tmp_path: Path) -> None:
    ledger, dark = Ledger(tmp_path / "x"), Condition("dark", 5, "sensor", "TEST", 0.25)
    book = Book({"zero": 1, "random": 1, "guard": 2}, CONFIG, ledger)
    keys = {
        book.key("zero", CLEAN, 1),
        book.key("random", CLEAN, 1),  # of the same facts, and yet another arm
        book.key("zero", CLEAN, 2),
        book.key("zero", dark, 1),
        book.key("zero", replace(dark, severity=4), 1),
        Book({"zero": 2}, CONFIG, ledger).key("zero", CLEAN, 1),
        Book({"zero": 1}, replace(CONFIG, steps=9), ledger).key("zero", CLEAN, 1),
    }
    assert len(keys) == 7
    assert Book({"zero": 1}, replace(CONFIG, episodes=3), ledger).key("zero", CLEAN, 1) in keys


def test_what_was_played_is_not_played_again(tmp_path: Path) -> None:
    def busy() -> Any:
        raise AssertionError("nothing is left to play")

    path, told = tmp_path / "episodes.jsonl", []
    first = judge_loop(CREW, known(), FAULTS, CONFIG, Ledger(path), on_part=lambda *part: told.append(part))
    assert told[0] == (1, len(told), "clean")
    assert told[-1] == (len(told), len(told), "dark 5 to the end")
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-1]))  # interrupted before the last one
    left: list[Any] = []
    judge_loop(CREW, known(), FAULTS, CONFIG, Ledger(path), on_part=lambda *part: left.append(part))
    assert left == [(1, 1, "dark 5 to the end")]
    again = judge_loop(Crew(busy, make_env), known(), FAULTS, CONFIG, Ledger(path))
    assert again["pooled"] == first["pooled"]
    changed = {**known(), "guard": {"toy": 2}}
    with pytest.raises(AssertionError, match="nothing is left"):
        judge_loop(Crew(busy, make_env), changed, FAULTS, CONFIG, Ledger(path))
    arms = {job.arms for job in Book(changed, CONFIG, Ledger(path)).jobs(conditions(FAULTS, CONFIG))}
    assert arms == {("guard",)}


# ---- the verdict


def test_all_of_it_is_json_and_every_episode_a_line(found: dict[str, Any], tmp_path: Path) -> None:
    json.dumps(found, allow_nan=False)
    rows = list(csv.DictReader(to_csv(found, tmp_path / "x" / "episodes.csv").read_text().splitlines()))
    clean, bursts, stays = 4 * 7, 2 * 4 * 3, 4 * 2
    assert len(rows) == clean + bursts + stays
    assert {row["condition"] for row in rows} == {
        "clean",
        "dark 5 bursts 25%",
        "dark 5 bursts 50%",
        "dark 5 to the end",
    }
    assert {row["seed"] for row in rows} == {str(seed) for seed in CONFIG.seeds}


def test_a_table_that_cannot_be_written_leaves_the_old_one(
    found: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = to_csv(found, tmp_path / "episodes.csv")
    before = path.read_bytes()
    assert before.count(b"\r\n") == before.count(b"\n") > 1
    monkeypatch.setattr("csv.DictWriter.writerows", lambda *rows: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        to_csv(found, path)
    assert path.read_bytes() == before


def test_the_guard_keeps_what_the_dark_takes(found: dict[str, Any]) -> None:
    clean = {row["arm"]: row for row in found["clean"]}
    assert clean["state"]["mean"] == pytest.approx(1)
    assert clean["zero"]["mean"] == clean["fallback"]["mean"] == pytest.approx(0)
    assert clean["random"]["return"] != clean["zero"]["return"]
    assert clean["guard"]["interventions"] == 0
    assert clean["guard"]["score"] == clean["nominal"]["score"]
    assert clean["guard"]["kept"] == {"value": 1, "low": 1, "high": 1}
    assert clean["guard"]["kept_plain"]["value"] == 1
    for share in CONFIG.shares:
        row = {
            arm: of(found["pooled"], share=share, pool="TEST", arm=arm)
            for arm in ("guard", "nominal", "zero")
        }
        assert row["guard"]["kept"]["value"] > row["nominal"]["kept"]["value"]
        assert row["guard"]["fallback"] == pytest.approx(share, abs=0.2)
        assert row["nominal"]["interventions"] == 0
        assert row["zero"]["score"]["value"] == pytest.approx(clean["zero"]["score"]["value"])
    assert {row["pool"] for row in found["pooled"]} == {"TEST", "sensor"}
    oracle, guard = (of(found["bursts"], share=0.25, arm=arm) for arm in ("oracle", "guard"))
    assert oracle["score"] == guard["score"]  # its gate errs not once


def test_faults_that_stay(found: dict[str, Any]) -> None:
    (row,) = found["lasting"]
    assert row["harm"] > 0.2
    assert row["class"] == "harmful"
    assert row["alarms"]["value"] == 1
    assert row["shortfall"]["value"] == pytest.approx(max(row["nominal"], row["fallback"]) - row["guard"])
    assert "oracle" not in row


def test_severity_0_changes_nothing_and_where_it_does_it_is_told(
    found: dict[str, Any], tmp_path: Path
) -> None:
    assert found["controls"] == [
        {
            "fault": "dark",
            "severity": 0,
            "kind": "sensor",
            "split": "TEST",
            "share": 0.25,
            "episodes": 2,
            "changed": 0,
        }
    ]
    crew = Crew(make_arms, partial(make_env, leak=1e-9))
    leaks = judge_loop(crew, known(), FAULTS, CONFIG, Ledger(tmp_path / "x"))
    assert leaks["controls"][0]["changed"] == 2
    assert leaks["targets"][0]["reached"] == 2
    assert leaks["targets"][0][""] == "missed"


def test_targets_are_met_by_the_good_and_missed_by_the_bad(found: dict[str, Any], tmp_path: Path) -> None:
    names = [row["target"] for row in found["targets"]]
    assert names == [
        "returns that severity 0 changed",
        "guard keeps of its clean score, bursts 25%",
        "guard keeps of nominal's clean score, bursts 25%",
        "nominal keeps of its clean score, bursts 25%",
        "guard keeps of its clean score, bursts 50%",
        "guard keeps of nominal's clean score, bursts 50%",
        "nominal keeps of its clean score, bursts 50%",
        "clean mean score that guard loses against nominal",
        "clean steps at which guard intervenes",
        "worst shortfall of guard under a fault that stays",
        "alarms, harmful faults that stay",
    ]
    reached = {row["target"]: row for row in found["targets"]}
    assert reached["clean steps at which guard intervenes"]["reached"] == 0
    assert reached["alarms, harmful faults that stay"]["reached"] == 1
    assert "missed" not in reached["alarms, harmful faults that stay"][""]
    assert reached["nominal keeps of its clean score, bursts 25%"]["wanted"] == ""
    blind = {**MAKERS, "guard": lambda: Guarded(NoGuard())}
    crew = Crew(lambda: {name: make() for name, make in blind.items()}, make_env)
    bad = judge_loop(crew, known(), FAULTS, CONFIG, Ledger(tmp_path / "x"))
    verdicts = {row["target"]: row[""] for row in bad["targets"]}
    assert verdicts["guard keeps of its clean score, bursts 25%"].startswith("missed")
    assert verdicts["alarms, harmful faults that stay"].startswith("missed 1 faults and severities")
    assert not verdicts["clean steps at which guard intervenes"]


class NoGuard(ToyGuard):
    """Trusts whatever it sees."""

    def act(self, frame: np.ndarray, trusted: bool | None = None) -> Any:
        return super().act(frame, trusted=True)


def test_without_a_policy_on_the_state_the_unguarded_one_is_1(tmp_path: Path) -> None:
    names = ("nominal", "zero", "fallback")
    result = judge_loop(
        Crew(partial(make_arms, names), make_env), known(names), FAULTS, CONFIG, Ledger(tmp_path / "x")
    )
    assert result["reference"]["arm"] == "nominal"
    assert of(result["clean"], arm="nominal")["mean"] == pytest.approx(1)
    assert [row["target"] for row in result["targets"]] == ["returns that severity 0 changed"]
    assert "alarms" not in result["lasting"][0]


def test_what_is_kept_is_told_of_the_unguarded_policy_whichever_it_is(tmp_path: Path) -> None:
    makers = {"filter": MAKERS["nominal"], "both": lambda: Guarded(Timid())}
    makers |= {name: MAKERS[name] for name in ("zero", "fallback")}
    crew = Crew(lambda: {name: make() for name, make in makers.items()}, make_env)
    result = judge_loop(crew, known(tuple(makers)), FAULTS, CONFIG, Ledger(tmp_path / "x"))
    whole = of(result["clean"], arm="filter")["score"]["value"]
    row = of(result["pooled"], share=0.25, pool="TEST", arm="both")
    assert row["kept_plain"]["value"] == pytest.approx(row["score"]["value"] / whole)
    assert row["kept_plain"]["value"] < row["kept"]["value"] - 0.1


class Timid(ToyGuard):
    """Is afraid on clean frames too."""

    def act(self, frame: np.ndarray, trusted: bool | None = None) -> Any:
        action, verdict = super().act(frame, trusted)
        return 0.3 * action, verdict


def test_arms_without_which_nothing_can_be_said(tmp_path: Path) -> None:
    with pytest.raises(ClosedLoopError, match="zero, fallback, and nominal or filter, received zero, state"):
        judge_loop(CREW, known(("zero", "state")), FAULTS, CONFIG, Ledger(tmp_path / "x"))


def test_alarms_before_the_onset_count_for_nothing(tmp_path: Path) -> None:
    stays = Condition("dark", 5, "sensor", "TEST", PERSISTENT)
    ledger = Ledger(tmp_path / "x")
    book = Book(known(), CONFIG, ledger)
    times = [(5, 5), (5, None), (5, 3), (None, 2)]  # caught, missed, false, ended before the fault
    ledger.add(
        [
            {"key": book.key("guard", stays, seed), "seed": seed, "onset": onset, "alarm": alarm}
            for seed, (onset, alarm) in zip(CONFIG.seeds, times, strict=True)
        ]
    )
    rate = alarms(book, "guard", [stays])
    assert rate is not None
    assert (rate["value"], rate["of"]) == (0.5, 2)


def test_the_interval_of_alarms_takes_no_seed_for_several(tmp_path: Path) -> None:
    times = {3: None, 5: 5}
    both = [Condition("dark", severity, "sensor", "TEST", PERSISTENT) for severity in times]
    ledger = Ledger(tmp_path / "x")
    book = Book(known(), replace(CONFIG, episodes=4), ledger)
    ledger.add(
        [
            {"key": book.key("guard", one, seed), "seed": seed, "onset": 5, "alarm": alarm}
            for one in both
            for seed, alarm in zip(book.config.seeds, (5, 5, None, times[one.severity]), strict=True)
        ]
    )
    rate = alarms(book, "guard", both)
    assert rate is not None
    assert (rate["value"], rate["of"]) == (5 / 8, 8)
    assert rate["low"] == binomial_interval(2, 4)[0]  # seeds that alarm under both
    assert rate["high"] == binomial_interval(3, 4)[1]  # under either


def test_a_control_that_was_not_played_is_not_met(tmp_path: Path) -> None:
    result = judge_loop(CREW, known(), FAULTS, replace(CONFIG, controls=0), Ledger(tmp_path / "x"))
    control = next(one for one in result["targets"] if "severity 0" in one["target"])
    assert control["reached"] is None


def test_figures_are_of_the_episodes(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "x")
    book = Book({"guard": 1}, replace(CONFIG, episodes=4), ledger)
    ledger.add(
        [
            {"key": book.key("guard", CLEAN, seed), "total": total, "steps": 10, "coast": 2, "fallback": 1}
            for seed, total in zip(CONFIG.seeds, (0.0, 2.0, 4.0, 100.0), strict=True)
        ]
    )
    row = figures(book, Yardstick(0, 10, np.array([[0, 1, 2, 3], [3, 3, 3, 3]])), "guard", [CLEAN])
    assert row["score"]["value"] == pytest.approx(0.3)
    assert row["mean"] == pytest.approx(2.65)
    assert row["worst"] == 0
    assert (row["interventions"], row["coast"], row["fallback"]) == pytest.approx((0.3, 0.2, 0.1))
    assert row["kept_plain"] is None


# ---- processes


def uncalibrated() -> Any:
    raise NotCalibratedError("expected a filter, received none; run `robovae calibrate`")


def test_arms_are_made_by_the_first_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in the initializer of a process would break the pool and be lost."""
    job = Job(CLEAN, CONFIG.first_seed, (), tuple(MAKERS))
    monkeypatch.setattr(crew, "_HERE", {})
    monkeypatch.setattr("torch.set_num_threads", lambda count: None)
    crew._begin(Crew(uncalibrated, make_env), STEPS)
    with pytest.raises(NotCalibratedError, match="expected a filter"):
        crew._play_here(job)
    made: list[int] = []
    crew._begin(Crew(lambda: (made.append(1), make_arms())[1], make_env), STEPS)
    assert crew._play_here(job) == crew._play_here(job)
    assert made == [1]


@pytest.mark.slow
def test_an_error_in_another_process_is_the_same_line(tmp_path: Path) -> None:
    with pytest.raises(
        NotCalibratedError, match=r"^expected a filter, received none; run `robovae calibrate`$"
    ):
        judge_loop(Crew(uncalibrated, make_env), known(), FAULTS, CONFIG, Ledger(tmp_path / "x"), workers=2)


@pytest.mark.slow
def test_two_processes_play_the_same_as_one(found: dict[str, Any], tmp_path: Path) -> None:
    result = judge_loop(CREW, known(), FAULTS, CONFIG, Ledger(tmp_path / "x"), workers=2)
    assert result["pooled"] == found["pooled"]
    assert result["episodes"] == found["episodes"]


# ---- the film


def test_the_film_shows_three_episodes_side_by_side() -> None:
    dark = Condition("dark", 5, "sensor", "TEST", 0.5)
    columns = record(make_env, make_arms(), dark, 40_000, STEPS)
    assert [one.title for one in columns] == ["nominal", "dark 5 bursts 50%", "the same, guarded"]
    assert not any(shot.faulted for shot in columns[0].shots)
    assert {shot.mode for shot in columns[1].shots} == {"policy"}
    modes = {shot.mode for shot in columns[2].shots if shot.faulted}
    assert modes == {"fallback"}
    short = [columns[0], replace(columns[1], shots=columns[1].shots[:3])]
    film = side_by_side(short)
    assert film.shape == (STEPS, 12 * 16 + 44, 2 * (12 * 16 + 2), 3)
    assert film.dtype == np.uint8
    assert np.array_equal(film[3, 30:200, 194:], film[-1, 30:200, 194:])  # ended
    assert not np.array_equal(film[3, 30:200, :194], film[-1, 30:200, :194])
    assert len(record(make_env, make_arms(("nominal",)), dark, 40_000, 3)) == 2
    with pytest.raises(ClosedLoopError, match="expected an arm nominal or filter, received zero"):
        record(make_env, make_arms(("zero",)), dark, 40_000, 3)
