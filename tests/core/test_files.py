"""What is written appears whole, and only what farstep wrote is ever replaced."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from farstep.core.errors import FarstepError
from farstep.core.files import check_replaceable, staged_directory, whole_file, write_text


def write_half(path: Path) -> None:
    with whole_file(path) as unfinished:
        unfinished.write_text("half")
        raise KeyboardInterrupt


def test_a_file_is_replaced_whole_or_stays(tmp_path):
    path = tmp_path / "new" / "text.json"
    write_text(path, "first")
    with pytest.raises(KeyboardInterrupt):
        write_half(path)
    assert path.read_text() == "first"
    with whole_file(path) as unfinished:
        assert unfinished.suffix == ".json"
        unfinished.write_text("second")
    assert path.read_text() == "second"
    assert [entry.name for entry in path.parent.iterdir()] == ["text.json"]


def test_links_stay_and_what_they_name_is_replaced(tmp_path):
    write_text(tmp_path / "far" / "text", "old")
    (tmp_path / "text").symlink_to(tmp_path / "far" / "text")
    (tmp_path / "near").symlink_to(tmp_path / "far")
    write_text(tmp_path / "text", "new")
    assert (tmp_path / "text").is_symlink()
    assert (tmp_path / "far" / "text").read_text() == "new"
    with staged_directory(tmp_path / "near", overwrite=True, owned=["text"]) as staging:
        (staging / "other").write_text("")
    assert (tmp_path / "near").is_symlink()
    assert [entry.name for entry in (tmp_path / "far").iterdir()] == ["other"]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["far", "near", "text"]


@pytest.mark.parametrize(
    ("stranger", "owned"),
    [
        ("notes.md", ["config.json"]),
        ("train/notes.md", ["train/manifest.json"]),
        ("config.json", []),
    ],
)
def test_what_is_not_owned_is_never_removed(tmp_path, stranger, owned):
    target = tmp_path / "target"
    for name in (stranger, *owned):
        write_text(target / name, "work")
    with (
        pytest.raises(FarstepError, match=stranger),
        staged_directory(target, overwrite=True, owned=owned),
    ):
        pass
    assert (target / stranger).read_text() == "work"
    check_replaceable(target, [stranger.split("/")[0], *owned])


def test_a_full_disk_is_named_with_what_did_not_fit(tmp_path):
    with (
        pytest.raises(FarstepError, match=r"policy could not be written: No space left on device"),
        staged_directory(tmp_path / "policy"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert not list(tmp_path.iterdir())


def test_a_link_to_a_directory_is_not_taken_for_an_owned_one(tmp_path):
    write_text(tmp_path / "elsewhere" / "model", "work")
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "checkpoints").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FarstepError, match="checkpoints"):
        check_replaceable(tmp_path / "target", ["checkpoints/model"])


def test_a_file_is_no_directory_to_replace(tmp_path):
    write_text(tmp_path / "thesis", "work")
    with (
        pytest.raises(FarstepError, match="not a directory"),
        staged_directory(tmp_path / "thesis", overwrite=True, owned=["thesis"]),
    ):
        pass
    assert (tmp_path / "thesis").read_text() == "work"
