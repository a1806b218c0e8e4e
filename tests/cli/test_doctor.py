"""The diagnosis tells what works from what does not, and always says what to type next."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest

from farstep.cli import doctor
from farstep.cli.doctor import Doctor, Finding


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of packages that this Python can import."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only directory on PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def add_program(directory: Path, name: str, prints: str = "") -> None:
    program = directory / name
    program.write_text(f"#!/bin/sh\necho '{prints}'\n")
    program.chmod(0o755)


def add_distribution(site: Path, name: str, *metadata: str) -> None:
    directory = site / f"{name}-1.0.dist-info"
    directory.mkdir()
    lines = ["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0", *metadata]
    (directory / "METADATA").write_text("\n".join(lines))


def test_core_works_here() -> None:
    for name in doctor.CORE:
        finding = doctor.package_finding(name, essential=True)
        assert finding.level == "fine", finding
        assert finding.found[0].isdigit(), finding
    assert doctor.learning_finding().level == "fine"
    assert doctor.device_finding().found.startswith("cpu:0")


def test_absent_package() -> None:
    finding = doctor.package_finding("no_such_package", essential=True)
    assert (finding.level, finding.found) == ("broken", "not installed")
    assert finding.fix
    assert doctor.package_finding("no_such_package", essential=False).level == "advice"


def test_package_that_does_not_import(site: Path) -> None:
    (site / "damaged_package.py").write_text("raise OSError('libfoo.so.1: no such file')")
    finding = doctor.package_finding("damaged_package", essential=True)
    assert finding.level == "broken"
    assert finding.found == "does not import: OSError: libfoo.so.1: no such file"


@pytest.mark.parametrize(("level", "code"), [("fine", None), ("advice", None), ("broken", 1)])
def test_exit_code(
    level: doctor.Level,
    code: int | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fix = "" if level == "fine" else "apt-get install [brackets] " + "x" * 200
    finding = Finding("subject", "what was [found]", level, fix)
    monkeypatch.setattr(doctor, "diagnose", lambda: [finding])
    if code is None:
        Doctor().run()
    else:
        with pytest.raises(SystemExit) as ended:
            Doctor().run()
        assert ended.value.code == code
    printed = capsys.readouterr().out
    assert "what was [found]" in printed
    assert fix in printed, "a command is copied whole, so it is never wrapped"


@pytest.mark.skipif(sys.platform != "linux", reason="one backend elsewhere")
class TestRendering:
    @pytest.fixture(autouse=True)
    def no_choice(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("mujoco")
        monkeypatch.delenv("MUJOCO_GL", raising=False)

    def replace_probe(self, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
        monkeypatch.setattr("farstep.envs.opengl.DRAW_ONE_FRAME", textwrap.dedent(script))

    def test_names_the_backend_that_draws(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.replace_probe(monkeypatch, "import os; assert os.environ['MUJOCO_GL'] == 'osmesa'")
        (finding,) = doctor.rendering_findings()
        assert (finding.level, finding.found) == ("fine", "works with MUJOCO_GL=osmesa")
        assert doctor.rendering_advice() == ""

    def test_chosen_backend_fails(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.replace_probe(monkeypatch, "import os; assert os.environ['MUJOCO_GL'] == 'osmesa'")
        monkeypatch.setenv("MUJOCO_GL", "egl")
        (finding,) = doctor.rendering_findings()
        assert finding.level == "advice"
        assert "egl, which is chosen here, fails: AssertionError" in finding.found
        assert finding.fix == "export MUJOCO_GL=osmesa"

    def test_nothing_draws(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.replace_probe(monkeypatch, "raise ImportError('no libEGL')")
        monkeypatch.setattr(
            "farstep.envs.opengl.opengl_command", lambda: "apt-get install -y libegl1"
        )
        (finding,) = doctor.rendering_findings()
        assert finding.level == "advice", "learning needs no rendering"
        assert "egl: ImportError: no libEGL" in finding.found
        assert "apt-get install -y libegl1" in doctor.rendering_advice()

    def test_crash_without_a_word(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.replace_probe(monkeypatch, "import os; os.abort()")
        (finding,) = doctor.rendering_findings()
        assert "egl: ended with status -6" in finding.found

    def test_driver_that_hangs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.replace_probe(monkeypatch, "import time; time.sleep(60)")
        (finding,) = doctor.rendering_findings(seconds=0.2)
        assert "egl: no frame in 0.2 s" in finding.found


@pytest.mark.parametrize(("driver", "fix"), [("580.65.06", "cuda'"), ("550.54", "jax[cuda12]==")])
def test_idle_gpu(driver: str, fix: str, programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_program(programs, "nvidia-smi", prints=driver)
    finding = doctor.device_finding()
    assert (finding.level, finding.fix) == ("advice", "unset JAX_PLATFORMS")
    monkeypatch.delenv("JAX_PLATFORMS")
    finding = doctor.device_finding()
    assert finding.level == "advice"
    assert f"an NVIDIA GPU (driver {driver}) is idle" in finding.found
    assert fix in finding.fix


def test_no_gpu(programs: Path) -> None:
    assert doctor.nvidia_driver() is None
    add_program(programs, "nvidia-smi", prints="NVIDIA-SMI has failed: no driver")
    assert doctor.nvidia_driver() is None


def test_missing_requirements_follow_nested_extras(site: Path) -> None:
    add_distribution(
        site,
        "walker",
        "Provides-Extra: film",
        "Requires-Dist: absent-always",
        "Requires-Dist: camera[fast]; extra == 'film'",
        "Requires-Dist: absent-tripod; extra == 'film'",
        "Requires-Dist: absent-elsewhere; extra == 'film' and python_version < '3'",
    )
    add_distribution(site, "camera", "Requires-Dist: absent-lens; extra == 'fast'")
    assert doctor.missing_requirements("walker", "film") == {"absent-tripod", "absent-lens"}


def test_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FARSTEP_DATA", str(tmp_path / "not" / "yet"))
    data, runs = doctor.place_findings()
    assert str(tmp_path / "not" / "yet") in data.found
    assert (data.subject, runs.subject) == ("data", "runs")

    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1))
    data, runs = doctor.place_findings()
    assert (data.level, runs.level) == ("advice", "fine")
    assert "FARSTEP_DATA" in data.fix

    monkeypatch.setattr(os, "access", lambda path, mode: False)
    data, _ = doctor.place_findings()
    assert f"{tmp_path} cannot be written" in data.found
    assert "FARSTEP_DATA" in data.fix


def test_simulator_on_python_without_labmaze(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_checkout", lambda: None)
    monkeypatch.setattr(sys, "version_info", (3, 12, 1))
    assert "labmaze" not in doctor.install_command("ogbench")
    monkeypatch.setattr(sys, "version_info", (3, 13, 0))
    assert "labmaze | " in doctor.install_command("ogbench")
    assert "labmaze" not in doctor.install_command()
