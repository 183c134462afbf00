"""Faults: severity 0 is the identity, amounts are what they say, and the physics never notices."""

import json
import math
from dataclasses import FrozenInstanceError
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robovae.cli.faults import Faults
from robovae_envs.camera import Camera, RenderSpec, make
from robovae_envs.cameras import POSES
from robovae_envs.errors import EnvError
from robovae_envs.faults import FAULTS, FaultError, Faulty, photographs, sensor_fault
from robovae_envs.faults.streams import STREAMS
from robovae_envs.faults.view import Setting, View, rotation
from robovae_envs.renderer import Renderer
from robovae_envs.simulator import mujoco

SENSOR = [name for name, fault in FAULTS.items() if fault.kind == "sensor"]
RENDERED = [name for name, fault in FAULTS.items() if fault.kind == "rendered"]
TASKS = list(POSES)
FEW = (
    "HalfCheetah-v5",
    "InvertedPendulum-v5",
    "Reacher-v5",
)  # with lights and textures, without, with a floor
SWEEP = [pytest.param(task, marks=[] if task in FEW else pytest.mark.slow) for task in TASKS]
SETTINGS = settings(max_examples=25)
sizes = st.tuples(st.integers(1, 4), st.integers(8, 70), st.integers(8, 70))
seeds = st.integers(0, 2**32 - 1)


def generator(seed=0):
    return np.random.default_rng(seed)


def noise_frames(shape, seed=0):
    return generator(seed).integers(0, 256, (*shape, 3), np.uint8)


def moving_frames(count=4, size=64):
    """Frames that move: shaded and rough, with a bright square before a dark ground."""
    y, x = np.mgrid[:size, :size]
    frames = np.stack([np.stack([40 + x, 60 + y, 90 + (x + y) // 2], axis=2)] * count).astype(np.uint8)
    frames += generator().integers(0, 24, frames.shape, np.uint8)
    for index, frame in enumerate(frames):
        frame[20:30, 5 * index : 5 * index + 10] = 230
    return frames


# The registry


def test_the_suite_is_the_one_agreed_on():
    suite = {name: (fault.kind, fault.split, fault.severities) for name, fault in FAULTS.items()}
    assert suite == {
        "light_level": ("rendered", "DEV", (0.85, 0.70, 0.55, 0.40, 0.25)),
        "light_direction": ("rendered", "TEST", (10, 20, 35, 50, 65)),
        "camera_pose": ("rendered", "DEV", (2.25, 4.5, 9, 18, 27)),
        "colour_shift": ("rendered", "TEST", (0.05, 0.1, 0.2, 0.3, 0.5)),
        "texture": ("rendered", "TEST", (0.1, 0.2, 0.4, 0.7, 1)),
        "distractors": ("rendered", "TEST", (1, 2, 3, 5, 8)),
        "occluder": ("rendered", "TEST", (2, 5, 10, 20, 35)),
        "gaussian_noise": ("sensor", "DEV", (0.04, 0.08, 0.12, 0.15, 0.18)),
        "defocus": ("sensor", "TEST", (0.5, 0.75, 1, 1.25, 1.5)),
        "exposure": ("sensor", "TEST", (0.25, 0.5, 1, 1.5, 2)),
        "jpeg": ("sensor", "TEST", (65, 58, 50, 40, 25)),
        "dead_rows": ("sensor", "TEST", (1, 2, 4, 8, 16)),
        "freeze": ("timing", "DEV", (2, 5, 10, 25, math.inf)),
        "delay": ("timing", "TEST", (1, 2, 3, 5, 8)),
    }


def test_a_fault_is_frozen_and_knows_its_amounts():
    fault = FAULTS["light_level"]
    with pytest.raises(FrozenInstanceError):
        fault.name = "other"
    assert [fault.amount(severity) for severity in range(6)] == [1.0, *fault.severities]


@pytest.mark.parametrize("severity", [-1, 6, 1.5, True, "1"])
def test_severities_outside_0_to_5_are_refused(severity):
    with pytest.raises(FaultError, match=r"jpeg: expected a severity from 0 to 5, received"):
        FAULTS["jpeg"].amount(severity)


def test_unknown_faults_are_answered_with_the_nearest():
    with pytest.raises(EnvError, match=r"no fault 'gausian_noise'; nearest: gaussian_noise"):
        sensor_fault("gausian_noise", noise_frames((1, 8, 8)), 1, generator())
    with pytest.raises(FaultError, match=r"no fault '!'; expected one of: light_level, .*delay"):
        sensor_fault("!", noise_frames((1, 8, 8)), 1, generator())


def test_the_command_lists_them(capsys):
    assert Faults(json=True).run() == 0
    told = json.loads(capsys.readouterr().out)["faults"]
    assert [fault["name"] for fault in told] == list(FAULTS)
    assert told[12]["severities"] == [2, 5, 10, 25, "rest"]
    assert Faults().run() == 0
    assert "2 5 10 25 rest" in capsys.readouterr().out


# Sensor faults


@pytest.mark.parametrize("name", SENSOR)
@SETTINGS
@given(sizes, seeds, st.integers(0, 5))
def test_a_sensor_fault_is_a_pure_function(name, shape, seed, severity):
    frames = noise_frames(shape, seed)
    before = frames.copy()
    first, again = (sensor_fault(name, frames, severity, generator(seed)) for _ in range(2))
    assert np.array_equal(frames, before)
    assert first.dtype == np.uint8
    assert first.shape == frames.shape
    assert not np.shares_memory(first, frames)
    assert np.array_equal(first, again)
    if severity == 0:
        assert np.array_equal(first, frames)


@pytest.mark.parametrize("name", SENSOR)
def test_a_sensor_fault_grows_with_its_severity(name):
    frames = moving_frames()
    change = [
        np.mean(
            [
                np.abs(sensor_fault(name, frames, severity, generator(seed)).astype(float) - frames).mean()
                for seed in range(8)
            ]
        )
        for severity in range(6)
    ]
    assert change[0] == 0
    assert (np.diff(change) > 0).all()


@pytest.mark.parametrize("name", ["gaussian_noise", "exposure", "dead_rows"])
def test_other_seeds_give_other_faults(name):
    frames = moving_frames()
    drawn = {sensor_fault(name, frames, 3, generator(seed)).tobytes() for seed in range(8)}
    assert len(drawn) >= 2


def test_what_is_no_sensor_fault_or_no_frame_is_refused():
    with pytest.raises(FaultError, match=r"expected a sensor fault, received 'freeze' \(timing\)"):
        sensor_fault("freeze", noise_frames((1, 8, 8)), 1, generator())
    with pytest.raises(FaultError, match=r"expected frames \(B, H, W, 3\) uint8, received \(8, 8, 3\) uint8"):
        sensor_fault("jpeg", noise_frames((1, 8, 8))[0], 1, generator())
    with pytest.raises(FaultError, match=r"received .* float32"):
        sensor_fault("jpeg", noise_frames((1, 8, 8)).astype(np.float32), 1, generator())


def test_noise_has_the_sigma_it_says():
    grey = np.full((8, 64, 64, 3), 128, np.uint8)
    noisy = sensor_fault("gaussian_noise", grey, 2, generator()).astype(float) - 128
    assert noisy.std() / 255 == pytest.approx(0.08, rel=0.01)
    assert not np.array_equal(noisy[0], noisy[1])


@pytest.mark.parametrize("height", [64, 128, 192])
def test_defocus_spreads_a_point_by_its_sigma_in_pixels_at_64(height):
    point = np.zeros((1, height, height, 3), np.uint8)
    point[:, height // 2] = 255  # a row: its profile across is the kernel's
    profile = sensor_fault("defocus", point, 5, generator())[0, :, 0, 0].astype(float)
    offsets = np.arange(height) - height // 2
    sigma = np.sqrt((profile * offsets**2).sum() / profile.sum())
    assert sigma * 64 / height == pytest.approx(1.5, rel=0.08)


def test_exposure_doubles_or_halves_linear_light():
    linear = np.linspace(0.02, 0.45, 200)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    frames = np.broadcast_to(np.rint(255 * srgb)[:, None], (1, 200, 8)).astype(np.uint8)
    frames = np.repeat(frames[..., None], 3, axis=-1)
    seen = set()
    for seed in range(10):
        values = sensor_fault("exposure", frames, 3, generator(seed))[0, :, 0, 0] / 255
        light = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
        stops = np.log2(light / linear).mean()
        assert abs(stops) == pytest.approx(1.0, abs=0.02)
        seen.add(round(stops))
    assert seen == {-1, 1}


def test_exposure_keeps_one_sign_an_episode_and_clips():
    white = np.full((20, 8, 8, 3), 250, np.uint8)
    for seed in range(6):
        exposed = sensor_fault("exposure", white, 5, generator(seed))
        assert np.ptp(exposed.astype(int)) == 0
        assert exposed[0, 0, 0, 0] in (255, *range(60, 140))


@pytest.mark.parametrize(("height", "rows"), [(64, 8), (128, 16), (32, 4), (8, 1)])
def test_dead_rows_are_the_same_all_episode(height, rows):
    moving = noise_frames((6, height, 40), 1)
    dead = sensor_fault("dead_rows", moving, 4, generator(3))
    still = [row for row in range(height) if (dead[:, row] == dead[0, row]).all()]
    assert len(still) == rows
    others = np.delete(np.arange(height), still)
    assert np.array_equal(dead[:, others], moving[:, others])
    for row in still:
        values = dead[0, row]
        assert (values == 0).all() or (values == 255).all() or np.array_equal(values, moving[0, row])


def test_dead_rows_are_of_all_three_kinds_and_nested():
    moving = noise_frames((2, 64, 40), 1)
    dead = sensor_fault("dead_rows", moving, 5, generator(0))[1]
    kinds = [
        sum((dead[row] == 0).all() for row in range(64)),
        sum((dead[row] == 255).all() for row in range(64)),
    ]
    assert min(*kinds, 16 - sum(kinds)) >= 1
    fewer = sensor_fault("dead_rows", moving, 3, generator(0))[1]
    changed = (fewer != moving[1]).any(axis=(1, 2))
    assert changed.sum() == 4
    assert np.array_equal(fewer[changed], dead[changed])


# Timing faults, and when a fault is active


def deliver(name, severity, live, active):
    """What a stream delivers of numbers that stand for frames."""
    stream = STREAMS[name](FAULTS[name].amount(severity), generator())
    frames = [np.full((2, 2, 3), number, np.uint8) for number in live]
    sights = [partial(np.copy, frame) for frame in frames]
    return [int(stream(see, on)[0, 0, 0]) for see, on in zip(sights, active, strict=True)]


@SETTINGS
@given(st.integers(0, 5), st.integers(0, 20), st.integers(1, 20))
def test_delay_is_constant_and_ends(severity, onset, duration):
    steps = range(30)
    active = [onset <= step < onset + duration for step in steps]
    late = int(FAULTS["delay"].amount(severity))
    expected = [max(step - late, 0) if on else step for step, on in zip(steps, active, strict=True)]
    assert deliver("delay", severity, steps, active) == expected


@SETTINGS
@given(st.integers(0, 20), st.integers(1, 20))
def test_freeze_holds_the_last_frame_before_it(onset, duration):
    steps = range(30)
    active = [onset <= step < onset + duration for step in steps]
    held = max(onset - 1, 0)
    assert deliver("freeze", 3, steps, active) == [
        held if on else step for step, on in zip(steps, active, strict=True)
    ]


class Counter(gym.Env):
    """Draws its own step as a grey level, on a ramp; needs no GL."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    render_mode = "rgb_array"
    observation_space = gym.spaces.Box(0, 255, (1,))
    action_space = gym.spaces.Discrete(2)
    spec = None

    def __init__(self, flat=False):
        self.flat, self.count = flat, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.count += 1
        return np.full(1, self.np_random.random(), np.float32), float(self.count), False, False, {}

    def render(self):
        frame = np.full((64, 64, 3), 2 * self.count, np.uint8)
        return frame if self.flat else frame + np.arange(64, dtype=np.uint8)[:, None, None]


def counter(fault, severity, flat=False, **options):
    return Faulty(Camera(Counter(flat), RenderSpec()), fault, severity, **options)


def episode(env, steps=40, seed=0):
    """Frames (T, H, W, 3), and for each whether the fault is active, and the state."""
    observation, info = env.reset(seed=seed)
    rows = [(observation["image"], info["fault"], observation["state"][0])]
    for _ in range(steps):
        observation, _, _, _, info = env.step(1)
        assert np.array_equal(env.frame(), observation["image"])
        rows.append((observation["image"], info["fault"], observation["state"][0]))
    frames, active, states = zip(*rows, strict=True)
    return np.stack(frames), np.array(active), np.array(states)


@pytest.mark.parametrize("name", [name for name in FAULTS if name not in RENDERED])
def test_severity_0_is_the_identity_through_the_same_code(name):
    clean = 2 * np.arange(41)[:, None] + np.arange(64)
    frames, _, _ = episode(counter(name, 0))
    assert np.array_equal(frames[:, :, 0, 0], clean)


@pytest.mark.parametrize("name", SENSOR)
def test_a_fault_is_active_from_its_onset_for_its_duration(name):
    clean, _, states = episode(counter(name, 0))
    frames, active, same = episode(counter(name, 5, onset=7, duration=9))
    assert active.tolist() == [7 <= step < 16 for step in range(41)]
    assert np.array_equal(frames[~active], clean[~active])
    assert (frames[active] != clean[active]).any()
    assert np.array_equal(states, same)


def test_a_freeze_lasts_as_long_as_its_severity_says():
    for severity, lasting in zip(range(6), [0, 2, 5, 10, 25, 36], strict=True):
        frames, active, _ = episode(counter("freeze", severity, onset=5))
        assert active.sum() == lasting
        assert (frames[active, 0, 0, 0] == 8).all()
        assert (frames[~active, 0, 0, 0] == 2 * np.flatnonzero(~active)).all()
    assert episode(counter("freeze", 5, onset=5, duration=3))[1].sum() == 3


spans = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 8)), max_size=4)


@pytest.mark.parametrize("name", [name for name in FAULTS if name not in RENDERED])
@settings(max_examples=10)
@given(spans, st.sampled_from([0, 5]))
def test_windows_are_episodes_of_a_fault_one_after_the_other(name, gaps, severity):
    windows, end = [], 0
    for gap, lasting in gaps:
        windows.append((end + gap, lasting))
        end += gap + lasting
    frames, active, states = episode(counter(name, severity, windows=windows))
    clean, idle, same = episode(counter(name, severity, windows=[]))
    assert not idle.any()
    assert np.array_equal(states, same)
    expected = clean.copy()
    for onset, lasting in windows:
        # The last window alone would draw other noise, and another stuck row.
        alone, on, _ = episode(counter(name, severity, onset=onset, duration=lasting))
        assert np.array_equal(active[onset : onset + lasting], on[onset : onset + lasting])
        expected[on] = alone[on]
    assert np.array_equal(frames[~active], clean[~active])
    if name not in ("gaussian_noise", "dead_rows"):
        assert np.array_equal(frames, expected)


def test_a_freeze_begins_anew_in_every_window():
    frames, active, _ = episode(counter("freeze", 1, windows=[(5, 9), (20, 1), (30, 9)]))
    assert np.flatnonzero(active).tolist() == [5, 6, 20, 30, 31]
    assert (frames[active, 0, 0, 0] == [8, 8, 38, 58, 58]).all()


@pytest.mark.gl
def test_a_rendered_fault_comes_and_goes():
    clean = rollout(camera("Reacher-v5"), steps=6)[0]
    frames = rollout(Faulty(camera("Reacher-v5"), "occluder", 4, windows=[(1, 2), (5, 1)]), steps=6)[0]
    changed = (frames != clean).any(axis=(1, 2, 3))
    assert np.flatnonzero(changed).tolist() == [1, 2, 5]


def test_randomness_is_of_the_seeds_alone():
    def run(seed, fault_seed, earlier=0):
        env = counter("gaussian_noise", 3, seed=fault_seed)
        for number in range(earlier):
            episode(env, 3, seed=number + 50)
        return episode(env, 5, seed=seed)[0]

    assert np.array_equal(run(3, 0), run(3, 0, earlier=2))
    assert not np.array_equal(run(3, 0), run(4, 0))
    assert not np.array_equal(run(3, 0), run(3, 1))


def test_resets_without_a_seed_go_on_repeatably():
    def two(env):
        env.reset(seed=1)
        return [env.reset()[0]["image"] for _ in range(2)]

    first, second = two(counter("gaussian_noise", 3))
    again, _ = two(counter("gaussian_noise", 3))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, second)


def test_a_fault_that_does_nothing_is_an_error():
    with pytest.raises(
        FaultError, match=r"defocus at severity 3 changes no pixel of Counter: expected a frame"
    ):
        counter("defocus", 3, flat=True).reset()
    env = counter("defocus", 3, flat=True, onset=2)
    env.reset()
    env.step(0)
    with pytest.raises(FaultError, match="defocus at severity 3"):
        env.step(0)
    counter("defocus", 0, flat=True).reset()
    counter("gaussian_noise", 1, flat=True).reset()
    for seed in range(6):  # a row that is stuck, or black on black, may well show nothing yet
        counter("dead_rows", 1, flat=True, seed=seed).reset()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fault": "light_levels"}, "no fault 'light_levels'; nearest: light_level"),
        ({"severity": 6}, "jpeg: expected a severity from 0 to 5, received 6"),
        ({"onset": -1}, "expected onset to be at least 0, received -1"),
        ({"duration": 0}, "expected duration to be at least 1, received 0"),
        ({"seed": -3}, "expected seed to be at least 0, received -3"),
        ({"windows": [(1, 2)], "onset": 3}, r"expected windows or an onset .* received both \(3 and None\)"),
        ({"windows": [(1, 2)], "duration": 3}, r"received both \(0 and 3\)"),
        ({"windows": [(-1, 2)]}, r"an onset from 0 and a duration from 1, received \(-1, 2\)"),
        ({"windows": [(4, 0)]}, r"received \(4, 0\)"),
        (
            {"windows": [(5, 2), (1, 2)]},
            r"in their order with a step between, received \(5, 2\) before .* 1;",
        ),
        ({"windows": [(1, 3), (4, 2)]}, r"received \(1, 3\) before one at 4; those that touch are one"),
        ({"fault": "occluder"}, "occluder: expected a MuJoCo environment, received Counter"),
    ],
)
def test_what_cannot_work_is_refused(change, message):
    with pytest.raises(FaultError, match=message):
        counter(**{"fault": "jpeg", "severity": 1, **change})


def test_faulty_wants_a_camera_and_a_reset():
    with pytest.raises(FaultError, match="expected a Camera, received Counter"):
        Faulty(Counter(), "jpeg", 1)
    with pytest.raises(FaultError, match="expected a reset before it"):
        counter("jpeg", 1).frame()


def test_missing_photographs_are_answered_with_the_pip_line(monkeypatch):
    monkeypatch.setattr(photographs, "SOURCES", {"no_such_package": ("a.jpg",)})
    with pytest.raises(FaultError, match=r"photographs of no_such_package.*pip install scikit-learn"):
        photographs.photographs()


# Geometry


@SETTINGS
@given(st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda axis: np.linalg.norm(axis) > 0.1), st.floats(-3, 3))
def test_a_rotation_turns_by_its_angle_about_its_axis(axis, angle):
    axis = np.array(axis) / np.linalg.norm(axis)
    turn = rotation(axis, angle)
    assert np.allclose(turn @ turn.T, np.eye(3))
    assert np.allclose(turn @ axis, axis)
    assert np.trace(turn) == pytest.approx(1 + 2 * np.cos(angle))
    assert np.array_equal(rotation(axis, 0.0), np.eye(3))


# Rendered faults on real tasks


CAMERAS = {}


@pytest.fixture(scope="module", autouse=True)
def _close_cameras():
    yield
    while CAMERAS:
        CAMERAS.popitem()[1].close()


def camera(env_id):
    if env_id not in CAMERAS:
        CAMERAS[env_id] = make(env_id, RenderSpec.fast(env_id), spread=0.5)
    return CAMERAS[env_id]


def rollout(env, steps=3, seed=0):
    """Frames, positions and rewards of a few steps that are the same for the same seed."""
    observation, info = env.reset(seed=seed)
    env.action_space.seed(seed)
    frames, qpos, rewards = [observation["image"]], [info["qpos"]], []
    for _ in range(steps):
        observation, reward, _, _, info = env.step(env.action_space.sample())
        frames.append(observation["image"])
        qpos.append(info["qpos"])
        rewards.append(reward)
    return np.stack(frames), np.stack(qpos), np.array(rewards)


def needs_photographs(name):
    if name == "texture":
        try:
            photographs.photographs()
        except FaultError as missing:
            pytest.skip(str(missing))


@pytest.mark.gl
@pytest.mark.parametrize("env_id", SWEEP)
@pytest.mark.parametrize("name", RENDERED)
def test_a_rendered_fault_shows_on_every_task_and_leaves_physics_alone(env_id, name):
    needs_photographs(name)
    clean, qpos, rewards = rollout(camera(env_id))
    changes = []
    for severity in (0, 1, 5):
        frames, same_qpos, same_rewards = rollout(Faulty(camera(env_id), name, severity))
        assert np.array_equal(qpos, same_qpos)
        assert np.array_equal(rewards, same_rewards)
        changes.append(np.abs(frames.astype(float) - clean).mean(axis=(1, 2, 3)))
    nominal, mild, severe = changes
    assert (nominal == 0).all()
    assert (mild > 0.005).all()
    assert (severe > 0.4).all()
    assert severe.mean() > mild.mean()


@pytest.mark.gl
def test_the_environments_model_stays_as_it_is():
    env = camera("Reacher-v5")
    env.reset(seed=0)
    before = np.empty(mujoco.mj_sizeModel(env.unwrapped.model), np.uint8)
    after = np.empty_like(before)
    mujoco.mj_saveModel(env.unwrapped.model, None, before)
    for name in RENDERED:
        needs_photographs(name)
        rollout(Faulty(env, name, 5))
    mujoco.mj_saveModel(env.unwrapped.model, None, after)
    assert np.array_equal(before, after)


@pytest.mark.gl
@pytest.mark.parametrize("name", RENDERED)
def test_a_rendered_fault_is_of_its_episode_and_ends(name):
    needs_photographs(name)
    env = Faulty(camera("HalfCheetah-v5"), name, 4, onset=1, duration=2)
    clean = rollout(camera("HalfCheetah-v5"))[0]
    frames, again = rollout(env)[0], rollout(env)[0]
    assert np.array_equal(frames, again)
    assert np.array_equal(frames[[0, 3]], clean[[0, 3]])
    assert all((frames[step] != clean[step]).any() for step in (1, 2))


@pytest.mark.gl
@pytest.mark.parametrize("name", RENDERED)
def test_a_rendered_fault_draws_a_step_once_and_what_it_would_have_drawn_twice(name, monkeypatch):
    needs_photographs(name)
    drawn, render = [], Renderer.render
    monkeypatch.setattr(Renderer, "render", lambda self, *rest: drawn.append(self) or render(self, *rest))
    frames = rollout(Faulty(camera("Reacher-v5"), name, 4))[0]
    assert len(drawn) == 4 + 1, "only the first is drawn twice, to see that the fault shows"
    drawn.clear()
    late = rollout(Faulty(camera("Reacher-v5"), name, 4, onset=3))[0]
    assert len(drawn) == 4 + 1
    assert np.array_equal(late[3], frames[3])


@pytest.mark.gl
def test_what_a_frozen_camera_does_not_show_is_not_drawn(monkeypatch):
    drawn, render = [], Renderer.render
    monkeypatch.setattr(Renderer, "render", lambda self, *rest: drawn.append(self) or render(self, *rest))
    rollout(Faulty(camera("Reacher-v5"), "freeze", 1, onset=2))
    assert len(drawn) == 2, "the first two; the other two are held"


@pytest.mark.gl
@pytest.mark.parametrize(
    "name", ["light_direction", "camera_pose", "colour_shift", "distractors", "occluder"]
)
def test_other_episodes_draw_other_faults(name):
    env = camera("Reacher-v5")
    frames = {Faulty(env, name, 4, seed=seed).reset(seed=0)[0]["image"].tobytes() for seed in range(4)}
    assert len(frames) >= 3


@pytest.mark.gl
@pytest.mark.parametrize("env_id", ["Reacher-v5", "HalfCheetah-v5", "Swimmer-v5"])
def test_the_occluder_covers_its_share_of_the_frame_wherever_it_is(env_id):
    for seed in range(3):
        for severity, percent in enumerate(FAULTS["occluder"].severities, 1):
            env = Faulty(camera(env_id), "occluder", severity, seed=seed)
            env.reset(seed=0)
            changed = (env.frame() != camera(env_id).frame()).any(axis=2)
            side = np.sqrt(percent / 100) * 64
            rows, columns = (np.flatnonzero(changed.any(axis=axis)) for axis in (1, 0))
            assert np.ptp(rows) + 1 == pytest.approx(side, abs=2)
            assert np.ptp(columns) + 1 == pytest.approx(side, abs=2)


@pytest.mark.gl
def test_the_light_level_is_proportional():
    env = camera("Reacher-v5")
    clean = rollout(env)[0].astype(float)
    for severity, factor in enumerate(FAULTS["light_level"].severities, 1):
        dim = rollout(Faulty(env, "light_level", severity))[0]
        assert dim.mean() / clean.mean() == pytest.approx(factor, abs=0.02)


@pytest.mark.gl
@pytest.mark.parametrize("env_id", ["HalfCheetah-v5", "Reacher-v5", "InvertedPendulum-v5"])
def test_photographs_blend_in_as_alpha_says(env_id):
    needs_photographs("texture")
    frames = [
        Faulty(camera(env_id), "texture", severity).reset(seed=0)[0]["image"].astype(float)
        for severity in range(6)
    ]
    photograph = (frames[5] - frames[0])[:12].ravel()
    for severity, alpha in enumerate(FAULTS["texture"].severities, 1):
        blended = (frames[severity] - frames[0])[:12].ravel() @ photograph / (photograph @ photograph)
        assert blended == pytest.approx(alpha, abs=0.03)


def view_after(env):
    """Where the camera of the last drawn frame stood: (position, forward)."""
    scene = env._renderer.scene
    view = View.of(scene, Setting.of(env))
    return view.position, view.forward


@pytest.mark.gl
@pytest.mark.parametrize("env_id", TASKS)
def test_the_camera_moves_by_its_angle_and_stays_above_the_floor(env_id):
    env = camera(env_id)
    env.reset(seed=0)
    env.frame()
    before, forward = view_after(env)
    floor, distance = Setting.of(env).floor, env.render_spec.distance
    for seed in range(8):
        Faulty(env, "camera_pose", 5, seed=seed).reset(seed=0)
        after, turned = view_after(env)
        assert after[2] > floor
        assert np.allclose(after + distance * turned, before + distance * forward, atol=1e-4 * distance)
        assert np.degrees(np.arccos(np.clip(turned @ forward, -1, 1))) <= 27.1


@pytest.mark.gl
def test_distractors_circle_at_severities_4_and_5_only():
    env = camera("InvertedPendulum-v5")

    def moved(severity):
        drawn = Faulty(env, "distractors", severity, seed=1)
        frames = rollout(drawn, steps=10)[0][:, :20].astype(int)  # above the pole
        return np.abs(frames[10] - frames[0]).max()

    assert moved(3) == 0
    assert moved(5) > 20


@pytest.mark.gl
def test_a_scene_without_lights_is_told():
    env = make("Reacher-v5", RenderSpec.fast("Reacher-v5"))
    env.unwrapped.model.vis.headlight.active = 0
    with pytest.raises(
        FaultError, match=r"light_level at severity 5 .*ReacherEnv: expected something that a light"
    ):
        Faulty(env, "light_level", 5).reset(seed=0)
    env.close()


@pytest.mark.gl
def test_a_named_camera_is_faulted_too():
    env = make("HalfCheetah-v5", RenderSpec(camera="track"))
    clean = rollout(env)[0]
    for name in RENDERED:
        needs_photographs(name)
        assert (rollout(Faulty(env, name, 3))[0] != clean).any(axis=(1, 2, 3)).all()
    env.close()


@pytest.mark.gl
def test_closing_frees_and_a_reset_starts_again():
    needs_photographs("texture")
    env = Faulty(make("Reacher-v5", RenderSpec.fast("Reacher-v5")), "texture", 3)
    first = env.reset(seed=0)[0]["image"]
    renderer = env._scenery._renderer
    env.close()
    env.close()
    assert not renderer._finalizer.alive
    assert np.array_equal(env.reset(seed=0)[0]["image"], first)
    assert env.describe()["fault"] == {"name": "texture", "severity": 3}
    assert env.render_spec == RenderSpec.fast("Reacher-v5")
    env.close()
