"""Draw real frames with one GL backend, in a process of its own: `MUJOCO_GL=egl python -m robovae.cli.probe`.

A backend is chosen when mujoco is imported, and one that fails may take its process with it. Prints JSON.
"""

import json
import time
from typing import Any

SECONDS = 0.5


def draw() -> dict[str, Any]:
    """Frames/s, the renderer's name, and how much the frames differ in grey level."""
    from robovae_envs.camera import RenderSpec, make

    env = make("Reacher-v5", RenderSpec.fast("Reacher-v5"))
    env.reset(seed=0)
    image, count, begin = env.frame(), 0, time.perf_counter()
    while time.perf_counter() - begin < SECONDS:
        image, count = env.frame(), count + 1
    fps = count / (time.perf_counter() - begin)
    env.close()
    return {"renderer": renderer_name(), "fps": round(fps), "contrast": round(float(image.std()), 2)}


def renderer_name() -> str:
    """Who draws, in OpenGL's words: "llvmpipe (...)" is a processor, anything else mostly a graphics card."""
    import mujoco
    import OpenGL.GL  # not before mujoco, which tells it the platform

    context = mujoco.GLContext(8, 8)
    with context.as_current():
        name: bytes = OpenGL.GL.glGetString(OpenGL.GL.GL_RENDERER)
    context.free()
    return name.decode()


if __name__ == "__main__":
    print(json.dumps(draw()))
