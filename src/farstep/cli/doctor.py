"""`farstep doctor`: what works on this machine, what does not, and the command that repairs it."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from farstep.core.machine import available_cores, available_memory

GIB = 2**30

CORE = ("jax", "jaxlib", "equinox", "optax", "orbax.checkpoint", "safetensors", "numpy", "scipy")
SIMULATOR = ("mujoco", "gymnasium", "ogbench")

# JAX's default CUDA wheels are built for CUDA 13, which starts at this driver branch.
CUDA_13_DRIVER = 580

ROOM_FOR_DATA_GIB = 5


Level = Literal["fine", "advice", "broken"]
MARKS: dict[Level, str] = {
    "fine": "[green]✓[/]",
    "advice": "[yellow]![/]",
    "broken": "[red]✗[/]",
}


@dataclass(frozen=True)
class Finding:
    """One line of the diagnosis.

    Attributes:
        subject: what was looked at.
        found: what was seen.
        level: `fine`; `advice` where something optional does not work; `broken` where farstep
            cannot learn.
        fix: the command that repairs it.
    """

    subject: str
    found: str
    level: Level = "fine"
    fix: str = ""


@dataclass(frozen=True)
class Doctor:
    """Check this machine: packages, devices, rendering, disk. Exit code 1 if it cannot learn."""

    def run(self) -> None:
        from rich.console import Console
        from rich.table import Table

        # A look at the device must not take most of its memory, as JAX does by default.
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        console = Console(highlight=False)
        with console.status("Looking at this machine"):
            findings = diagnose()

        table = Table(box=None, show_header=False, padding=(0, 1))
        table.add_column(style="bold", no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column()
        for finding in findings:
            table.add_row(finding.subject, MARKS[finding.level], _plain(finding.found))
        console.print(table)

        to_repair = [finding for finding in findings if finding.fix]
        if to_repair:
            console.print("\nTo repair:")
        for finding in to_repair:
            # Unwrapped, so that the command can be copied whole.
            console.print(f"  {finding.subject}: {_plain(finding.fix)}", soft_wrap=True)

        if any(finding.level == "broken" for finding in findings):
            console.print("\n[red]farstep cannot learn on this machine yet.[/]")
            raise SystemExit(1)
        console.print("\nfarstep can learn on this machine.")


def diagnose() -> list[Finding]:
    """Everything that `farstep doctor` prints, in its order."""
    return [
        python_finding(),
        *(package_finding(name, essential=True) for name in CORE),
        learning_finding(),
        device_finding(),
        *(package_finding(name, essential=False) for name in SIMULATOR),
        *rendering_findings(),
        *extra_findings(),
        *place_findings(),
        Finding("memory", f"{available_memory() / GIB:.1f} GiB available"),
        Finding("cores", f"{available_cores():g}"),
    ]


def python_finding() -> Finding:
    """The interpreter and the version of farstep in it."""
    version = importlib.metadata.version("farstep")
    return Finding(
        "farstep", f"{version}, Python {platform.python_version()}, {platform.platform()}"
    )


def package_finding(module: str, *, essential: bool) -> Finding:
    """Whether `module` imports, and its version."""
    level: Level = "broken" if essential else "advice"
    distribution = module.replace(".", "-")
    fix = install_command() if essential else install_command("ogbench")
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        return Finding(module, "not installed", level, fix)
    try:
        importlib.import_module(module)
    except Exception as error:
        # Whatever a foreign package raises at import is the finding.
        return Finding(module, f"does not import: {_last_line(error)}", level, fix)
    try:
        return Finding(module, importlib.metadata.version(distribution))
    except importlib.metadata.PackageNotFoundError:
        return Finding(module, "imports, version unknown")


def learning_finding() -> Finding:
    """Whether a gradient step compiles and lowers its loss."""
    try:
        import jax
        import jax.numpy as jnp

        def loss(weights: jax.Array) -> jax.Array:
            return jnp.sum(weights**2)

        weights = jnp.ones(8)
        step = jax.jit(lambda weights: weights - 0.1 * jax.grad(loss)(weights))
        if not loss(step(weights)) < loss(weights):
            return Finding("gradient step", "does not lower its loss", "broken", install_command())
    except Exception as error:
        return Finding("gradient step", _last_line(error), "broken", install_command())
    return Finding("gradient step", "compiles and lowers its loss")


def device_finding() -> Finding:
    """The devices that JAX computes on, and how to let it use an NVIDIA GPU that it leaves idle."""
    try:
        import jax

        devices = jax.devices()
    except Exception as error:
        return Finding("devices", _last_line(error), "broken", install_command())
    kinds = [f"{device.platform}:{device.id} {device.device_kind}" for device in devices]
    found = ", ".join(kinds)
    driver = nvidia_driver()
    if driver is None or devices[0].platform != "cpu":
        return Finding("devices", found)
    found += f"; an NVIDIA GPU (driver {driver}) is idle"
    if os.environ.get("JAX_PLATFORMS", "").startswith("cpu"):
        return Finding("devices", found, "advice", "unset JAX_PLATFORMS")
    branch = int(driver.partition(".")[0])
    fix = install_command("cuda") if branch >= CUDA_13_DRIVER else cuda_12_command()
    return Finding("devices", found, "advice", fix)


def nvidia_driver() -> str | None:
    """The version of the NVIDIA driver, None where there is no NVIDIA GPU."""
    path = shutil.which("nvidia-smi")
    if path is None:
        return None
    query = [path, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.match(r"\d+(\.\d+)*", answer.stdout)
    return match.group() if match else None


def rendering_findings(seconds: float = 60) -> list[Finding]:
    """Which OpenGL backends draw a MuJoCo frame, each tried in a process of its own.

    Args:
        seconds: how long a backend may take before it counts as hanging.
    """
    from farstep.envs.opengl import failure, opengl_command, start_probe

    if importlib.util.find_spec("mujoco") is None:
        return [Finding("rendering", "not tried: MuJoCo is not installed", "advice")]
    backends = ("egl", "osmesa", "glfw") if sys.platform == "linux" else ("glfw",)
    probes = {backend: start_probe(backend) for backend in backends}
    failures = {backend: failure(probe, seconds) for backend, probe in probes.items()}
    working = [backend for backend in backends if failures[backend] is None]
    if not working:
        tried = "; ".join(f"{backend}: {reason}" for backend, reason in failures.items())
        return [Finding("rendering", f"no OpenGL ({tried})", "advice", opengl_command())]

    found = f"works with MUJOCO_GL={', '.join(working)}"
    chosen = os.environ.get("MUJOCO_GL")
    if chosen in failures and chosen not in working:
        found += f"; {chosen}, which is chosen here, fails: {failures[chosen]}"
        return [Finding("rendering", found, "advice", f"export MUJOCO_GL={working[0]}")]
    return [Finding("rendering", found)]


def rendering_advice() -> str:
    """What to install before pixels and videos work, empty where they do."""
    (finding,) = rendering_findings()
    if not finding.fix:
        return ""
    return (
        "\nOpenGL for rendering without a display is missing. Training and evaluation on state\n"
        "observations work without it; pixel environments and videos need\n"
        f"  {finding.fix}\n"
    )


def extra_findings() -> Iterator[Finding]:
    """Which optional extras of farstep are complete."""
    declared = importlib.metadata.metadata("farstep").get_all("Provides-Extra") or []
    # Whether these work is said by the devices and the simulator.
    for extra in sorted(set(declared) - {"cuda", "ogbench"}):
        missing = sorted(missing_requirements("farstep", extra))
        if missing:
            found = f"optional, not installed: {', '.join(missing)}"
            yield Finding(f"extra {extra}", found)
        else:
            yield Finding(f"extra {extra}", "installed")


def missing_requirements(distribution: str, extra: str) -> set[str]:
    """The distributions that `distribution[extra]` needs and this Python does not have."""
    from packaging.requirements import Requirement

    missing: set[str] = set()
    for line in importlib.metadata.requires(distribution) or []:
        requirement = Requirement(line)
        marker = requirement.marker
        if (
            marker is None
            or marker.evaluate({"extra": ""})
            or not marker.evaluate({"extra": extra})
        ):
            continue
        try:
            importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            missing.add(requirement.name)
            continue
        for nested in requirement.extras:
            missing |= missing_requirements(requirement.name, nested)
    return missing


def place_findings() -> Iterator[Finding]:
    """Where datasets and runs go, whether they can be written, and the room that is left."""
    from farstep.data.table import data_root

    for subject, place in (("data", data_root()), ("runs", Path.cwd() / "runs")):
        existing = next(parent for parent in (place, *place.parents) if parent.exists())
        free = shutil.disk_usage(existing).free / GIB
        found = f"{place}, {free:.1f} GiB free"
        if not os.access(existing, os.W_OK):
            fix = f"sudo chown -R $(whoami) {existing}"
            if subject == "data":
                fix = "export FARSTEP_DATA=/a/writable/directory"
            yield Finding(subject, f"{found}; {existing} cannot be written", "advice", fix)
        elif free < ROOM_FOR_DATA_GIB and subject == "data":
            fix = "export FARSTEP_DATA=/a/larger/disk"
            yield Finding(subject, f"{found}, little for datasets", "advice", fix)
        else:
            yield Finding(subject, found)


def install_command(extra: str = "") -> str:
    """The command that installs farstep's own requirements, or one of its extras, again."""
    root = _checkout()
    if root is not None:
        extras = " EXTRAS='ogbench video tensorboard cuda'" if extra == "cuda" else ""
        return f"rm -rf {root}/.venv && make -C {root} setup{extras}"
    if extra == "ogbench" and sys.version_info >= (3, 13):
        # OGBench asks for labmaze, uses it nowhere, and labmaze does not build on this Python.
        install = f"{sys.executable} -m uv pip install --python {sys.executable}"
        return (
            f"{sys.executable} -m pip install uv && "
            f"echo labmaze | {install} --excludes - 'farstep[ogbench]'"
        )
    suffix = f"[{extra}]" if extra else ""
    return f"{sys.executable} -m pip install --upgrade 'farstep{suffix}'"


def cuda_12_command() -> str:
    """The command that gives JAX the CUDA libraries for a driver older than CUDA 13."""
    root = _checkout()
    pip = f"{sys.executable} -m pip install"
    if root is not None:
        pip = f"{root}/.tools/bin/uv pip install --python {sys.executable}"
    return f"{pip} 'jax[cuda12]=={importlib.metadata.version('jax')}'"


def _checkout() -> Path | None:
    """The clone that this farstep runs from, None where it is an installed package."""
    root = Path(__file__).resolve().parents[3]
    return root if (root / "uv.lock").exists() else None


def _last_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[-1]}" if text else type(error).__name__


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)
