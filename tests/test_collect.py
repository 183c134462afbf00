"""Collecting: the same bits for any number of workers, nothing lost, nobody orphaned, one line on failure."""

import os
import signal
import subprocess
import sys
import time
import types
from functools import partial
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from robovae.cli import main
from robovae.collect import CollectConfig, CollectError, CollectInterruptedError, collect
from robovae.collect.config import exploring
from robovae.collect.joints import visited_bins
from robovae.collect.page import NONE, Page, open_page
from robovae.collect.policies import make_policy
from robovae.collect.process import WorkerProcess
from robovae.collect.random_policies import BangBangPolicy, RandomPolicy
from robovae.collect.rollout import Rollout
from robovae.collect.store import check_same_source
from robovae.collect.views import LateView, LiveView, draws_qpos
from robovae.episodes import EpisodeStore, verify
from robovae.records import write_json
from tests.toy_env import ToyEnv, make_toy

ROOT = Path(__file__).resolve().parents[1]


def quick(**changes):
    return CollectConfig(**{"episodes": 6, "workers": 1, "seed": 0, "watchdog": 20.0, **changes})


def file_bytes(directory):
    return {path.name: path.read_bytes() for path in sorted(directory.glob("episode-*"))}


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def children(pid):
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def start_script(out, **toy):
    """A process of its own that collects toy episodes without end into `out`."""
    code = (
        "import sys\nfrom functools import partial\nfrom pathlib import Path\n"
        "from robovae.collect import *\nfrom tests.toy_env import make_toy\n"
        f"config = CollectConfig(episodes=100000, workers=2, seed=100000)\n"
        f"try:\n    collect(partial(make_toy, **{toy!r}), Path({str(out)!r}), config)\n"
        "except CollectError as error:\n    print(type(error).__name__, error)\n    sys.exit(2)\n"
    )
    path = os.pathsep.join([str(ROOT), str(ROOT / "envs")])
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(condition, seconds=30.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.02)
    raise TimeoutError


def test_collects_what_was_asked_for(tmp_path):
    events = []
    summary = collect(partial(make_toy, max_steps=7), tmp_path / "toy", quick(), events.append)
    store = EpisodeStore(tmp_path / "toy")
    assert store.seeds == list(range(6))
    assert summary.episodes == 6
    assert summary.frames == store.num_frames == 6 * 8
    assert summary.mean_length == 7
    assert 0 < summary.coverage["x"] <= 1
    assert [event.kind for event in events if event.message] == ["start", "stop", "done"]
    episode = store[0]
    assert episode.truncated.tolist() == [False] * 6 + [True]
    assert episode.meta["policy"] == "random"
    assert episode.meta["render_spec"] == {"height": 16, "width": 16}
    assert verify(tmp_path / "toy") == []


def test_frames_and_states_belong_together(tmp_path):
    collect(make_toy, tmp_path, quick(episodes=1))
    episode = EpisodeStore(tmp_path)[0]
    toy = ToyEnv()
    toy.reset(seed=0)
    for time_, qpos in enumerate(episode.extra["qpos"]):
        toy.position = qpos
        np.testing.assert_array_equal(toy.render(), episode.image[time_])
    assert not np.array_equal(episode.image[0], episode.image[-1])


@pytest.mark.slow
def test_bits_do_not_depend_on_workers(tmp_path):
    make_env = partial(make_toy, rim_ends=True, max_steps=200)
    collect(make_env, tmp_path / "one", quick(episodes=20))
    collect(make_env, tmp_path / "two", quick(episodes=20, workers=2))
    assert file_bytes(tmp_path / "one") == file_bytes(tmp_path / "two")
    lengths = EpisodeStore(tmp_path / "one").lengths
    assert len(set(lengths.tolist())) > 3


def test_finished_seeds_are_not_run_again(tmp_path):
    collect(make_toy, tmp_path, quick(episodes=3))
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("episode-*")}
    summary = collect(make_toy, tmp_path, quick(episodes=5))
    assert (summary.episodes, summary.skipped) == (2, 3)
    after = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("episode-*")}
    assert len(after) == 5
    assert before.items() <= after.items()


def test_damaged_episode_is_collected_again(tmp_path):
    collect(make_toy, tmp_path, quick(episodes=2))
    whole = file_bytes(tmp_path)
    damaged = tmp_path / "episode-00000001.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:100])
    assert collect(make_toy, tmp_path, quick(episodes=2)).episodes == 1
    assert file_bytes(tmp_path) == whole


@pytest.mark.parametrize(
    ("change", "message"),
    [({"height": 24}, "has render_spec"), ({}, "has policy random, this collection zero")],
)
def test_other_source_in_the_directory_is_refused(tmp_path, change, message):
    collect(make_toy, tmp_path, quick(episodes=1))
    policy = "random" if change else "zero"
    with pytest.raises(CollectError, match=message):
        collect(partial(make_toy, **change), tmp_path, quick(episodes=1, policy=policy))


def test_a_seed_collected_with_other_steps_or_another_spread_is_refused(tmp_path):
    collect(make_toy, tmp_path, quick(episodes=1, max_steps=5))
    with pytest.raises(CollectError, match="has max_steps 5, this collection None"):
        collect(make_toy, tmp_path, quick(episodes=1))
    collect(make_toy, tmp_path, quick(episodes=1, seed=50))  # other seeds may be cut otherwise
    records = EpisodeStore(tmp_path).records
    facts = {**records[0].meta, "spread": 1.0}
    with pytest.raises(CollectError, match="has spread None, this collection 1"):
        check_same_source(records, facts, quick(episodes=1, max_steps=5), tmp_path)


def test_frames_of_another_opengl_are_refused(tmp_path):
    collect(make_toy, tmp_path, quick(episodes=1))
    records = EpisodeStore(tmp_path).records
    facts = {**records[0].meta, "versions": {**records[0].meta["versions"], "gl": "another"}}
    with pytest.raises(CollectError, match=r"has MUJOCO_GL .*, this collection another"):
        check_same_source(records, facts, quick(episodes=1, seed=50), tmp_path)


def test_a_policy_that_was_trained_again_is_another(tmp_path):
    run = tmp_path / "run"
    write_json(run / "policy" / "policy.json", {"seed": 0})
    config = quick(episodes=1, policy=str(run))
    first = config.remembered()
    assert config.remembered() == first
    write_json(run / "policy" / "policy.json", {"seed": 1})
    assert config.remembered() != first
    assert set(quick(episodes=1).remembered()) == {"policy", "max_steps"}


def test_a_page_that_no_worker_has_written_names_no_seed():
    descriptor = open_page()
    assert Page(descriptor).running == NONE
    os.close(descriptor)


def test_replay_takes_the_recorded_actions(tmp_path):
    make_env = partial(make_toy, rim_ends=True)
    collect(make_env, tmp_path / "a", quick(episodes=3))
    collect(make_env, tmp_path / "b", quick(episodes=3, policy=str(tmp_path / "a")))
    for first, second in zip(EpisodeStore(tmp_path / "a"), EpisodeStore(tmp_path / "b"), strict=True):
        np.testing.assert_array_equal(first.action, second.action)
        np.testing.assert_array_equal(first.image, second.image)
    with pytest.raises(CollectError, match="no episode of seed 3"):
        collect(make_env, tmp_path / "c", quick(seed=2, episodes=2, policy=str(tmp_path / "a")))


def push_right(observation):
    assert set(observation) == {"image", "state"}
    return np.array([0.0, 1.0], np.float32)


class Counting:
    def __init__(self, observation_space, action_space):
        self.space = action_space

    def reset(self, seed):
        self.seed = seed

    def __call__(self, observation):
        return np.full(self.space.shape, self.seed / 10, np.float32)


class Hearing(Counting):
    def reset(self, seed):
        super().reset(seed)
        self.heard = []

    def acted(self, action):
        self.heard.append(action)


def test_a_users_policy_that_explores_is_told_what_was_done():
    env = make_toy()
    policy = make_policy("tests.test_collect:Hearing~0.5", env)
    policy.reset(5)
    taken = [policy(env.reset(seed=0)[0]) for _ in range(30)]
    np.testing.assert_array_equal(policy.policy.act.heard, taken)


@pytest.mark.parametrize(
    ("name", "action"), [("push_right", (0.0, 1.0)), ("Counting", (0.5, 0.5)), ("zero", (0.0, 0.0))]
)
def test_users_policy(tmp_path, name, action):
    policy = name if name == "zero" else f"tests.test_collect:{name}"
    collect(make_toy, tmp_path, quick(seed=5, episodes=1, policy=policy))
    np.testing.assert_allclose(EpisodeStore(tmp_path)[0].action, np.broadcast_to(action, (20, 2)))


def test_bang_stays_at_the_bounds_and_follows_its_seed():
    env = make_toy()
    policy = make_policy("bang", env)
    taken = []
    for seed in (3, 3, 4):
        policy.reset(seed)
        taken.append(np.array([policy({}) for _ in range(60)]))
    assert set(np.abs(taken[0]).ravel().tolist()) == {1.0}
    assert (np.diff(taken[0], axis=0) == 0).mean() > 0.5  # held for a while
    np.testing.assert_array_equal(taken[0], taken[1])
    assert not np.array_equal(taken[0], taken[2])


def test_exploring_adds_a_share_of_random():
    env = make_toy()
    taken = []
    for name in ("random", "zero~0.5", "tests.test_collect:push_right~.5"):
        policy = make_policy(name, env)
        policy.reset(3)
        observation = env.reset(seed=0)[0]
        taken.append(np.array([policy(observation) for _ in range(100)]))
    np.testing.assert_allclose(taken[1], 0.5 * taken[0], atol=1e-6)
    np.testing.assert_allclose(taken[2], (0.5 * taken[0] + [0, 1]).clip(-1, 1), atol=1e-6)
    assert np.abs(taken[0]).max() > 0.5
    assert all(env.action_space.contains(action) for action in taken[2])


def test_exploring_takes_a_share_of_random_choices():
    env = ToyEnv()
    env.action_space = gym.spaces.Discrete(5, start=3)
    policy = make_policy("zero~0.4", env)
    runs = []
    for seed in (1, 1, 2):
        policy.reset(seed)
        runs.append([policy({}) for _ in range(2000)])
    assert runs[0] == runs[1] != runs[2]
    assert np.mean(np.array(runs) != 3) == pytest.approx(0.4 * 4 / 5, abs=0.06)


@pytest.mark.parametrize(
    ("policy", "found"),
    [
        ("runs/a~0.3", ("runs/a", 0.3)),
        ("runs/a~1", ("runs/a", 1.0)),
        ("zero~.25", ("zero", 0.25)),
        ("random", ("random", 0.0)),
        ("~/runs/a", ("~/runs/a", 0.0)),
        ("runs/a~old", ("runs/a~old", 0.0)),
        ("~0.5", ("~0.5", 0.0)),
    ],
)
def test_a_name_tells_how_much_its_policy_explores(policy, found):
    assert exploring(policy) == found


def test_explored_episodes_are_not_taken_for_others(tmp_path):
    collect(make_toy, tmp_path, quick(episodes=1, policy="zero~0.5"))
    assert EpisodeStore(tmp_path)[0].action.any()
    with pytest.raises(CollectError, match=r"has policy zero~0.5, this collection zero"):
        collect(make_toy, tmp_path, quick(episodes=1, policy="zero"))


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("tests.test_collect:nothing", "cannot be imported: .*nothing"),
        ("no_such_module:act", "cannot be imported: No module"),
        ("tests.test_collect:ROOT", "must be a function or a class"),
        ("randon", "none of"),
    ],
)
def test_bad_policy_is_one_line(policy, message):
    with pytest.raises(CollectError, match=message) as caught:
        make_policy(policy, ToyEnv())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"episodes": 0}, "episodes must be an integer of at least 1, got 0"),
        ({"workers": 0}, "workers must be"),
        ({"max_steps": 0}, "max_steps must be"),
        ({"retries": -1}, "retries must be"),
        ({"watchdog": 0.0}, "watchdog must be"),
        ({"policy": ""}, "policy is empty"),
        ({"policy": "zero~1.5"}, "'zero~1.5': expected a share from 0 to 1 after ~, received 1.5"),
        ({"policy": "zero~-0.1"}, "expected a share from 0 to 1 after ~, received -0.1"),
        ({"seed": "tset"}, "one of train, calibrate, test, rare, fault, got 'tset'"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"seed": "test", "episodes": 10_001}, "split test has seeds 20000 to 29999: 10000 episodes fit"),
        ({"seed": 60_000}, "in no split"),
    ],
)
def test_bad_config_is_refused(changes, message):
    with pytest.raises(CollectError, match=message):
        quick(**changes)


def test_seeds_stay_in_their_split():
    assert quick(seed="test", episodes=2).seeds() == [20_000, 20_001]
    assert quick(seed=9_998, episodes=4).seeds() == [9_998, 9_999, 100_000, 100_001]
    assert quick(seed=100_000, episodes=2).seeds() == [100_000, 100_001]


def test_exception_in_the_environment_is_one_line(tmp_path):
    with pytest.raises(
        CollectError, match=r"seed 0: ValueError: the toy was told to fail \(toy_env.py:\d+\)"
    ) as e:
        collect(partial(make_toy, fault="raise"), tmp_path, quick())
    assert "\n" not in str(e.value)


def test_an_exception_costs_no_finished_episode(tmp_path):
    broken = partial(make_toy, fault="raise", fault_seed=12)
    with pytest.raises(CollectError, match=r"seed 12: .* 12 new episodes were finished and are kept"):
        collect(broken, tmp_path, quick(episodes=20))
    assert EpisodeStore(tmp_path).seeds == list(range(12))


def test_a_write_that_fails_is_heard_while_the_worker_waits(tmp_path):
    (tmp_path / "episode-00000000.safetensors").mkdir()  # in the way of the only episode
    (tmp_path / "episode-00000000.safetensors" / "full").touch()
    begin = time.monotonic()
    with pytest.raises(CollectError, match="cannot be written"):
        collect(make_toy, tmp_path, quick(episodes=1, watchdog=30.0))
    assert time.monotonic() - begin < 20


def test_frames_under_a_fault_do_not_join_clean_ones(tmp_path):
    collect(make_toy, tmp_path, quick(episodes=1))
    records = EpisodeStore(tmp_path).records
    facts = {**records[0].meta, "fault": {"name": "occluder", "severity": 5}}
    with pytest.raises(CollectError, match=r"has fault None, this collection .*occluder"):
        check_same_source(records, facts, quick(episodes=1, seed=50), tmp_path)


@pytest.mark.parametrize(("low", "high", "wanted"), [(0.0, np.inf, (0.0, 2.0)), (-np.inf, 3.0, (1.0, 3.0))])
def test_random_actions_stay_within_the_one_bound_there_is(low, high, wanted):
    for kind in (RandomPolicy, BangBangPolicy):
        policy = kind(gym.spaces.Box(low, high, (2,), np.float64))
        actions = []
        for seed in range(40):
            policy.reset(seed)
            actions += [policy({}) for _ in range(20)]
        assert (np.min(actions), np.max(actions)) == pytest.approx(wanted, abs=0.05)


def test_an_idle_worker_that_is_given_a_seed_is_not_late():
    worker = object.__new__(WorkerProcess)
    worker.seeds, worker.given, worker.ready = [], 0, True
    worker.frames, worker.heard = 0, time.monotonic() - 100.0
    worker.page = types.SimpleNamespace(frames=0, running=NONE, taken=0)
    worker._say = lambda word: None
    assert worker.silent_for() == 0.0
    worker.give([7])
    assert worker.silent_for() < 1.0


def test_a_seed_of_another_split_is_refused(tmp_path, capsys):
    words = ["collect", "Reacher-v5", "--out", str(tmp_path / "data"), "--split", "test", "--seed", "5"]
    assert main(words) == 2
    assert "--seed: expected one of the split test, received 5 of train" in capsys.readouterr().err


def test_exception_in_the_factory_is_one_line(tmp_path):
    with pytest.raises(CollectError, match=r"TypeError: .*unexpected keyword argument 'colour'"):
        collect(partial(make_toy, colour="red"), tmp_path, quick())


def test_crash_and_hang_cost_a_worker_and_no_episode(tmp_path):
    collect(make_toy, tmp_path / "calm", quick())
    for fault in ("segv", "hang"):
        events = []
        broken = partial(make_toy, fault=fault, once=tmp_path / f"{fault}.happened")
        summary = collect(broken, tmp_path / fault, quick(watchdog=2.0), events.append)
        assert summary.restarts == 1
        assert file_bytes(tmp_path / fault) == file_bytes(tmp_path / "calm")
        message = next(event.message for event in events if event.kind == "restart")
        assert ("killed by SIGSEGV" if fault == "segv" else "gave no sign for 2 s") in message


def test_repeated_crash_stops_with_one_line(tmp_path):
    with pytest.raises(
        CollectError, match="workers failed 2 times at seed 0; the last one killed by SIGSEGV"
    ):
        collect(partial(make_toy, fault="segv"), tmp_path, quick(retries=1))


def test_no_first_frame_falls_back_to_osmesa(tmp_path, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "egl")
    events = []
    hung = partial(make_toy, fault="hang", fault_step=0, once=tmp_path / "happened")
    summary = collect(hung, tmp_path / "toy", quick(watchdog=2.0), events.append)
    assert summary.backend == "osmesa"
    message = next(event.message for event in events if event.kind == "fallback")
    assert "no frame with MUJOCO_GL=egl" in message
    assert "using osmesa" in message
    assert EpisodeStore(tmp_path / "toy")[0].meta["versions"]["gl"] == "osmesa"


def test_no_first_frame_at_all_names_both_backends(tmp_path, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "egl")
    with pytest.raises(CollectError, match=r"MUJOCO_GL=egl: gave no sign.*MUJOCO_GL=osmesa: gave no sign"):
        collect(partial(make_toy, fault="hang", fault_step=0), tmp_path, quick(watchdog=1.5))


def test_unwritable_directory_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CollectError, match=r"cannot be used: .*choose another --out"):
        collect(make_toy, tmp_path / "file", quick())


def test_factory_that_cannot_be_sent_is_one_line(tmp_path):
    generator = (number for number in range(3))
    with pytest.raises(CollectError, match="make_env cannot be sent to workers"):
        collect(lambda: next(generator), tmp_path, quick())


def test_interrupt_keeps_finished_episodes(tmp_path):
    def interrupt(event):
        if event.kind == "progress" and event.episodes:
            raise KeyboardInterrupt

    slow = partial(make_toy, step_seconds=0.005)
    with pytest.raises(CollectInterruptedError, match=r"stopped by Ctrl-C: .* the same command continues"):
        collect(slow, tmp_path, quick(episodes=500), interrupt)
    kept = EpisodeStore(tmp_path).seeds
    assert 0 < len(kept) < 500
    assert verify(tmp_path) == []
    assert list(tmp_path.glob(".*.tmp")) == []


@pytest.mark.slow
def test_ctrl_c_on_a_real_process(tmp_path):
    process = start_script(tmp_path, step_seconds=0.002)
    wait_for(lambda: len(list(tmp_path.glob("episode-*"))) > 3)
    workers = children(process.pid)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 2
    assert out.startswith("CollectInterruptedError stopped by Ctrl-C")
    assert out.count("\n") == 1
    assert err == ""
    assert not any(map(is_alive, workers))
    assert verify(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.0, 0.07, 0.31])
def test_sigkill_of_the_parent_leaves_whole_files_and_no_orphans(tmp_path, delay):
    process = start_script(tmp_path, max_steps=30)
    wait_for(lambda: len(list(tmp_path.glob("episode-*"))) > 3)
    time.sleep(delay)
    workers = children(process.pid)
    assert len(workers) == 2
    process.kill()
    process.communicate()
    wait_for(lambda: not any(map(is_alive, workers)), 10)
    assert verify(tmp_path) == []
    collect(make_toy, tmp_path / "new", quick(episodes=1))


@pytest.mark.slow
def test_hung_worker_dies_with_its_parent(tmp_path):
    process = start_script(tmp_path, fault="hang", fault_step=0)
    wait_for(lambda: len(children(process.pid)) == 2)
    time.sleep(1.0)
    workers = children(process.pid)
    process.kill()
    process.communicate()
    wait_for(lambda: not any(map(is_alive, workers)), 10)


def test_workers_do_not_import_torch():
    code = "import sys, robovae.collect, robovae.collect.worker; sys.exit('torch' in sys.modules)"
    path = os.pathsep.join([str(ROOT), str(ROOT / "envs")])
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, check=False)
    assert done.returncode == 0


def test_random_policy_covers_its_box():
    space = ToyEnv().action_space
    policy = RandomPolicy(space)
    episodes = []
    for seed in range(40):
        policy.reset(seed)
        episodes.append(np.stack([policy({}) for _ in range(200)]))
    actions = np.stack(episodes)
    assert actions.dtype == np.float32
    assert actions.min() >= -1
    assert actions.max() <= 1
    histogram, _ = np.histogram(actions, bins=10, range=(-1, 1))
    assert histogram.min() > 0.02 * actions.size
    reach = np.abs(actions).max(axis=(1, 2))
    assert reach.min() < 0.4
    assert reach.max() > 0.9
    held = np.mean(np.diff(actions, axis=1) == 0)
    assert 0.3 < held < 0.95  # neither white noise nor a constant


def test_random_policy_depends_on_the_seed_alone():
    def draw(seed, before):
        policy = RandomPolicy(ToyEnv().action_space)
        for other in before:
            policy.reset(other)
            policy({})
        policy.reset(seed)
        return np.stack([policy({}) for _ in range(50)])

    np.testing.assert_array_equal(draw(3, []), draw(3, [1, 2]))
    assert not np.array_equal(draw(3, []), draw(4, []))


def test_max_steps_truncates():
    env = ToyEnv(max_steps=50)
    policy = make_policy("zero", env)
    episode = Rollout(env, policy, quick(max_steps=4), lambda frames: True).run(0)
    assert episode is not None
    assert episode.truncated.tolist() == [False, False, False, True]
    assert not episode.terminated.any()


def test_visited_bins():
    joints = [
        {"name": "turn", "type": "hinge", "qpos_index": 0, "limited": False, "range": [0, 0]},
        {"name": "knee", "type": "hinge", "qpos_index": 1, "limited": True, "range": [-1.0, 1.0]},
        {"name": "rail", "type": "slide", "qpos_index": 2, "limited": True, "range": [-1.0, 1.0]},
    ]
    qpos = np.zeros((3, 3))
    qpos[:, 0] = [0.01, 0.01 + 2 * np.pi, 0.01 - 4 * np.pi]
    qpos[:, 1] = [-1.0, 1.0, 5.0]
    visited = visited_bins(qpos, joints)
    assert visited.shape == (2, 36)
    assert visited.sum(axis=1).tolist() == [1, 2]
    assert visited[1, [0, 35]].all()


@pytest.mark.gl
@pytest.mark.slow
def test_real_frames_do_not_depend_on_workers(tmp_path):
    camera = pytest.importorskip("robovae_envs.camera")
    make_env = partial(camera.make, "Reacher-v5", camera.RenderSpec.fast("Reacher-v5"))
    collect(make_env, tmp_path / "one", quick(episodes=4))
    summary = collect(make_env, tmp_path / "two", quick(episodes=4, workers=2))
    assert file_bytes(tmp_path / "one") == file_bytes(tmp_path / "two")
    store = EpisodeStore(tmp_path / "one")
    assert store.frame_shape == (64, 64, 3)
    assert store.num_frames == 4 * 51
    assert store[0].image.std() > 5
    assert set(summary.coverage) == {"joint0", "joint1"}


@pytest.mark.gl
def test_frames_are_drawn_live_where_a_wrapper_may_change_the_model():
    camera = pytest.importorskip("robovae_envs.camera")

    class Flicker(gym.Wrapper):
        """Anybody's."""

    plain = gym.make("Reacher-v5")
    for env, late in ((plain, True), (Flicker(plain), False)):
        seen = camera.Camera(env, camera.RenderSpec.fast("Reacher-v5"))
        assert draws_qpos(seen) is late


@pytest.mark.gl
@pytest.mark.parametrize("env_id", ["Reacher-v5", "HalfCheetah-v5", "Pusher-v5", "InvertedPendulum-v5"])
def test_frames_drawn_late_are_those_drawn_live(env_id):
    camera = pytest.importorskip("robovae_envs.camera")
    env = camera.make(env_id, camera.RenderSpec.fast(env_id))
    policy = RandomPolicy(env.action_space)
    rollout = Rollout(env, policy, quick(max_steps=30), lambda frames: True)
    assert isinstance(rollout.view, LateView)
    late = [rollout.run(seed) for seed in (3, 4)]
    policy.looks = True
    rollout = Rollout(env, policy, quick(max_steps=30), lambda frames: True)
    assert isinstance(rollout.view, LiveView)
    live = [rollout.run(seed) for seed in (3, 4)]
    for first, second in zip(late, live, strict=True):
        for name, array in first.arrays().items():
            np.testing.assert_array_equal(array, second.arrays()[name], err_msg=name)
    assert not np.array_equal(late[0].image[0], late[0].image[-1])
    env.close()


@pytest.mark.gl
def test_a_wrapper_above_the_camera_is_seen_live():
    camera = pytest.importorskip("robovae_envs.camera")
    gym = pytest.importorskip("gymnasium")

    class Dark(gym.ObservationWrapper):
        def observation(self, observation):
            return {**observation, "image": observation["image"] // 2}

    env = Dark(camera.make("Reacher-v5", camera.RenderSpec.fast("Reacher-v5")))
    episode = Rollout(env, RandomPolicy(env.action_space), quick(max_steps=3), lambda frames: True).run(0)
    assert episode.image.max() <= 127
    env.close()
