"""The diagnosis tells what works from what does not, and says what to do, which never harms."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from farstep.cli import doctor
from farstep.cli.doctor import Doctor, Finding
from farstep.cli.main import main
from farstep.envs.opengl import opengl_command


def test_core_works_here() -> None:
    for module in doctor.CORE:
        finding = doctor.package(module)
        assert finding.level == "fine", finding
        assert finding.found[0].isdigit(), finding
    assert doctor.device().found.startswith("cpu:0")


def test_packages_that_are_absent_or_do_not_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finding = doctor.package("no_such_package")
    assert (finding.level, finding.remedy) == ("broken", doctor._reinstall())
    assert doctor.package("no_such_package", "video").level == "advice"
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "damaged_package.py").write_text("raise OSError('libfoo.so.1: no such file')")
    assert doctor.package("damaged_package").found == "OSError: libfoo.so.1: no such file"


@pytest.mark.parametrize(("level", "code"), [("fine", None), ("advice", None), ("broken", 1)])
def test_exit_code(
    level, code: int | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    remedy = "" if level == "fine" else "apt-get install [brackets] " + "x" * 200
    finding = Finding("subject", "what was [found]", level, remedy)
    monkeypatch.setattr(doctor, "diagnose", lambda: [finding])
    if code is None:
        Doctor().run()
    else:
        with pytest.raises(SystemExit) as ended:
            Doctor().run()
        assert ended.value.code == code
    printed = capsys.readouterr().out
    assert "what was [found]" in printed
    assert remedy in printed, "a command is copied whole, so it is never wrapped"


def test_where_nothing_can_be_written_no_command_would_change_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in a container whose root belongs to somebody else: nothing may be taken from them."""
    place = tmp_path / "my data; and more"
    place.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.setenv("FARSTEP_DATA", str(place / "sets"))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    monkeypatch.setattr(doctor, "CLONE", place)
    monkeypatch.setattr("farstep.core.errors.CLONE", place)
    (place / "uv.lock").touch()
    monkeypatch.setattr(doctor, "CORE", ("no_such_package",))
    monkeypatch.setattr(doctor, "rendering", lambda: Finding("rendering", "none"))
    with pytest.raises(SystemExit):
        main(["doctor"])
    printed = capsys.readouterr().out
    assert "cannot be written" in printed
    assert not any(word in printed for word in ("chown", "chmod", "rm -"))
    for line in printed.splitlines():
        if "→" in line:
            assert str(place) not in line.replace(shlex.quote(str(place)), ""), line


def test_disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FARSTEP_DATA", str(tmp_path / "not" / "yet"))
    data, runs = doctor.disks()
    assert str(tmp_path / "not" / "yet") in data.found
    assert (data.level, runs.level) == ("fine", "fine")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1))
    data, runs = doctor.disks()
    assert (data.level, runs.level) == ("advice", "fine")
    assert "FARSTEP_DATA" in data.remedy


@pytest.mark.skipif(sys.platform != "linux", reason="one backend elsewhere")
class TestRendering:
    @pytest.fixture(autouse=True)
    def no_choice(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("MUJOCO_GL", raising=False)

    def test_a_frame_is_drawn_here(self, opengl: None) -> None:
        assert doctor.rendering().found.startswith("works with MUJOCO_GL=")

    def test_the_chosen_backend_fails(self, monkeypatch: pytest.MonkeyPatch) -> None:
        script = "import os; assert os.environ['MUJOCO_GL'] == 'osmesa'"
        monkeypatch.setattr("farstep.envs.opengl.DRAW_ONE_FRAME", script)
        assert doctor.rendering() == Finding("rendering", "works with MUJOCO_GL=osmesa")
        monkeypatch.setenv("MUJOCO_GL", "abacus")
        finding = doctor.rendering()
        assert finding.found == "MUJOCO_GL=abacus fails: AssertionError"
        assert finding.remedy == "export MUJOCO_GL=osmesa"

    @pytest.mark.parametrize(
        ("script", "reason"),
        [
            ("raise ImportError('no libEGL')", "egl: ImportError: no libEGL"),
            ("import os; os.abort()", "egl: ended with status -6"),
            ("import time; time.sleep(60)", "egl: no frame in 0.2 s"),
        ],
    )
    def test_nothing_draws(self, script: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("farstep.envs.opengl.DRAW_ONE_FRAME", script)
        finding = doctor.rendering(seconds=0.2 if "sleep" in script else 60)
        assert finding.level == "advice", "learning needs no rendering"
        assert reason in finding.found
        assert finding.remedy == opengl_command()


def test_idle_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor.device().level == "fine"
    (tmp_path / "nvidia-smi").touch(0o755)
    assert doctor.device().remedy == "unset JAX_PLATFORMS"
    monkeypatch.delenv("JAX_PLATFORMS")
    finding = doctor.device()
    assert "an NVIDIA GPU is idle" in finding.found
    assert "cuda" in finding.remedy
