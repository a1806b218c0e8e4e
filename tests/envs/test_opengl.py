"""Drawing is tried before it is needed, and what is wrong with it is a sentence."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from farstep.cli.main import main
from farstep.core.errors import FarstepError
from farstep.envs import opengl
from farstep.envs.opengl import opengl_command, require_drawing
from farstep.envs.pool import EnvironmentPool

for _module in ("gymnasium", "mujoco", "ogbench"):
    pytest.importorskip(_module)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only directory on PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


@pytest.fixture(autouse=True)
def untried() -> None:
    require_drawing.cache_clear()


@pytest.mark.parametrize("backend", ["nonsense", "osmesa"])
def test_a_backend_that_does_not_draw_is_named_before_anything_starts(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUJOCO_GL", backend)
    if backend == "osmesa" and opengl.failure(opengl.start_probe(backend), 60) is None:
        pytest.skip("OSMesa draws here")
    monkeypatch.setattr("farstep.envs.pool.Worker", None)  # must not get that far
    with pytest.raises(FarstepError, match=f"cannot draw pictures with MUJOCO_GL={backend}"):
        EnvironmentPool("visual-antmaze-medium-v0", 1, 1)


def test_it_is_said_before_training_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import numpy as np

    from farstep.data.writer import TableWriter

    environment = "visual-antmaze-medium-v0"
    with TableWriter(
        tmp_path / "data" / "train", (64, 64, 3), "uint8", 8, environment=environment
    ) as writer:
        writer.append(np.zeros((5, 64, 64, 3), np.uint8), np.zeros((5, 8), np.float32))
    monkeypatch.setenv("MUJOCO_GL", "nonsense")
    words = ["--preset", "small", "--steps", "1", "--out", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as stopped:
        main(["train", str(tmp_path / "data"), *words])
    assert stopped.value.code == 2
    assert "MUJOCO_GL=nonsense" in capsys.readouterr().err


def test_mujoco_that_cannot_be_imported_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a MUJOCO_GL that it does not know, also where nothing is drawn."""
    monkeypatch.setenv("MUJOCO_GL", "nonsense")
    with pytest.raises(FarstepError, match=r"cannot be imported .* names, here 'nonsense'"):
        EnvironmentPool("pointmaze-medium-v0", 1, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="a display is looked for on Linux")
def test_without_a_display_egl_is_chosen_if_it_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "MUJOCO_GL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(opengl, "DRAW_ONE_FRAME", "raise ImportError('no libEGL')")
    with pytest.raises(FarstepError, match=r"pictures: ImportError: no libEGL\. Run\n.*install"):
        require_drawing()
    assert "MUJOCO_GL" not in os.environ
    monkeypatch.setattr(
        opengl, "DRAW_ONE_FRAME", "import os; assert os.environ['MUJOCO_GL'] == 'egl'"
    )
    require_drawing()
    assert os.environ.pop("MUJOCO_GL") == "egl"


@pytest.mark.skipif(sys.platform != "linux", reason="package managers of Linux")
@pytest.mark.parametrize(
    ("manager", "packages"),
    [
        ("apt-get", "libegl1 libopengl0 libgl1-mesa-dri"),
        ("dnf", "mesa-libEGL libglvnd-opengl mesa-dri-drivers"),
    ],
)
def test_opengl_command(
    manager: str, packages: str, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = programs / manager
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert opengl_command() == f"{manager} install -y {packages}"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert opengl_command() == f"sudo {manager} install -y {packages}"


def test_opengl_command_without_a_known_manager(programs: Path) -> None:
    assert "libEGL.so.1" in opengl_command() or sys.platform != "linux"
