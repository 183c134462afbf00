"""robovae_envs: fast, well-framed camera frames from Gymnasium environments."""

from robovae_envs.gl import prepare_gl

prepare_gl()  # before any module of this package imports mujoco, which reads MUJOCO_GL at that moment
