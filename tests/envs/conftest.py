"""MuJoCo chooses its OpenGL when it is imported; without a display EGL is the one that works."""

import os

os.environ.setdefault("MUJOCO_GL", "egl")
