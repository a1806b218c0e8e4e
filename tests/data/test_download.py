"""Downloads end with the whole file or with a clear refusal, whatever the mirror does."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from farstep.core.errors import FarstepError
from farstep.data import download
from farstep.data.download import Patience, fetch, get, mirror_list
from farstep.data.table import open_dataset

NAME = "pointmaze-medium-stitch-v0"
FILE = f"{NAME}.npz"
VAL = f"{NAME}-val.npz"


def npz(steps: int, seed: int = 0) -> bytes:
    generator = np.random.default_rng(seed)
    file = io.BytesIO()
    np.savez(
        file,
        observations=generator.normal(size=(steps, 8)).astype(np.float32),
        actions=generator.uniform(-1, 1, (steps, 2)).astype(np.float32),
        terminals=np.arange(1, steps + 1) % 10 == 0,
    )
    return file.getvalue()


CONTENT, VAL_CONTENT = npz(5000), npz(500, seed=1)
FILES = {FILE: CONTENT, VAL: VAL_CONTENT}
SHA256 = hashlib.sha256(CONTENT).hexdigest()
QUICK = Patience(timeout=0.4, attempts=3, pause=0.01)


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch) -> Path:
    """Data and home in a place of their own, no proxy, and no way to the internet."""
    monkeypatch.setenv("FARSTEP_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("FARSTEP_MIRRORS", raising=False)
    for scheme in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{scheme}_proxy", raising=False)
        monkeypatch.delenv(f"{scheme.upper()}_PROXY", raising=False)
    monkeypatch.setattr(download, "PUBLISHED_MIRROR", "http://127.0.0.1:9/nowhere")
    return tmp_path / "data"


@pytest.fixture(name="serve")
def serve_dataset(serve: Callable[..., Any]) -> Callable[..., Any]:
    """Serves the two files of one dataset unless told of others."""
    return lambda *faults, files=FILES, **options: serve(files, *faults, **options)


def fetched(tmp_path: Path, *mirrors: Any, **options) -> bytes:
    path = fetch(
        FILE, tmp_path, mirrors=[mirror.url for mirror in mirrors], patience=QUICK, **options
    )
    assert path == tmp_path / FILE
    assert leftovers(tmp_path) == [FILE]
    return (tmp_path / FILE).read_bytes()


def leftovers(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if not path.is_dir())


def test_a_whole_file_in_one_request(tmp_path, serve):
    mirror = serve()
    seen = []
    assert fetched(tmp_path, mirror, progress=lambda *state: seen.append(state)) == CONTENT
    assert mirror.requested(FILE) == [None]
    assert seen[-1] == (FILE, len(CONTENT), len(CONTENT))


@pytest.mark.parametrize("fault", ["cut", "stall"])
def test_resumes_where_a_transfer_broke_off(tmp_path, serve, fault):
    mirror = serve(fault, fault)
    assert fetched(tmp_path, mirror) == CONTENT
    half = len(CONTENT) // 2
    quarter = half + (len(CONTENT) - half) // 2
    assert mirror.requested(FILE) == [None, f"bytes={half}-", f"bytes={quarter}-"]


def test_resumes_in_a_later_call(tmp_path, serve):
    mirror = serve("cut", "404")
    with pytest.raises(FarstepError, match="404"):
        fetched(tmp_path, mirror)
    assert leftovers(tmp_path) == [f"{FILE}.part", f"{FILE}.part.json"]
    assert fetched(tmp_path, mirror) == CONTENT
    assert mirror.requested(FILE)[-1] == f"bytes={len(CONTENT) // 2}-"


def test_starts_over_where_ranges_are_ignored(tmp_path, serve):
    assert fetched(tmp_path, serve("cut", ranges=False)) == CONTENT


def test_starts_over_where_versions_cannot_be_told(tmp_path, serve):
    mirror = serve("cut", tags=False)
    assert fetched(tmp_path, mirror) == CONTENT
    assert mirror.requested(FILE) == [None, None]


def test_starts_over_when_the_file_was_replaced_meanwhile(tmp_path, serve):
    mirror = serve("cut", "404")
    with pytest.raises(FarstepError):
        fetched(tmp_path, mirror)
    mirror.files[FILE] = npz(4000, seed=7)
    assert fetched(tmp_path, mirror) == mirror.files[FILE]


def test_never_joins_the_halves_of_two_mirrors(tmp_path, serve):
    other = serve(files={FILE: npz(5000, seed=9)})
    broken = serve("cut", default="404")
    assert fetched(tmp_path, broken, other) == other.files[FILE]
    assert other.requested(FILE) == [None]


def test_a_range_from_another_place_is_not_joined(tmp_path, serve):
    mirror = serve("cut", "shifted")
    assert fetched(tmp_path, mirror) == CONTENT
    assert mirror.requested(FILE)[-1] is None


def test_a_part_that_is_already_whole(tmp_path, serve):
    """The last try broke between the last byte and the rename."""
    mirror = serve("declares more")
    assert fetched(tmp_path, mirror) == CONTENT
    assert mirror.requested(FILE) == [None, f"bytes={len(CONTENT)}-"]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("declares more", "stopped after"),
        ("declares less", r"not a whole \.npz"),
        ("page", r"not a whole \.npz"),
        ("404", "HTTP 404"),
        ("503", "HTTP 503"),
        ("cut", "stopped after"),
        ("stall", "no answer in time"),
    ],
)
def test_falls_to_the_next_mirror(tmp_path, serve, fault, message):
    broken = serve(default=fault, ranges=False)
    with pytest.raises(FarstepError, match=message) as caught:
        fetched(tmp_path, broken)
    assert str(tmp_path / FILE) in str(caught.value)
    assert not (tmp_path / FILE).exists()
    assert len(broken.requested(FILE)) <= QUICK.attempts
    broken.requests.clear()
    assert fetched(tmp_path, broken, serve()) == CONTENT


def test_a_mirror_that_is_not_there(tmp_path, serve):
    path = fetch(FILE, tmp_path, mirrors=["http://127.0.0.1:9", serve().url], patience=QUICK)
    assert path is not None
    assert path.read_bytes() == CONTENT


def test_retries_wait_longer_each_time_and_end(tmp_path, serve, monkeypatch):
    pauses: list[float] = []
    monkeypatch.setattr(download.time, "sleep", pauses.append)
    mirror = serve(default="503")
    patience = Patience(attempts=8, pause=1.0)
    with pytest.raises(FarstepError):
        fetch(FILE, tmp_path, mirrors=[mirror.url], patience=patience)
    assert pauses == [1, 2, 4, 8, 16, 30, 30]
    assert len(mirror.requested(FILE)) == 8


@pytest.mark.parametrize("form", [SHA256, f"{SHA256}  {FILE}\n", f"{SHA256.upper()} *{FILE}"])
def test_the_sidecar_finds_a_corrupted_file(tmp_path, serve, form):
    files = {FILE: CONTENT, f"{FILE}.sha256": form.encode()}
    broken = serve(default="corrupt", files=files)
    with pytest.raises(FarstepError, match="SHA-256"):
        fetched(tmp_path, broken)
    assert leftovers(tmp_path) == []
    assert fetched(tmp_path, broken, serve(files=files)) == CONTENT


def test_a_given_checksum_finds_a_corrupted_file(tmp_path, serve):
    broken = serve(default="corrupt")
    with pytest.raises(FarstepError, match=f"not {SHA256}"):
        fetched(tmp_path, broken, sha256=SHA256)
    assert fetched(tmp_path, broken, serve(), sha256=SHA256.upper()) == CONTENT


def test_a_spoiled_part_is_fetched_again_from_the_start(tmp_path, serve):
    mirror = serve("cut", "404")
    with pytest.raises(FarstepError):
        fetched(tmp_path, mirror)
    part = tmp_path / f"{FILE}.part"
    part.write_bytes(b"\0" * part.stat().st_size)
    assert fetched(tmp_path, mirror, sha256=SHA256) == CONTENT
    assert mirror.requested(FILE)[-1] is None


def test_a_page_is_no_checksum(tmp_path, serve):
    files = {FILE: CONTENT, f"{FILE}.sha256": b"<html>Not found</html>"}
    assert fetched(tmp_path, serve(files=files)) == CONTENT


def test_a_file_that_is_there_is_not_requested(tmp_path, serve):
    (tmp_path / FILE).write_bytes(CONTENT)
    mirror = serve()
    assert fetched(tmp_path, mirror) == CONTENT
    assert fetched(tmp_path, mirror, sha256=SHA256) == CONTENT
    assert mirror.requests == []
    with pytest.raises(FarstepError, match="Remove it to fetch it again"):
        fetched(tmp_path, mirror, sha256="0" * 64)


def test_offline_says_where_to_put_the_file(root, serve):
    mirror = serve()
    with pytest.raises(FarstepError) as caught:
        get(NAME, mirrors=[mirror.url], offline=True)
    place = root / "downloads" / FILE
    assert str(place) in str(caught.value)
    place.parent.mkdir(parents=True)
    place.write_bytes(CONTENT)
    get(NAME, mirrors=[mirror.url], offline=True)
    assert open_dataset(NAME).train.num_steps == 5000
    assert mirror.requests == []


def test_two_processes_do_not_write_one_file(tmp_path, serve):
    mirror = serve()
    with download._locked(tmp_path / FILE), pytest.raises(FarstepError, match="Another process"):
        fetched(tmp_path, mirror)


def test_a_proxy_from_the_environment(tmp_path, serve, monkeypatch):
    proxy = serve()
    monkeypatch.setenv("http_proxy", proxy.url)
    path = fetch(FILE, tmp_path, mirrors=["http://mirror.invalid"], patience=QUICK)
    assert path is not None
    assert path.read_bytes() == CONTENT
    assert proxy.requested(FILE) == [None]


def test_what_cannot_fit_is_not_fetched(tmp_path, serve, monkeypatch):
    class Usage:
        free = 1000

    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage)
    with pytest.raises(FarstepError, match=r"1\.0 kB are free"):
        fetched(tmp_path, serve())


def test_get_imports_both_files(root, serve):
    mirror = serve()
    imported = get("pointmaze-medium-stitch", mirrors=[mirror.url], environment="e", patience=QUICK)
    assert imported.notes == ()
    dataset = open_dataset(NAME, verify=True)
    assert dataset.environment == "e"
    assert dataset.train.num_episodes == 500
    assert dataset.val is not None
    assert dataset.val.num_episodes == 50
    assert leftovers(root / "downloads") == [VAL, FILE]
    before = len(mirror.requests)
    assert "already there" in get(NAME, mirrors=[mirror.url]).notes[0]
    assert len(mirror.requests) == before


def test_get_may_forget_the_files(root, serve):
    get(NAME, mirrors=[serve().url], keep_files=False)
    assert leftovers(root / "downloads") == []
    assert open_dataset(NAME).val is not None


def test_get_without_a_validation_file(serve):
    imported = get(NAME, mirrors=[serve(files={FILE: CONTENT}).url], patience=QUICK)
    assert any("no validation" in note for note in imported.notes)
    assert open_dataset(NAME).val is None


def test_a_validation_file_that_fails_is_not_taken_for_absent(serve):
    mirror = serve("none", default="503")
    with pytest.raises(FarstepError, match=f"Could not fetch {VAL}"):
        get(NAME, mirrors=[mirror.url], patience=QUICK)


def test_a_file_damaged_within_is_not_kept(root, serve):
    """No checksum told, the zip's directory is in place: only reading it shows the damage."""
    with pytest.raises(FarstepError, match=r"not a whole \.npz"):
        get(NAME, mirrors=[serve("corrupt").url], patience=QUICK)
    assert leftovers(root / "downloads") == [VAL]
    get(NAME, mirrors=[serve().url], patience=QUICK)
    assert open_dataset(NAME).train.num_steps == 5000


def test_uses_what_ogbench_downloaded(tmp_path, serve):
    theirs = tmp_path / "home" / ".ogbench" / "data"
    theirs.mkdir(parents=True)
    (theirs / FILE).write_bytes(CONTENT)
    (theirs / VAL).write_bytes(VAL_CONTENT)
    mirror = serve()
    get(NAME, mirrors=[mirror.url], keep_files=False)
    assert mirror.requests == []
    assert open_dataset(NAME).train.num_steps == 5000
    assert leftovers(theirs) == [VAL, FILE]


def test_a_directory_is_a_mirror(tmp_path):
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    (shelf / FILE).write_bytes(CONTENT)
    imported = get(NAME, mirrors=[str(shelf)], patience=QUICK)
    assert open_dataset(NAME).train.num_steps == 5000
    assert any("no validation" in note for note in imported.notes)


def test_mirrors_in_order(tmp_path, monkeypatch):
    monkeypatch.setenv("FARSTEP_MIRRORS", "https://b.example/x/, https://c.example")
    assert mirror_list(["https://a.example", "https://c.example"]) == (
        "https://a.example",
        "https://c.example",
        "https://b.example/x",
        download.PUBLISHED_MIRROR,
    )
    with pytest.raises(FarstepError, match="is no mirror"):
        mirror_list(["ftp://a.example"])
    with pytest.raises(FarstepError, match="is no mirror"):
        mirror_list([str(tmp_path / "nowhere")])


@pytest.mark.parametrize("name", ["../secret", "a/b", ""])
def test_names_stay_names(name, serve):
    with pytest.raises(FarstepError, match="cannot name"):
        get(name, mirrors=[serve().url])
