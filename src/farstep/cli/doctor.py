"""`farstep doctor`: versions, devices, one rendered frame and disks; and what to do about each."""

from __future__ import annotations

import importlib
import os
import platform
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from farstep.core.errors import CLONE, FarstepError, install_command

CORE = ("jax", "jaxlib", "equinox", "optax", "orbax.checkpoint", "safetensors", "numpy", "scipy")
EXTRAS = {
    "ogbench": ("mujoco", "gymnasium", "ogbench"),
    "video": ("imageio",),
    "tensorboard": ("tensorboardX",),
    "wandb": ("wandb",),
    "bridge": ("pyarrow", "av", "PIL", "google_crc32c"),
    "hdf5": ("h5py",),
    "view": ("starlette", "uvicorn"),
    "widowx": ("lz4", "zmq"),
}
"""Modules that farstep's extras bring."""

GIB = 2**30
ROOM_FOR_DATA = 5 * GIB

MARKS = {"fine": "✓", "advice": "!", "broken": "✗"}


@dataclass(frozen=True)
class Finding:
    """One line of the diagnosis.

    Attributes:
        subject: the part that was checked.
        found: the finding.
        level: `advice` where something optional is missing, `broken` where farstep cannot learn.
        remedy: advice; a command can be copied as it is.
    """

    subject: str
    found: str
    level: Literal["fine", "advice", "broken"] = "fine"
    remedy: str = ""


@dataclass(frozen=True)
class Doctor:
    """Check this machine: packages, devices, rendering, disks. Exit code 1 if it cannot learn."""

    def run(self) -> None:
        from farstep.cli.console import plain_console

        # A look at the device must not take most of its memory, as JAX does by default.
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        console, broken = plain_console(), False
        for finding in diagnose():
            console.print(f"{MARKS[finding.level]} {finding.subject:<17} {finding.found}")
            if finding.remedy:
                console.print(f"{'→':>19} {finding.remedy}")
            broken |= finding.level == "broken"
        console.print(f"\nfarstep {'cannot learn on this machine yet' if broken else 'can learn'}.")
        if broken:
            raise SystemExit(1)


def diagnose() -> Iterator[Finding]:
    """Everything that `farstep doctor` prints, in its order."""
    python = f"Python {platform.python_version()}, {platform.platform()}"
    yield Finding("farstep", f"{metadata.version('farstep')}, {python}")
    yield from (package(module) for module in CORE)
    yield device()
    yield from (package(name, extra) for extra, names in EXTRAS.items() for name in names)
    yield rendering()
    yield from disks()


def package(module: str, extra: str = "") -> Finding:
    """Whether a module imports, and its version; one of an `extra` may be missing."""
    try:
        importlib.import_module(module)
        return Finding(module, metadata.version(module.replace(".", "-")))
    except metadata.PackageNotFoundError:
        return Finding(module, "imports, version unknown")
    except Exception as error:  # Whatever a foreign package raises at import is the finding.
        if extra:
            return Finding(module, _line(error), "advice", install_command(extra))
        return Finding(module, _line(error), "broken", _reinstall())


def device() -> Finding:
    """JAX's devices, whether a gradient is right, and whether a GPU is idle."""
    asked = os.environ.get("JAX_PLATFORMS")
    unset = "unset JAX_PLATFORMS" if asked else ""
    try:
        import jax

        found = ", ".join(f"{d.platform}:{d.id} {d.device_kind}" for d in jax.devices())
        if jax.jit(jax.grad(lambda x: x**3))(2.0) != 12:
            return Finding("devices", f"{found}: wrong gradients", "broken", _reinstall())
    except Exception as error:
        found = f"{_line(error)} (JAX_PLATFORMS={asked or ''})"
        return Finding("devices", found, "broken", unset or _reinstall())
    if jax.default_backend() == "cpu" and shutil.which("nvidia-smi"):
        remedy = unset or install_command("cuda")
        return Finding("devices", f"{found}; an NVIDIA GPU is idle", "advice", remedy)
    return Finding("devices", found)


def rendering(seconds: float = 60) -> Finding:
    """Whether MuJoCo draws a frame: by the backend that is chosen, or else the first that works.

    Args:
        seconds: time after which a backend counts as hanging.
    """
    from farstep.envs.opengl import failure, opengl_command, start_probe

    chosen = os.environ.get("MUJOCO_GL")
    backends = ["egl", "osmesa", "glfw"] if sys.platform == "linux" else ["glfw"]
    failures: dict[str, str] = {}
    for backend in dict.fromkeys([chosen or backends[0], *backends]):
        reason = failure(start_probe(backend), seconds)
        if reason is not None:
            failures[backend] = reason
        elif chosen and failures:
            found = f"MUJOCO_GL={chosen} fails: {failures[chosen]}"
            return Finding("rendering", found, "advice", f"export MUJOCO_GL={backend}")
        else:
            return Finding("rendering", f"works with MUJOCO_GL={backend}")
    tried = "; ".join(f"{backend}: {reason}" for backend, reason in failures.items())
    return Finding("rendering", f"no OpenGL ({tried})", "advice", opengl_command())


def disks() -> Iterator[Finding]:
    """Where datasets and runs go, whether they can be written, and the room that is left."""
    from farstep.data.table import data_root

    elsewhere = {"data": "set FARSTEP_DATA to another directory", "runs": "train with --out"}
    for subject, remedy in elsewhere.items():
        try:
            place = data_root() if subject == "data" else Path.cwd() / "runs"
        except FarstepError as error:
            yield Finding(subject, str(error), "advice", remedy)
            continue
        existing = next(parent for parent in (place, *place.parents) if parent.exists())
        free = shutil.disk_usage(existing).free
        found = f"{shlex.quote(str(place))}, {free / GIB:.1f} GiB free"
        if not os.access(existing, os.W_OK):
            found += f"; {shlex.quote(str(existing))} cannot be written"
            yield Finding(subject, found, "advice", remedy)
        elif subject == "data" and free < ROOM_FOR_DATA:
            yield Finding(subject, f"{found}, little for datasets", "advice", remedy)
        else:
            yield Finding(subject, found)


def _reinstall() -> str:
    if (CLONE / "uv.lock").exists():
        return f"make -C {shlex.quote(str(CLONE))} clean setup"
    return f"{shlex.quote(sys.executable)} -m pip install --force-reinstall .   (in a clone)"


def _line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[-1]}" if text else type(error).__name__
