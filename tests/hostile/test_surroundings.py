"""Data commands in surroundings of all kinds: odd paths, encodings, pipes, missing packages."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from farstep.cli.main import main
from farstep.data.table import open_dataset


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory whose name is markup to rich, and a file to import into it."""
    root = tmp_path / "data [red]"
    monkeypatch.setenv("FARSTEP_DATA", str(root))
    monkeypatch.setenv("COLUMNS", "300")
    ends = np.arange(20) % 10 == 9
    observations = np.linspace(0, 1, 60).reshape(20, 3)
    np.savez(
        tmp_path / "log.npz", observations=observations, actions=observations[:, :2], terminals=ends
    )
    return root


def refused(capsys: Any, *words: str) -> str:
    with pytest.raises(SystemExit) as refusal:
        main(["data", *words])
    assert refusal.value.code == 2
    return capsys.readouterr().err


def make_small(data: Path, *more: str) -> None:
    small = ["--episodes", "2", "--steps", "5", "--processes", "1"]
    main(["data", "make", "pointmaze-medium-stitch", *small, *more])


def test_paths_are_printed_as_they_are(data, tmp_path, capsys):
    main(["data", "import", str(tmp_path / "log.npz"), "--name", "mine"])
    assert str(data / "mine") in capsys.readouterr().out
    main(["data", "info", "mine"])
    assert str(data / "mine") in capsys.readouterr().out
    pytest.importorskip("ogbench")
    make_small(data, "--out", str(tmp_path / "made [bold]"))
    assert "made [bold]" in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_any_encoding_will_do(data, tmp_path, monkeypatch, encoding):
    main(["data", "import", str(tmp_path / "log.npz"), "--name", "mine"])
    written = io.BytesIO()
    for stream in ("stdout", "stderr"):
        monkeypatch.setattr(sys, stream, io.TextIOWrapper(written, encoding, write_through=True))
    main(["data", "info", "mine"])
    main(["data", "import", str(tmp_path / "log.npz"), "--name", "mine", "--overwrite"])
    with pytest.raises(SystemExit):
        main(["data", "info", "Übung–1"])
    text = written.getvalue().decode(encoding)
    assert "2 episodes" in text
    assert "bung" in text


@pytest.mark.parametrize("words", ["data info mine", "--help"])
def test_a_reader_who_has_seen_enough(data, tmp_path, monkeypatch, capsys, words):
    main(["data", "import", str(tmp_path / "log.npz"), "--name", "mine"])
    capsys.readouterr()
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        with pytest.raises(SystemExit) as ending:
            main(words.split())
    assert ending.value.code == 141
    assert capsys.readouterr().err == ""


def test_making_without_simulators(data, monkeypatch, capsys):
    for name in ("mujoco", "gymnasium", "ogbench"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SystemExit) as refusal:
        make_small(data)
    assert refusal.value.code == 2
    said = capsys.readouterr().err
    assert "ogbench" in said
    assert "install" in said
    assert "Traceback" not in said
    assert not data.exists() or list(data.iterdir()) == []


def test_only_what_can_be_fetched_is_advised_to_be_fetched(data, tmp_path, capsys):
    main(["data", "import", str(tmp_path / "log.npz"), "--name", "my-robot"])
    capsys.readouterr()
    misspelt = refused(capsys, "info", "my-robt")
    assert "'my-robot'" in misspelt
    assert "data get" not in misspelt
    published = refused(capsys, "info", "pointmaze-large-stitch")
    assert "farstep data get pointmaze-large-stitch" in published
    nearly = refused(capsys, "info", "pointmaze-lrage-stitch")
    assert "farstep data get pointmaze-large-stitch-v0" in nearly
    assert "data get pointmaze-lrage" not in nearly
    assert not (data / "pointmaze-large-stitch-v0").exists()
    assert open_dataset("my-robot").train.num_episodes == 2
