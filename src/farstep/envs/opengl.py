"""Whether MuJoCo can draw here, tried in a process of its own.

A driver that is missing or broken may raise, hang or abort, so nothing is drawn in this process
before another has drawn a frame.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys

from farstep.core.errors import FarstepError

VARIABLE = "MUJOCO_GL"
"""The environment variable by which MuJoCo chooses its OpenGL when it is imported."""

FRAME_SECONDS = 60.0
"""Seconds for a frame after which a backend counts as hanging."""

DRAW_ONE_FRAME = """
import mujoco
model = mujoco.MjModel.from_xml_string(
    "<mujoco><worldbody><light pos='0 0 2'/><geom size='.2' rgba='1 0 0 1'/></worldbody></mujoco>"
)
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
with mujoco.Renderer(model, 16, 16) as renderer:
    renderer.update_scene(data)
    assert renderer.render().any(), "the frame is black"
"""


@functools.cache
def require_drawing() -> None:
    """Choose MuJoCo's OpenGL unless the environment does, and test it once in a process.

    On Linux without a display EGL is chosen. Call this before MuJoCo is imported.

    Raises:
        FarstepError: it does not draw; the message says why, and what to install.
    """
    chosen = os.environ.get(VARIABLE)
    if chosen is None and sys.platform == "linux" and "DISPLAY" not in os.environ:
        os.environ[VARIABLE] = "egl"
    reason = failure(start_probe(os.environ.get(VARIABLE)), FRAME_SECONDS)
    if reason is None:
        return
    if chosen is None:
        os.environ.pop(VARIABLE, None)
    with_what = "" if chosen is None else f" with {VARIABLE}={chosen}, which is set here"
    raise FarstepError(
        f"MuJoCo cannot draw pictures{with_what}: {reason}. Run\n  {opengl_command()}\n"
        f"or set {VARIABLE} to a backend that 'farstep doctor' finds working."
    )


def start_probe(backend: str | None) -> subprocess.Popen[str]:
    """A process that draws a frame with `backend`, or with MuJoCo's own choice."""
    return subprocess.Popen(
        [sys.executable, "-P", "-c", DRAW_ONE_FRAME],
        env=os.environ | ({} if backend is None else {VARIABLE: backend}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def failure(probe: subprocess.Popen[str], seconds: float) -> str | None:
    """Why `probe` did not draw, None if it did."""
    try:
        _, log = probe.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        probe.kill()
        probe.communicate()
        return f"no frame in {seconds:g} s"
    if probe.returncode == 0:
        return None
    # A driver may crash the process without a word, and PyOpenGL logs after the traceback.
    errors = [line for line in log.splitlines() if re.match(r"[\w.]*(Error|Exception)\b", line)]
    return errors[-1] if errors else f"ended with status {probe.returncode}"


def opengl_command() -> str:
    """The command that installs OpenGL for drawing without a display."""
    if sys.platform != "linux":
        return "MuJoCo renders with the system's own OpenGL here; run from a desktop session"
    sudo = "" if os.geteuid() == 0 else "sudo "
    commands = {
        "apt-get": "apt-get install -y libegl1 libopengl0 libgl1-mesa-dri",
        "dnf": "dnf install -y mesa-libEGL libglvnd-opengl mesa-dri-drivers",
        "pacman": "pacman -S --needed mesa libglvnd",
    }
    for manager, command in commands.items():
        if shutil.which(manager):
            return sudo + command
    return "install Mesa's EGL (libEGL.so.1, libOpenGL.so.0) with the system's package manager"
