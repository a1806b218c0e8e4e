"""The command in the terminals, pipes and accounts that there are."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from farstep.cli.console import plain_console
from farstep.cli.main import main
from farstep.core.errors import install_command


def run(*words: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "farstep", *words],
        env=os.environ | {"COLUMNS": "100"} | variables,
        capture_output=True,
        timeout=120,
        check=False,
    )


def test_a_closed_pipe_ends_it_without_a_word() -> None:
    for words in ("presets paper", "train --help"):
        program = f"{sys.executable} -m farstep {words} | true; exit ${{PIPESTATUS[0]}}"
        ended = subprocess.run(
            ["bash", "-c", program], capture_output=True, timeout=120, check=False
        )
        assert ended.returncode == 141, words
        assert ended.stderr == b"", words


@pytest.mark.parametrize("encoding", ["ascii", pytest.param("latin-1", marks=pytest.mark.slow)])
def test_what_an_encoding_lacks_is_replaced(encoding: str) -> None:
    ended = run("presets", "paper", "--agent", "mqe", PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    assert ended.returncode == 0, ended.stderr
    assert b"mqe" in ended.stdout
    ended = run("train", "grüße-data", PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    assert ended.returncode == 2, ended.stderr
    assert b"There is no dataset" in ended.stderr


def test_a_device_that_is_not_there_is_one_sentence(toy: Path, tmp_path: Path) -> None:
    for platform in ("cuda", "abacus"):
        words = ("train", str(toy), "--out", str(tmp_path / "run"))
        ended = run(*words, JAX_PLATFORMS=platform)
        assert ended.returncode == 2, ended.stderr
        (line,) = ended.stderr.decode().splitlines()
        assert line.startswith(f"farstep: JAX_PLATFORMS asks for '{platform}'")
        assert not (tmp_path / "run").exists()


def test_without_a_home_directory_it_says_what_to_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def unknown(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.delenv("HOME")
    monkeypatch.delenv("FARSTEP_DATA")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for words in (["train", "small"], ["data", "info", "small"], ["eval", "~/run"]):
        with pytest.raises(SystemExit) as stopped:
            main(words)
        assert stopped.value.code == 2
        assert "no home directory" in capsys.readouterr().err
    monkeypatch.setenv("FARSTEP_DATA", str(tmp_path))
    with pytest.raises(SystemExit):
        main(["data", "info", "small"])
    assert "There is no dataset 'small'" in capsys.readouterr().err


def test_names_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    name = "runs/[bold]a[/b] [x] :smile: " + "long/" * 60
    plain_console().print(f"Written to {name}", style="bold")
    assert capsys.readouterr().out == f"Written to {name}\n"


def test_extras_come_from_the_clone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert install_command("wandb").startswith("make -C ")
    assert "wandb'" in install_command("wandb")
    monkeypatch.setattr("farstep.core.errors.CLONE", tmp_path / "site-packages")
    command = install_command("wandb")
    assert command.endswith("-m pip install '.[wandb]'   (in a clone of farstep)")


def test_no_message_recommends_a_package_index() -> None:
    source = Path(__file__).parents[2] / "src"
    for path in source.rglob("*.py"):
        assert "farstep[" not in path.read_text(encoding="utf-8"), path


def test_what_an_error_says_is_not_markup(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["eval", "runs/[x]"])
    assert "runs/[x] is neither" in capsys.readouterr().err
