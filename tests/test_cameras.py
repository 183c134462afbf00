"""The stock cameras: `fast` looks like `full`, no geom disappears, robots fill the frame and stay in it."""

from dataclasses import replace
from functools import cache

import gymnasium as gym
import numpy as np
import pytest

from robovae_envs.camera import RenderSpec, make
from robovae_envs.cameras import POSES, stock_pose
from robovae_envs.renderer import Renderer
from robovae_envs.simulator import mujoco
from robovae_envs.starts import SpreadStart

TASKS = list(POSES)
SHARP = {"samples": 0, "supersample": 1}  # pixels of one geom each, as counting needs


@cache
def task(env_id):
    """The model of a task, and states of it: (N, nq), half from spread starts, then pushed at random."""
    env = SpreadStart(gym.make(env_id, disable_env_checker=True))
    states = []
    for seed in range(12):
        env.scale = float(seed % 2)
        env.reset(seed=seed)
        env.action_space.seed(seed)
        states.append(env.unwrapped.data.qpos.copy())
        for action in [env.action_space.sample() for _ in range(6)]:
            if any(env.step(action)[2] for _ in range(5)):
                break
            states.append(env.unwrapped.data.qpos.copy())
    return env.unwrapped.model, np.array(states)


def frames(env_id, spec, states=None, segment=False):
    """Frames (N, H, W, 3) of `states`, or of the task's own."""
    model, own = task(env_id)
    data, renderer = mujoco.MjData(model), Renderer(model, spec)
    for flag in ("mjRND_SEGMENT", "mjRND_IDCOLOR") if segment else ():
        renderer.scene.flags[int(getattr(mujoco.mjtRndFlag, flag))] = True
    drawn = []
    for qpos in own if states is None else states:
        data.qpos[:] = qpos
        drawn.append(renderer.render(data))
    ids = {
        geom.segid: geom.objid
        for geom in renderer.scene.geoms[: renderer.scene.ngeom]
        if geom.objtype == GEOM
    }
    renderer.close()
    if not segment:
        return np.stack(drawn)
    numbers = np.stack(drawn).astype(int) @ [1, 256, 65536] - 1
    return np.vectorize(lambda number: ids.get(number, -1))(numbers)


GEOM = int(mujoco.mjtObj.mjOBJ_GEOM)


def psnr(a, b):
    """PSNR of each frame, dB: (N,)."""
    return 10 * np.log10(255**2 / ((a.astype(float) - b) ** 2).mean(axis=(1, 2, 3)))


def pixels(env_id, spec, states=None):
    """How many pixels each geom has in each state: (N, ngeom)."""
    seen = frames(env_id, replace(spec, **SHARP), states, segment=True)
    return (seen[..., None] == np.arange(task(env_id)[0].ngeom)).sum(axis=(1, 2))


def robot_mask(env_id, states=None):
    """Where the robot is: (N, H, W)."""
    model = task(env_id)[0]
    things = {model.body(name).id for name in ("target", "object", "goal") if name in _bodies(model)}
    robot = [geom for geom in range(model.ngeom) if model.geom_bodyid[geom] not in {0, *things}]
    return np.isin(frames(env_id, replace(RenderSpec.fast(env_id), **SHARP), states, segment=True), robot)


def _bodies(model):
    return {model.body(index).name for index in range(model.nbody)}


def test_every_stock_task_has_a_pose():
    stock = {
        name
        for name, spec in gym.registry.items()
        if "envs.mujoco" in str(spec.entry_point) and "-v5" in name
    }
    assert stock == set(TASKS)
    assert stock_pose("Acrobot-v1") is None
    assert stock_pose(None) is None


@pytest.mark.gl
@pytest.mark.parametrize("env_id", TASKS)
def test_fast_looks_like_full_without_shadows(env_id):
    full = frames(env_id, replace(RenderSpec.full(env_id), shadows=False))
    likeness = psnr(frames(env_id, RenderSpec.fast(env_id)), full)
    assert likeness.mean() > 32
    assert likeness.min() > 30
    assert full.std() > 5


@pytest.mark.gl
@pytest.mark.parametrize(
    ("env_id", "change"),
    [
        ("Ant-v5", {"samples": 0}),
        ("Ant-v5", {"stacks": 3}),
        ("HalfCheetah-v5", {"effects": False}),
        ("Pusher-v5", {"floor_cells": 4}),
        ("Walker2d-v5", {"samples": 0, "supersample": 2}),
    ],
)
def test_the_likeness_would_notice_a_cheaper_quality(env_id, change):
    full = frames(env_id, replace(RenderSpec.full(env_id), shadows=False))
    assert psnr(frames(env_id, replace(RenderSpec.fast(env_id), **change)), full).mean() < 30


@pytest.mark.gl
def test_full_has_shadows():
    full = RenderSpec.full("HalfCheetah-v5")
    assert (
        psnr(frames("HalfCheetah-v5", full), frames("HalfCheetah-v5", replace(full, shadows=False))).max()
        < 50
    )


@pytest.mark.gl
@pytest.mark.parametrize("env_id", TASKS)
def test_no_geom_disappears(env_id):
    there, drawn = pixels(env_id, RenderSpec.full(env_id)), pixels(env_id, RenderSpec.fast(env_id))
    assert (there >= 6).any(axis=0).sum() >= 3
    assert (drawn[there >= 6] >= 2).all()  # edges move by a pixel, but nothing goes
    assert (drawn[there >= 20] >= 0.6 * there[there >= 20]).all()


@pytest.mark.gl
@pytest.mark.parametrize("env_id", TASKS)
def test_the_robot_fills_the_frame_and_stays_in_it(env_id):
    robot = robot_mask(env_id)
    rim = np.ones(robot.shape[1:], bool)
    rim[1:-1, 1:-1] = False
    assert (robot & rim).any(axis=(1, 2)).mean() <= 0.03
    assert robot.any(axis=(1, 2)).all()
    everywhere = robot.any(axis=0, keepdims=True)
    assert max(np.ptp(_where(everywhere, axis)) for axis in (1, 2)) >= 36


def _where(mask, axis):
    """First and last row or column of the mask, for each frame: (N, 2)."""
    line = mask.any(axis=3 - axis)
    return np.stack([line.argmax(axis=1), line.shape[1] - 1 - line[:, ::-1].argmax(axis=1)], axis=1)


@pytest.mark.gl
@pytest.mark.parametrize("env_id", ["InvertedPendulum-v5", "InvertedDoublePendulum-v5"])
def test_the_cart_stays_in_view_at_both_ends_of_its_rail(env_id):
    model = task(env_id)[0]
    ends = np.zeros((3, model.nq))
    ends[:, 0] = (0.0, *model.jnt_range[0])
    cart = pixels(env_id, RenderSpec.fast(env_id), ends)[:, model.geom("cart").id]
    assert (cart[1:] >= 0.85 * cart[0]).all()
    assert not robot_mask(env_id, ends)[:, :, [0, -1]].any()


@pytest.mark.gl
def test_small_objects_are_seen():
    target = pixels("Reacher-v5", RenderSpec.fast("Reacher-v5"))[:, task("Reacher-v5")[0].geom("target").id]
    assert (target >= 3).mean() >= 0.9  # else the arm covers it
    model = task("Pusher-v5")[0]
    white = int(np.flatnonzero(model.geom_bodyid == model.body("object").id)[0])
    assert (pixels("Pusher-v5", RenderSpec.fast("Pusher-v5"))[:, white] >= 4).mean() >= 0.95


@pytest.mark.gl
def test_the_camera_follows_where_the_robot_goes():
    env = make("HalfCheetah-v5", RenderSpec.fast("HalfCheetah-v5"))
    env.reset(seed=0)
    base = env.unwrapped
    qpos, qvel = base.data.qpos.copy(), base.data.qvel.copy()
    columns = []
    for travelled in (0.0, 100.0):
        qpos[0] = travelled
        base.set_state(qpos, qvel)
        columns.append(np.mean(_where(robot_mask("HalfCheetah-v5", [qpos]), 2)))
    assert columns[0] == pytest.approx(columns[1], abs=1)
    env.close()
