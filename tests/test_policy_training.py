"""Training policies: what is written, resumed and refused, and that it learns; on the toy, without GL."""

import json
import os
import subprocess
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from robovae.cli import policy as cli_policy
from robovae.cli.parse import parse
from robovae.config import from_mapping, to_plain
from robovae.control.bursts import Bursts
from robovae.control.errors import ControlError
from robovae.errors import RobovaeError
from robovae.policy import BeliefPolicy, PolicyConfig, PolicyError, PolicyEvent, session, train_policy
from robovae.policy.checkpoint import drop_checkpoints, load_checkpoint
from robovae.policy.config import DEFAULTS
from robovae.policy.saving import fingerprints
from robovae.policy.senses import StateSense, play, state_env
from robovae.policy.training import is_taken
from robovae.run.acting import policy_stage
from robovae.run.directory import RunError, read_note, save_model
from robovae.run.stages import run_stage
from tests.test_policy import fresh_model, make_run
from tests.toy_env import ToyEnv, make_toy

TINY = PolicyConfig(
    steps=60,
    envs=2,
    eval_episodes=3,
    test_episodes=3,
    eval_every=24,
    learning_starts=10,
    batch=8,
    gradient_steps=1,
    hidden=(8,),
    checkpoint_seconds=1e9,
)
make_env = partial(make_toy, max_steps=6)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "toy")


def rows(where: Path) -> list[dict]:
    return [json.loads(line) for line in (where / "progress.jsonl").read_text().splitlines()]


class Interrupt:
    """A listener that presses Ctrl-C when so many steps are done."""

    def __init__(self, steps: int) -> None:
        self.steps, self.events = steps, []

    def __call__(self, event: PolicyEvent) -> None:
        self.events.append(event)
        if event.kind == "evaluation" and event.steps >= self.steps:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"steps": 0}, "steps: expected at least 1, received 0"),
        ({"algo": "dqn"}, "algo: expected sac, ppo, tqc or dagger, received 'dqn'"),
        ({"learning_rate": 0.0}, "learning_rate: expected more than 0"),
        ({"gamma": 1.0}, "gamma: expected between 0 and 1"),
        ({"hidden": (0,)}, "hidden: expected units"),
        ({"batch": 1}, "batch: expected at least 2"),
        ({"critic": "image"}, "critic: expected belief or state, received 'image'"),
        ({"critic": "state", "algo": "ppo"}, "critic: expected belief: ppo .* received 'state'"),
        ({"checkpoint_seconds": 0}, "checkpoint_seconds: expected more than 0"),
    ],
)
def test_values_out_of_range_are_refused(changes, match):
    with pytest.raises(PolicyError, match=match):
        PolicyConfig(**changes)


@pytest.mark.parametrize("failing", ["drop", "corrupt"])
def test_impossible_bursts_are_refused_and_possible_ones_are_not(failing):
    with pytest.raises(ControlError, match="share: expected"):
        PolicyConfig(**{f"{failing}_share": 1.0})
    assert getattr(PolicyConfig(), failing) is None
    assert getattr(PolicyConfig(**{f"{failing}_share": 0.2}, drop_longest=7), failing) == Bursts(0.2, 7)


@pytest.mark.parametrize("algo", DEFAULTS)
def test_defaults_fill_only_what_was_left_open(algo):
    filled = PolicyConfig(algo=algo, steps=300, gamma=0.9).filled()
    assert filled.gamma == 0.9
    assert filled.batch == DEFAULTS[algo]["batch"]
    assert filled.buffer == 300
    assert None not in to_plain(filled).values()
    assert filled.filled() == filled
    assert from_mapping(PolicyConfig, to_plain(filled), "here") == filled


@settings(max_examples=30)
@given(steps=st.integers(1, 10**7), batch=st.none() | st.integers(2, 4096), stack=st.integers(1, 5))
def test_configs_survive_plain_data(steps, batch, stack):
    config = PolicyConfig(steps=steps, batch=batch, stack=stack, features="mu")
    assert from_mapping(PolicyConfig, json.loads(json.dumps(to_plain(config))), "here") == config


def test_training_writes_a_policy_that_acts_as_it_was_judged(run):
    events: list[PolicyEvent] = []
    done = train_policy(run, make_env, TINY, events.append)
    where = run / "policy"
    assert sorted(path.name for path in where.iterdir()) == [
        "policy.json",
        "policy.safetensors",
        "progress.jsonl",
        "sb3.zip",
    ]
    assert done == json.loads((where / "policy.json").read_text())
    assert {name: done[name] for name in ("model", "filter")} == {
        name: value for name, value in fingerprints(run, "filtered").items() if name != "calibrated"
    }
    curve = rows(where)
    assert [row["step"] for row in curve] == [24, 48, 60]
    assert all(row["seeds"] == [25_000, 25_001, 25_002] for row in curve)
    assert all(row["mean"] == pytest.approx(np.mean(row["returns"])) for row in curve)
    assert done["kept"]["mean"] == max(row["mean"] for row in curve)
    assert done["evaluation"]["seeds"] == [20_000, 20_001, 20_002]
    assert [event.kind for event in events if event.kind != "step"] == ["start", *["evaluation"] * 3]
    policy, returns = BeliefPolicy.load(run), []
    for seed in done["evaluation"]["seeds"]:
        env, total, over = make_env(), 0.0, False
        policy.reset()
        observation = env.reset(seed=seed)[0]
        while not over:
            observation, reward, terminated, truncated, _ = env.step(policy(observation["image"]))
            total, over = total + reward, terminated or truncated
        returns.append(total)
    assert returns == pytest.approx(done["evaluation"]["returns"], abs=1e-4)


def test_a_finished_policy_is_skipped_and_another_refused(run):
    done = train_policy(run, make_env, TINY)
    before = (run / "policy" / "policy.safetensors").stat().st_mtime_ns
    events: list[PolicyEvent] = []
    assert train_policy(run, make_env, replace(TINY, threads=2), events.append) == done
    assert [event.kind for event in events] == ["skip"]
    assert (run / "policy" / "policy.safetensors").stat().st_mtime_ns == before
    with pytest.raises(PolicyError, match="received a finished one of another; choose another --name"):
        train_policy(run, make_env, replace(TINY, seed=1))
    other = train_policy(run, make_env, replace(TINY, seed=1), name="other")
    assert other["key"] != done["key"]
    assert (run / "policy-other" / "policy.json").is_file()


@pytest.mark.slow
def test_the_same_seed_gives_the_same_policy(run):
    one, again, other = (
        train_policy(run, make_env, replace(TINY, seed=seed), name=name)["evaluation"]["returns"]
        for seed, name in ((3, "a"), (3, "b"), (4, "c"))
    )
    assert one == again
    assert one != other


def test_an_interrupted_training_goes_on(run):
    with pytest.raises(KeyboardInterrupt):
        train_policy(run, make_env, TINY, Interrupt(24))
    where = run / "policy"
    assert [path.name for path in where.glob("checkpoint-*")] == ["checkpoint-24"]
    assert not (where / "policy.json").exists()
    assert not list(where.glob(".*"))
    with pytest.raises(PolicyError, match="received an unfinished one of another"):
        train_policy(run, make_env, replace(TINY, gamma=0.5))
    events: list[PolicyEvent] = []
    done = train_policy(run, make_env, TINY, events.append)
    assert (events[0].kind, events[0].steps) == ("resume", 24)
    assert done["steps"] == 60
    assert [row["step"] for row in rows(where)] == [24, 48, 60]
    assert not list(where.glob("checkpoint-*"))


@pytest.mark.parametrize("last", ["evaluation on the way", "reported episodes"])
def test_an_interruption_of_the_last_episodes_costs_no_training(run, monkeypatch, last):
    if last == "evaluation on the way":
        listener = Interrupt(60)
    else:
        listener = None
        monkeypatch.setattr(session.Session, "result", pressed)
    with pytest.raises(KeyboardInterrupt):
        train_policy(run, make_env, TINY, listener)
    monkeypatch.undo()
    assert [path.name for path in (run / "policy").glob("*checkpoint*")] == ["checkpoint-60"]
    events: list[PolicyEvent] = []
    done = train_policy(run, make_env, TINY, events.append)
    assert [(event.kind, event.steps) for event in events] == [("resume", 60), ("evaluation", 60)]
    assert done["steps"] == 60
    assert [row["step"] for row in rows(run / "policy")] == [24, 48, 60]


def pressed(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_calibration_made_anew_meanwhile_is_not_vouched_for(run):
    def recalibrate(event: PolicyEvent) -> None:
        (run / "uncertainty.safetensors").write_bytes(b"another")

    mu = replace(TINY, features="mu")
    with pytest.raises(PolicyError, match="that the training began with, received others; put those back"):
        train_policy(run, make_env, mu, recalibrate)
    assert not (run / "policy" / "policy.json").exists()
    (run / "uncertainty.safetensors").unlink()
    events: list[PolicyEvent] = []
    train_policy(run, make_env, mu, events.append)
    assert (events[0].kind, events[0].steps) == ("resume", 60)


def test_an_evaluation_is_no_time_of_training_though_it_is_interrupted(run, monkeypatch):
    real, passed = time.monotonic, [0.0]

    def slow(*_: object) -> None:
        passed[0] += 1000.0
        raise KeyboardInterrupt

    monkeypatch.setattr(session.time, "monotonic", lambda: real() + passed[0])
    monkeypatch.setattr(session.Session, "_evaluate", slow)
    with pytest.raises(KeyboardInterrupt):
        train_policy(run, make_env, TINY)
    state = json.loads((run / "policy" / "checkpoint-24" / "state.json").read_text())
    assert 0 < state["seconds"] < 900


@pytest.mark.parametrize("name", ["sb3.zip", "replay.safetensors", "best.safetensors"])
def test_a_damaged_checkpoint_is_one_line(run, name):
    with pytest.raises(KeyboardInterrupt):
        train_policy(run, make_env, TINY, Interrupt(24))
    path = run / "policy" / "checkpoint-24" / name
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(PolicyError, match=r"expected a whole checkpoint, received .*; delete it") as refused:
        train_policy(run, make_env, TINY)
    assert "\n" not in str(refused.value)
    if name != "sb3.zip":
        with pytest.raises(RunError, match="expected whole weights, received"):
            read_note(path)
        save_file({"0.weight": torch.zeros(1)}, path)
        with pytest.raises(PolicyError, match=r"expected a whole checkpoint, received .*; delete it"):
            train_policy(run, make_env, TINY)


def test_what_killed_attempts_left_goes_with_the_next_checkpoint(run):
    with subprocess.Popen(["true"]) as dead:
        dead.wait()
    left = [run / "policy" / f".checkpoint.{pid}" for pid in (dead.pid, os.getppid())]
    for place in left:
        place.mkdir(parents=True)
        (place / "replay.safetensors").write_bytes(b"much")
    with pytest.raises(KeyboardInterrupt):
        train_policy(run, make_env, TINY, Interrupt(24))
    assert [place.exists() for place in left] == [False, True]  # another process still writes
    left[0].mkdir()
    drop_checkpoints(run / "policy")
    assert sorted(path.name for path in (run / "policy").glob("*checkpoint*")) == [left[1].name]


def test_a_recipe_keeps_a_policy_that_it_did_not_train(run):
    """As `robovae policy RUN` leaves it: without the record of a stage."""

    def states(config: PolicyConfig) -> list[str]:
        heard: list[str] = []
        stage = policy_stage(run, "", config, lambda: make_env, lambda *event: None)
        run_stage(stage, lambda event: heard.append(event.state))
        return heard

    first = train_policy(run, make_env, TINY)
    assert not is_taken(run, replace(TINY, threads=2))
    assert states(TINY) == ["start", "done"]  # the same: it is taken over as it is
    assert json.loads((run / "policy" / "policy.json").read_text()) == first
    (run / "policy" / "stage.json").unlink()
    assert states(replace(TINY, seed=1)) == ["aside", "start", "done"]
    assert json.loads((run / "policy.old-1" / "policy.json").read_text()) == first
    other = replace(TINY, gamma=0.5)
    with pytest.raises(KeyboardInterrupt):
        train_policy(run, make_env, other, Interrupt(24), name="begun")
    assert [is_taken(run, config, name="begun") for config in (TINY, other)] == [True, False]
    assert not is_taken(run, TINY, name="nowhere")


@pytest.mark.parametrize("algo", ["sac", "tqc", "ppo"])
def test_a_checkpoint_brings_everything_back(run, algo, monkeypatch):
    config = replace(TINY, algo=algo, train_freq=12 if algo == "ppo" else 1)
    with pytest.raises(KeyboardInterrupt):
        train_policy(run, make_env, config, Interrupt(24))
    saved, kept = [], session.save_checkpoint
    monkeypatch.setattr("pickle.loads", None)  # the pickled part of the zip is left alone

    def look(self: session.Session) -> None:
        saved.append(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(session.Session, "fit", look)
    with pytest.raises(KeyboardInterrupt):
        train_policy(run, make_env, config)
    path, progress = load_checkpoint(run / "policy", saved[0].key)
    learner = saved[0].learner
    assert learner.num_timesteps == progress.steps == 24
    assert learner._n_updates == progress.updates > 0
    assert saved[0].best is not None
    optimizer = learner.policy.optimizer if algo == "ppo" else learner.critic.optimizer
    assert all(float(state["step"]) > 0 for state in optimizer.state_dict()["state"].values())
    if algo != "ppo":
        assert learner.replay_buffer.pos == 12
        assert np.abs(learner.replay_buffer.rewards[:12]).min() > 0
        assert float(learner.log_ent_coef.detach()) != 0.0
    kept(run / "again", "key", progress, learner, saved[0].best)
    from stable_baselines3.common.save_util import load_from_zip_file

    weights = [
        load_from_zip_file(at / "sb3.zip", load_data=False)[1]["policy"]
        for at in (path, run / "again" / "checkpoint-24")
    ]
    assert all(bool((weights[0][name] == weights[1][name]).all()) for name in weights[0])


def test_checkpoints_are_written_on_the_way_and_replace_one_another(run):
    class Look(Interrupt):
        def __call__(self, event: PolicyEvent) -> None:
            found = sorted(path.name for path in (run / "policy").glob("*checkpoint*"))
            self.events.append(found)

    look = Look(0)
    train_policy(run, make_env, replace(TINY, checkpoint_seconds=1e-6), look)
    assert max(map(len, look.events)) == 1
    assert not list((run / "policy").glob("*checkpoint*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"algo": "ppo", "train_freq": 8, "features": "mu", "stack": 2},
        {"algo": "tqc", "features": "mu_sigma"},
        {"drop_share": 0.3, "corrupt_share": 0.3, "drop_longest": 3},
        {"keep": "last"},
    ],
)
def test_every_kind_of_policy_trains_and_loads(run, changes):
    done = train_policy(run, make_env, replace(TINY, **changes))
    policy = BeliefPolicy.load(run)
    assert policy.act(np.zeros((3, policy.actor.size), np.float32)).shape == (3, 2)
    assert done["steps"] >= 60
    assert done["kept"]["step"] in [row["step"] for row in rows(run / "policy")]


def test_a_policy_on_the_state_trains_on_a_bare_environment_too(run):
    def bare() -> gym.Env:
        return gym.wrappers.TransformObservation(
            make_env(), lambda seen: seen["state"], make_env().observation_space["state"]
        )

    config = replace(TINY, observation="state")
    returns = [
        train_policy(run, make, config, name=name)["evaluation"]["returns"]
        for make, name in ((make_env, "a"), (bare, "b"))
    ]
    assert returns[0] == returns[1]
    assert BeliefPolicy.load(run, "a").features == "state"


def test_discrete_actions_train_with_ppo_only(run):
    class Discrete(gym.ActionWrapper):
        def __init__(self, env: gym.Env) -> None:
            super().__init__(env)
            self.action_space = gym.spaces.Discrete(3)

        def action(self, action: int) -> np.ndarray:
            return np.full(2, action - 1, np.float32)

    config = replace(TINY, algo="ppo", train_freq=8, observation="state")
    done = train_policy(run, lambda: Discrete(make_env()), config)
    assert done["action_space"] == {"kind": "discrete", "n": 3}
    assert BeliefPolicy.load(run)(np.zeros(4)) in (0, 1, 2)
    with pytest.raises(PolicyError, match="expected a Box, received Discrete"):
        train_policy(run, lambda: Discrete(make_env()), replace(config, algo="sac"), name="sac")


def test_what_does_not_fit_the_run_is_refused(run):
    with pytest.raises(PolicyError, match="camera: expected the run's height 16, received 8"):
        train_policy(run, partial(make_env, height=8, width=8), TINY)
    (run / "filter.safetensors").unlink()
    with pytest.raises(RobovaeError, match="expected a filter"):
        train_policy(run, make_env, TINY)
    with pytest.raises(RobovaeError, match="expected a trained run"):
        train_policy(run / "nothing", make_env, TINY)
    assert not (run / "policy").exists()


def test_a_retrained_run_asks_for_another_name(run):
    train_policy(run, make_env, replace(TINY, features="mu"))
    save_model(run, fresh_model(1))
    with pytest.raises(PolicyError, match="received a finished one of another"):
        train_policy(run, make_env, replace(TINY, features="mu"))


def test_a_missing_library_is_named(run, monkeypatch):
    import importlib
    import sys

    for module in [*sys.modules]:
        if module.startswith(("robovae.policy.", "robovae.control.vec_env", "stable_baselines3")):
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    with pytest.raises(RobovaeError, match=r"pip install \"robovae\[rl\]\""):
        importlib.import_module("robovae.policy.training")


def test_torch_is_left_as_it_was(run):
    before = torch.get_num_threads()
    train_policy(run, make_env, replace(TINY, threads=before + 1))
    assert torch.get_num_threads() == before


@pytest.fixture
def toy_cli(run, monkeypatch) -> Path:
    monkeypatch.setattr(cli_policy, "env_factory", lambda run_dir, env_id, bare: make_env)
    return run


WORDS = (
    "--steps 60 --envs 2 --eval-episodes 2 --test-episodes 3 --eval-every 24 --learning-starts 10 --batch 8 "
    "--hidden 8"
)


def test_the_command_trains_and_says_what_came_out(toy_cli, capsys):
    words = [str(toy_cli), *WORDS.split(), "--gradient-steps", "1"]
    assert parse(cli_policy.Policy, words, "robovae policy").run() == 0
    said = capsys.readouterr()
    assert "sac on filtered, 60 steps" in said.out
    assert "in 3 episodes" in said.out
    assert said.err == ""
    assert parse(cli_policy.Policy, [*words, "--json"], "robovae policy").run() == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["evaluation"]["seeds"] == [20_000, 20_001, 20_002]
    assert "is finished" in said.err


def test_the_command_explains_itself(capsys):
    with pytest.raises(SystemExit):
        parse(cli_policy.Policy, ["--help"], "robovae policy")
    said = capsys.readouterr().out
    assert "robovae policy runs/reacher --steps 50000" in said.split("Examples:")[1]
    for option in ("--algo", "--features", "--drop-share", "--name", "--env", "--json", "--hidden"):
        assert option in said
    with pytest.raises(RobovaeError, match="see robovae policy --help"):
        parse(cli_policy.Policy, ["runs/reacher", "--algo", "dqn"], "robovae policy")


def test_the_command_refuses_a_run_without_a_camera(tmp_path):
    model = fresh_model()
    facts = replace(model.facts, render_spec=None)
    save_model(tmp_path, replace(model, facts=facts))
    with pytest.raises(PolicyError, match="without a RenderSpec"):
        cli_policy.env_factory(tmp_path, None)


@pytest.mark.gl
def test_environments_have_the_camera_of_the_run_or_none_at_all(tmp_path):
    from robovae_envs.camera import RenderSpec

    spec = RenderSpec.fast("Reacher-v5", height=16, width=16)
    model = fresh_model()
    facts = replace(model.facts, env_id="Reacher-v5", render_spec=spec.to_dict())
    save_model(tmp_path, replace(model, facts=facts))
    env, bare = (cli_policy.env_factory(tmp_path, None, bare=each)() for each in (False, True))
    assert env.render_spec == spec
    assert env.reset(seed=0)[0]["image"].shape == (16, 16, 3)
    assert not hasattr(bare, "render_spec")
    assert np.array_equal(bare.reset(seed=0)[0], env.reset(seed=0)[0]["state"])
    env.close()


@pytest.mark.slow
def test_a_policy_on_the_state_learns_the_toy(run):
    config = PolicyConfig(
        steps=1500,
        observation="state",
        learning_rate=3e-3,
        gradient_steps=4,
        learning_starts=100,
        hidden=(32, 32),
    )
    make = partial(make_toy, max_steps=20)
    done = train_policy(run, make, replace(config, batch=64, gamma=0.9))
    still = play(
        [state_env(ToyEnv(max_steps=20))], StateSense(), lambda x: np.zeros((1, 2)), range(20_000, 20_010)
    )
    assert done["evaluation"]["mean"] > 0.5 * np.mean(still)  # returns are negative
