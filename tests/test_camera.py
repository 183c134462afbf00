"""The camera: what a spec accepts, what a frame promises, and what is left untouched."""

import json
import os
import pickle
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from functools import partial
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given
from hypothesis import strategies as st

from robovae_envs import gl
from robovae_envs.camera import Camera, RenderSpec, describe_joints, make
from robovae_envs.errors import EnvError

ROOT = Path(__file__).parents[1]
REACHER = RenderSpec.fast("Reacher-v5")


@pytest.fixture
def reacher():
    env = make("Reacher-v5", REACHER)
    yield env
    env.close()


def psnr(a, b):
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2))


# RenderSpec


@given(
    st.builds(
        RenderSpec,
        height=st.integers(1, 4096),
        width=st.integers(1, 4096),
        camera=st.none() | st.text(),
        lookat=st.none() | st.tuples(*[st.floats(-9, 9)] * 3),
        distance=st.none() | st.floats(0.01, 99),
        samples=st.integers(0, 64),
        slices=st.none() | st.integers(3, 99),
    )
)
def test_a_spec_survives_json(spec):
    assert RenderSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_a_spec_is_frozen_and_hashable():
    with pytest.raises(FrozenInstanceError):
        REACHER.height = 1
    assert len({REACHER, RenderSpec.fast("Reacher-v5"), RenderSpec.full("Reacher-v5")}) == 2


def test_unknown_keys_of_a_spec_are_refused():
    with pytest.raises(EnvError, match=r"unknown key\(s\) \['hieght'\]"):
        RenderSpec.from_dict({"hieght": 64})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"height": 0}, "height: expected an integer from 1"),
        ({"width": 64.0}, "width: expected an integer"),
        ({"samples": True}, "samples: expected an integer"),
        ({"slices": 2}, "slices: expected an integer from 3"),
        ({"distance": 0.0}, "distance: expected metres above 0"),
        ({"distance": float("nan")}, "distance: expected metres above 0"),
        ({"lookat": (0.0, 0.0)}, r"lookat: expected \(x, y, z\)"),
    ],
)
def test_values_out_of_range_are_refused(values, message):
    with pytest.raises(EnvError, match=message):
        RenderSpec(**values)


def test_presets_are_framed_for_every_version_of_a_task():
    assert RenderSpec.fast("Reacher-v4") == RenderSpec.fast("Reacher-v5") == RenderSpec.fast("Reacher")
    assert RenderSpec.fast("Reacher-v5").distance is not None
    assert RenderSpec.fast("Unheard-v5").distance is None


def test_a_narrow_frame_stands_back_to_show_the_same_width():
    assert RenderSpec.fast("Reacher-v5", 128, 64).distance == pytest.approx(2 * REACHER.distance)
    assert RenderSpec.fast("Reacher-v5", 64, 128).distance == pytest.approx(REACHER.distance)


# OpenGL's settings


def test_gl_settings_of_the_user_stay(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    monkeypatch.setenv("LP_NUM_THREADS", "3")
    gl.prepare_gl()
    assert (os.environ["MUJOCO_GL"], os.environ["LP_NUM_THREADS"]) == ("osmesa", "3")


def test_gl_settings_on_a_headless_linux(monkeypatch):
    for name in ("MUJOCO_GL", "LP_NUM_THREADS", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    gl.prepare_gl()
    assert (os.environ["MUJOCO_GL"], os.environ["LP_NUM_THREADS"]) == ("egl", "0")
    monkeypatch.delenv("MUJOCO_GL")
    monkeypatch.setenv("DISPLAY", ":0")
    gl.prepare_gl()
    assert "MUJOCO_GL" not in os.environ


def failure_of(code: str, *path: Path, **variables: str) -> str:
    """The last line on stderr of a Python process that fails."""
    places = os.pathsep.join(str(place) for place in (*path, ROOT / "envs", ROOT))
    environment = {**os.environ, "PYTHONPATH": places, **variables}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode != 0
    return done.stderr.strip().splitlines()[-1]


def test_a_missing_gl_library_is_one_line_that_names_packages(tmp_path):
    reason = "'NoneType' object has no attribute 'eglQueryString'"  # what mujoco raises without libEGL
    (tmp_path / "mujoco.py").write_text(f'raise AttributeError("{reason}")')
    line = failure_of("import robovae_envs.camera", tmp_path, MUJOCO_GL="egl")
    assert f"EnvError: OpenGL does not start (MUJOCO_GL=egl; AttributeError: {reason})" in line
    assert "apt-get install -y libegl1" in line


def test_a_wrong_backend_is_one_line():
    line = failure_of("import robovae_envs.camera", MUJOCO_GL="nonsense")
    assert "EnvError: OpenGL does not start (MUJOCO_GL=nonsense" in line


@pytest.mark.gl
def test_a_context_that_does_not_open_is_an_env_error(reacher, monkeypatch):
    monkeypatch.setattr(
        "robovae_envs.renderer._open_window", lambda *_: (_ for _ in ()).throw(RuntimeError("no"))
    )
    with pytest.raises(EnvError, match=r"RuntimeError: no.*apt-get install"):
        reacher.reset()


# make


@pytest.mark.parametrize(
    ("name", "nearest"), [("Reachr-v5", "Reacher-v5"), ("halfcheetah-v5", "HalfCheetah-v5"), ("!", "none")]
)
def test_an_unknown_environment_is_answered_with_the_nearest_names(name, nearest):
    with pytest.raises(EnvError, match=rf"no environment '{name}'; the nearest names: {nearest}"):
        make(name, RenderSpec.fast())


def test_an_environment_that_cannot_be_made_says_why():
    with pytest.raises(EnvError, match=r"nopackage:Foo-v0 cannot be made.*nopackage"):
        make("nopackage:Foo-v0", RenderSpec.fast())
    with pytest.raises(EnvError, match=r"Reacher-v5 cannot be made: TypeError.*unheard_of"):
        make("Reacher-v5", REACHER, unheard_of=1)


@pytest.mark.gl
def test_make_is_a_picklable_factory():
    factory = pickle.loads(pickle.dumps(partial(make, "Reacher-v5", REACHER, spread=1.0)))
    env = factory()
    assert env.reset(seed=0)[0]["image"].shape == (64, 64, 3)
    assert env.describe()["spread"] == 1.0
    env.close()


# What a frame promises


@pytest.mark.gl
@pytest.mark.filterwarnings("ignore:.*different from the unwrapped version")
@pytest.mark.filterwarnings("ignore:.*(minimum|maximum) value is (-?)infinity")
@pytest.mark.filterwarnings(
    "ignore:.*For Box action spaces, we recommend using a symmetric and normalized space"
)
@pytest.mark.filterwarnings("ignore:.*No render fps was declared")
def test_camera_passes_gymnasiums_checker(reacher):
    check_env(reacher, skip_render_check=True)


@pytest.mark.gl
@pytest.mark.parametrize("size", [(64, 64), (48, 96), (96, 33)])
def test_frames_are_contiguous_bytes_in_memory_of_their_own(size):
    env = make("Reacher-v5", RenderSpec.fast("Reacher-v5", *size))
    first, _ = env.reset(seed=0)
    kept = first["image"].copy()
    second, *_ = env.step(env.action_space.high)
    assert first["image"].shape == (*size, 3)
    assert first["image"].dtype == np.uint8
    assert all(
        frame.flags.c_contiguous and frame.flags.owndata for frame in (first["image"], second["image"])
    )
    assert not np.shares_memory(first["image"], second["image"])
    assert np.array_equal(first["image"], kept)
    assert not np.array_equal(first["image"], second["image"])
    assert env.observation_space.contains(first)
    env.close()


@pytest.mark.gl
def test_info_holds_copies_of_the_joints(reacher):
    _, info = reacher.reset(seed=0)
    qpos = info["qpos"].copy()
    reacher.step(reacher.action_space.high)
    assert info["qpos"].dtype == info["qvel"].dtype == np.float64
    assert np.array_equal(info["qpos"], qpos)
    assert not np.array_equal(reacher.unwrapped.data.qpos, qpos)


@pytest.mark.gl
def test_a_frame_shows_exactly_the_qpos_beside_it(reacher):
    reacher.reset(seed=0)
    for _ in range(5):
        observation, _, _, _, info = reacher.step(reacher.action_space.high)
    lagging = reacher.unwrapped.data.geom_xpos.copy()
    again = make("Reacher-v5", REACHER)
    again.reset(seed=1)
    again.unwrapped.set_state(info["qpos"], 0 * info["qvel"])
    assert np.array_equal(again.frame(), observation["image"])
    assert not np.allclose(lagging, again.unwrapped.data.geom_xpos)  # what Gymnasium's own render shows
    again.close()


@pytest.mark.gl
@pytest.mark.parametrize("env_id", ["Reacher-v5", "Ant-v5"])
def test_drawing_leaves_physics_and_random_numbers_alone(env_id):
    plain, seen = gym.make(env_id), make(env_id, RenderSpec.fast(env_id))
    plain.action_space.seed(0)
    a, b = plain.reset(seed=3)[0], seen.reset(seed=3)[0]["state"]
    assert np.array_equal(a, b)
    for _ in range(20):
        action = plain.action_space.sample()
        a, reward, *_ = plain.step(action)
        b, same, *_ = seen.step(action)
        assert np.array_equal(a, b["state"])
        assert reward == same
    assert plain.unwrapped.np_random.bit_generator.state == seen.unwrapped.np_random.bit_generator.state
    plain.close()
    seen.close()


@pytest.mark.gl
def test_later_edits_of_the_model_are_seen(reacher):
    before = reacher.reset(seed=0)[0]["image"]
    model = reacher.unwrapped.model
    model.geom_rgba[model.geom("target").id] = (0, 1, 0, 1)
    after = reacher.frame()
    green = after[..., 1].astype(int) - before[..., 1]
    assert green.max() > 50
    model.vis.headlight.diffuse[:] = 0
    assert reacher.frame().mean() < 0.8 * after.mean()


@pytest.mark.gl
@pytest.mark.parametrize("env_id", ["Reacher-v5", "Hopper-v5"])  # Hopper has a fine floor
def test_the_environments_own_render_is_unaffected(env_id):
    def quality(model):
        size = model.vis.global_
        return repr(model.vis.quality), size.offwidth, size.offheight, model.geom_size.tolist()

    def own_render(env):
        env.reset(seed=0)
        return [env.render(), [env.step(env.action_space.high), env.render()][1]]

    alone = gym.make(env_id, render_mode="rgb_array", width=80, height=60)
    untouched, expected = quality(alone.unwrapped.model), own_render(alone)
    alone.close()
    both = make(env_id, RenderSpec.fast(env_id), render_mode="rgb_array", width=80, height=60)
    both.reset(seed=0)
    assert quality(both.unwrapped.model) == untouched
    assert np.array_equal(own_render(both), expected)
    both.close()


@pytest.mark.gl
def test_cameras_live_side_by_side_and_close_twice(reacher):
    other = make("InvertedPendulum-v5", RenderSpec.fast("InvertedPendulum-v5", 32, 32))
    first, second = reacher.reset(seed=0)[0]["image"], other.reset(seed=0)[0]["image"]
    assert np.array_equal(reacher.frame(), first)
    assert np.array_equal(other.frame(), second)
    other.close()
    other.close()
    assert np.array_equal(reacher.frame(), first)


@pytest.mark.gl
def test_a_closed_camera_starts_again_at_reset(reacher):
    first = reacher.reset(seed=0)[0]["image"]
    reacher.close()
    assert np.array_equal(reacher.reset(seed=0)[0]["image"], first)


@pytest.mark.gl
def test_a_camera_of_the_model_can_be_named_and_wrong_names_are_answered():
    spec = RenderSpec(camera="track")
    env = make("HalfCheetah-v5", spec)
    assert env.reset(seed=0)[0]["image"].std() > 10
    env.close()
    for wrong, message in [
        (replace(spec, camera="trak"), r"no camera 'trak'; it has \['track'\]"),
        (replace(RenderSpec.fast("HalfCheetah-v5"), track="tors"), "no body 'tors'; it has .*'torso'"),
    ]:
        env = make("HalfCheetah-v5", wrong)
        with pytest.raises(EnvError, match=message):
            env.reset()
        env.close()


@pytest.mark.gl
def test_describe_is_json_and_names_the_joints(reacher):
    told = json.loads(json.dumps(reacher.describe()))
    assert told["env_id"] == "Reacher-v5"
    assert RenderSpec.from_dict(told["render_spec"]) == reacher.render_spec == REACHER
    assert [joint["name"] for joint in told["joints"]] == ["joint0", "joint1", "target_x", "target_y"]
    assert told["joints"][1] == {
        "name": "joint1",
        "type": "hinge",
        "qpos_index": 1,
        "qvel_index": 1,
        "limited": True,
        "range": [-3.0, 3.0],
    }
    assert {"gymnasium", "mujoco", "python", "numpy"} <= set(told["versions"])


def test_joint_types_are_told_apart():
    mujoco = pytest.importorskip("mujoco")
    kinds = ["free", "ball", "slide", "hinge"]
    bodies = "".join(f'<body><joint type="{kind}"/><geom size=".1"/></body>' for kind in kinds)
    model = mujoco.MjModel.from_xml_string(f"<mujoco><worldbody>{bodies}</worldbody></mujoco>")
    joints = describe_joints(model)
    assert [joint["type"] for joint in joints] == kinds
    assert [joint["qpos_index"] for joint in joints] == [0, 7, 11, 12]
    assert [joint["qvel_index"] for joint in joints] == [0, 6, 9, 10]


# Other environments


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_environment_without_mujoco_is_drawn_by_its_own_render():
    env = make("CartPole-v1", RenderSpec.fast("CartPole-v1", 48, 72))
    observation, info = env.reset(seed=0)
    assert observation["image"].shape == (48, 72, 3)
    assert observation["image"].flags.c_contiguous
    assert observation["image"].std() > 5
    assert observation["state"].shape == (4,)
    assert "qpos" not in info
    assert env.describe()["joints"] == []
    env.close()


def test_an_environment_that_draws_itself_takes_no_camera():
    with pytest.raises(EnvError, match=r"CartPole-v1 draws itself.*leave camera and pose at None"):
        make("CartPole-v1", RenderSpec.fast("Reacher-v5"))


def test_an_environment_that_cannot_draw_is_refused():
    with pytest.raises(EnvError, match=r'render_mode=None; make it with render_mode="rgb_array"'):
        Camera(gym.make("CartPole-v1"), RenderSpec())


@pytest.mark.gl
@pytest.mark.filterwarnings("ignore")  # the package warns about its own older versions when imported
@pytest.mark.parametrize("env_id", ["AdroitHandDoor-v1", "AntMaze_UMaze-v5", "PointMaze_UMaze-v3"])
def test_third_party_mujoco_environments_go_through_our_renderer(env_id):
    pytest.importorskip("gymnasium_robotics")
    env = make(env_id, RenderSpec.fast(env_id))
    observation, info = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    assert observation["image"].std() > 10
    assert info["qpos"].shape == (env.unwrapped.model.nq,)
    assert None not in (env.render_spec.lookat, env.render_spec.distance, env.render_spec.azimuth)
    frames = [env.step(env.action_space.sample())[0]["image"] for _ in range(10)]
    assert not np.array_equal(frames[0], frames[-1])
    json.dumps(env.describe())
    env.close()
