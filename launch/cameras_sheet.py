"""Draw the contact sheet of all stock cameras: a row a task, frames of random states along it.

    python launch/cameras_sheet.py --out docs/cameras.png

Look at it after every change of a pose: the robot fills the frame and never leaves it.
"""

from pathlib import Path

import cv2
import gymnasium as gym
import numpy as np
import tyro
from numpy.typing import NDArray

from robovae_envs.camera import Camera, RenderSpec
from robovae_envs.cameras import POSES
from robovae_envs.starts import SpreadStart

Frames = NDArray[np.uint8]


def random_frames(env_id: str, size: int, count: int, seed: int) -> Frames:
    """Frames (count, size, size, 3) after ever more random pushes, every other one from a spread start."""
    frames = []
    for index in range(count):
        task = gym.make(env_id, disable_env_checker=True)
        env = Camera(SpreadStart(task, scale=float(index % 2)), RenderSpec.fast(env_id, size, size))
        frames.append(_pushed(env, seed + index, steps=10 * (index // 2)))
        env.close()
    return np.stack(frames)


def _pushed(env: Camera, seed: int, steps: int) -> Frames:
    """The frame after `steps` of random actions, each held for five steps, or at the end of the episode."""
    observation, _ = env.reset(seed=seed)
    env.action_space.seed(seed)
    action = env.action_space.sample()
    for step in range(steps):
        action = action if step % 5 else env.action_space.sample()
        observation, _, terminated, _, _ = env.step(action)
        if terminated:
            break
    return np.asarray(observation["image"])


def labelled_row(name: str, frames: Frames, zoom: int) -> Frames:
    """One row of the sheet: the frames side by side, enlarged, below their task's name."""
    strip = np.concatenate(list(frames.repeat(zoom, 1).repeat(zoom, 2)), axis=1)
    label = np.full((22, strip.shape[1], 3), 255, np.uint8)
    cv2.putText(label, name, (4, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([label, strip])


def main(
    out: Path = Path("docs/cameras.png"),
    size: int = 64,
    count: int = 10,
    zoom: int = 2,
    seed: int = 0,
    only: tuple[str, ...] = (),
) -> None:
    """Write the sheet.

    Args:
        out: PNG to write.
        size: height and width of a frame, pixels.
        count: frames a task.
        zoom: enlargement of each frame.
        seed: of the first start.
        only: tasks to draw; all when empty.
    """
    rows = [labelled_row(name, random_frames(name, size, count, seed), zoom) for name in only or POSES]
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet = cv2.cvtColor(np.concatenate(rows), cv2.COLOR_RGB2BGR)
    if not cv2.imwrite(str(out), sheet, (cv2.IMWRITE_PNG_COMPRESSION, 9)):
        raise SystemExit(f"{out}: could not be written")


if __name__ == "__main__":
    tyro.cli(main)
