"""Draw the contact sheet of all faults: a row a fault, a column a severity, one state of each task.

    python launch/faults_sheet.py --out docs/faults.png

Look at it after every change of a fault: severity 0 is the nominal frame, and faults grow to the right. The
faults began some steps ago, so the short freezes are over.
"""

from pathlib import Path

import cv2
import numpy as np
import tyro
from numpy.typing import NDArray

from robovae_envs.camera import Camera, RenderSpec, make
from robovae_envs.faults import FAULTS, Faulty

Frames = NDArray[np.uint8]
SEVERITIES = range(6)
LABEL = 150  # pixels, width of the names on the left
GAP = 8  # pixels between tasks
HEAD = 22  # pixels, height of each of the two lines above


def faulted_frame(camera: Camera, fault: str, severity: int, steps: int, seed: int) -> Frames:
    """The last frame (H, W, 3) of some steps of random actions, faulted from the middle of them on."""
    env = Faulty(camera, fault, severity, onset=steps // 2, seed=seed)
    observation, _ = env.reset(seed=seed)
    env.action_space.seed(seed)
    for _ in range(steps):
        observation, *_ = env.step(env.action_space.sample())  # past the end of the episode, if need be
    return np.asarray(observation["image"])


def labelled(text: str, height: int, width: int) -> Frames:
    """A white strip with a word on it."""
    strip = np.full((height, width, 3), 255, np.uint8)
    place = (4, height // 2 + 5)
    cv2.putText(strip, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    return strip


def names_column(faults: tuple[str, ...], side: int) -> Frames:
    """The names of the rows; `side` is the height of a row in pixels."""
    return np.concatenate([labelled("", 2 * HEAD, LABEL), *(labelled(name, side, LABEL) for name in faults)])


def task_columns(env_id: str, faults: tuple[str, ...], size: int, zoom: int, steps: int, seed: int) -> Frames:
    """Six columns of a task: its severities from 0 to 5, a row a fault."""
    side = size * zoom
    numbers = [labelled(str(severity), HEAD, side) for severity in SEVERITIES]
    rows = [labelled(env_id, HEAD, side * len(SEVERITIES)), np.concatenate(numbers, axis=1)]
    camera = make(env_id, RenderSpec.fast(env_id, size, size), spread=1.0)
    for fault in faults:
        frames = [faulted_frame(camera, fault, severity, steps, seed) for severity in SEVERITIES]
        rows.append(np.concatenate(frames, axis=1).repeat(zoom, 0).repeat(zoom, 1))
    camera.close()
    columns = np.concatenate(rows)
    return np.concatenate([columns, np.full((len(columns), GAP, 3), 255, np.uint8)], axis=1)


def main(
    out: Path = Path("docs/faults.png"),
    tasks: tuple[str, ...] = ("Reacher-v5", "HalfCheetah-v5"),
    size: int = 64,
    zoom: int = 1,
    steps: int = 12,
    seed: int = 0,
    only: tuple[str, ...] = (),
) -> None:
    """Write the sheet.

    Args:
        out: PNG to write.
        tasks: side by side.
        size: height and width of a frame, pixels.
        zoom: enlargement of each frame.
        steps: of random actions before the frame; the fault begins at half of them.
        seed: of the start, the actions and the fault.
        only: faults to draw; all when empty.
    """
    faults = only or tuple(FAULTS)
    columns = [task_columns(task, faults, size, zoom, steps, seed) for task in tasks]
    sheet = np.concatenate([names_column(faults, size * zoom), *columns], axis=1)
    out.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(out), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), (cv2.IMWRITE_PNG_COMPRESSION, 9)):
        raise SystemExit(f"{out}: could not be written")


if __name__ == "__main__":
    tyro.cli(main)
