"""Fetching published datasets: resumed, checked, from one of several mirrors, and cached.

A file under way is `<file>.part`, with `<file>.part.json` beside it saying which version of which
URL it holds. It is renamed when its length, its checksum (where one is known) and the zip file's
own directory agree. A later call resumes it; a finished file is never requested again.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, urlsplit

from farstep.core.errors import FarstepError
from farstep.core.files import NO_SPACE, check_free_space, format_bytes, try_lock, write_text
from farstep.data.sources.base import ImportOptions
from farstep.data.sources.flat import file_sha256
from farstep.data.sources.npz import DamagedFileError
from farstep.data.sources.registry import Imported, Progress, import_source
from farstep.data.table import canonical_name, check_name, data_root, is_dataset

PUBLISHED_MIRROR = "https://rail.eecs.berkeley.edu/datasets/ogbench"
"""Where OGBench publishes its datasets (its own loader has this address)."""

_CHUNK = 1 << 20
_LONGEST_PAUSE = 30.0

DownloadProgress = Callable[[str, int, int | None], None]
"""Called with (file name, bytes so far, bytes in all if known)."""


@dataclass(frozen=True)
class Patience:
    """How long to try.

    Attributes:
        timeout: seconds without a byte after which a connection is given up.
        attempts: tries per mirror, for failures that may pass.
        pause: seconds before the second try; doubled for each further one, up to 30.
    """

    timeout: float = 30.0
    attempts: int = 5
    pause: float = 1.0


def mirror_list(chosen: Sequence[str] = ()) -> tuple[str, ...]:
    """Addresses in the order in which they are tried, without repeats.

    First the `chosen` ones, then those of `$FARSTEP_MIRRORS` (separated by commas or spaces),
    then OGBench's own. An address is an http(s) or file URL of a directory, or a local path.

    Raises:
        FarstepError: an address of another kind.
    """
    named = re.split(r"[,\s]+", os.environ.get("FARSTEP_MIRRORS", ""))
    return tuple(
        dict.fromkeys(_as_url(mirror) for mirror in (*chosen, *named, PUBLISHED_MIRROR) if mirror)
    )


def _as_url(mirror: str) -> str:
    scheme = urlsplit(mirror).scheme
    if scheme in ("http", "https", "file"):
        return mirror.rstrip("/")
    path = Path(mirror).expanduser()
    if path.is_dir():
        return path.resolve().as_uri()
    raise FarstepError(
        f"'{mirror}' is no mirror: give an http, https or file URL, or an existing directory."
    )


def get(
    name: str,
    *,
    mirrors: Sequence[str] | None = None,
    offline: bool = False,
    sha256: str | None = None,
    val_sha256: str | None = None,
    environment: str | None = None,
    num_actions: int | None = None,
    overwrite: bool = False,
    keep_files: bool = True,
    patience: Patience | None = None,
    on_download: DownloadProgress | None = None,
    on_import: Progress | None = None,
) -> Imported:
    """Download and import the published dataset `name`; at once if it is already there.

    Files lie in `data_root()/downloads`; those that OGBench itself downloaded, in
    `~/.ogbench/data`, are used where they lie.

    Args:
        name: name in OGBench; `-v0` may be left out.
        mirrors: addresses to try in order; `mirror_list()` if left out.
        offline: use only files that are already there.
        sha256: checksum of the training file; that of the mirror's `.sha256` sidecar by default.
        val_sha256: the same of the validation file.
        environment: name of the environment, stored in the tables.
        num_actions: number of discrete actions; None where actions are continuous.
        overwrite: import again where the dataset exists already.
        keep_files: keep the downloaded files after the import.

    Raises:
        FarstepError: no mirror has the file whole; says what each answered, and where to put the
            file by hand.
    """
    name = canonical_name(check_name(name))
    target = data_root() / name
    if not overwrite and is_dataset(target):
        return Imported(target, (f"{name} is already there; nothing was requested.",))
    mirrors = mirror_list() if mirrors is None else [_as_url(mirror) for mirror in mirrors]
    downloads = data_root() / "downloads"
    files: list[Path | None] = []
    for filename, checksum, optional in (
        (f"{name}.npz", sha256, False),
        (f"{name}-val.npz", val_sha256, True),
    ):
        cached = Path.home() / ".ogbench" / "data" / filename
        if cached.is_file() and not (downloads / filename).is_file():
            _check_sum(cached, checksum)
            files.append(cached)
            continue
        files.append(
            fetch(
                filename,
                downloads,
                mirrors=mirrors,
                sha256=checksum,
                offline=offline,
                optional=optional,
                patience=patience or Patience(),
                progress=on_download,
            )
        )
    train, val = files
    assert train is not None
    try:
        imported = import_source(
            train,
            name,
            options=ImportOptions(val=val, out_of_range="keep", num_actions=num_actions),
            environment=environment,
            overwrite=overwrite,
            provenance={"published_as": name},
            progress=on_import,
        )
    except DamagedFileError as error:
        if error.path.parent == downloads:
            error.path.unlink(missing_ok=True)
        raise
    if val is None:
        note = "There is no validation file, and so no validation table."
        imported = Imported(imported.path, (*imported.notes, note))
    if not keep_files:
        for path in files:
            if path is not None and path.parent == downloads:
                path.unlink()
    return imported


def fetch(
    filename: str,
    directory: Path,
    *,
    mirrors: Sequence[str],
    sha256: str | None = None,
    offline: bool = False,
    optional: bool = False,
    patience: Patience | None = None,
    progress: DownloadProgress | None = None,
) -> Path | None:
    """Download one file into `directory`, unless it is there.

    Args:
        mirrors: URLs of directories, tried in order.
        sha256: its checksum; that of the mirror's `.sha256` sidecar by default.
        offline: request nothing.
        optional: give `None` if every mirror says that it has no such file.

    Raises:
        FarstepError: no mirror gave the file whole, or it is not there and `offline` is set, or
            the disk is full.
    """
    patience = patience or Patience()
    target = directory / filename
    if target.is_file():
        _check_sum(target, sha256)
        return target
    if offline:
        if optional:
            return None
        raise FarstepError(
            f"{filename} is not here, and nothing may be fetched offline. Put it at {target} and"
            " run this again."
        )
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FarstepError(f"Cannot write to {directory}: {error.strerror}.") from error
    failures: dict[str, _Failure] = {}
    with _locked(target):
        if target.is_file():
            return target
        for mirror in mirrors:
            url = f"{mirror}/{quote(filename)}"
            try:
                _Download(url, target, patience, progress).run(sha256)
                return target
            except _Failure as failure:
                failures[url] = failure
    if optional and all(failure.kind == "missing" for failure in failures.values()):
        return None
    answers = "".join(f"  {url}: {failure}\n" for url, failure in failures.items())
    raise FarstepError(
        f"Could not fetch {filename}:\n{answers}Try again to resume, name another mirror (--mirror"
        f" URL, or FARSTEP_MIRRORS), or put the file at {target} by hand."
    )


Kind = Literal["passing", "missing", "spoiled", "final"]


class _Failure(Exception):
    """A mirror did not give the file; what it answered.

    Attributes:
        kind: `passing` may do better if asked again, `missing` has no such file, `spoiled` sent
            other bytes than the file's, `final` refused.
    """

    def __init__(self, kind: Kind, answer: str):
        super().__init__(answer)
        self.kind = kind


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    """Keep a second process from fetching the same file; a dead process holds no lock."""
    lock = target.with_name(f"{target.name}.lock")
    with lock.open("w") as file:
        if not try_lock(file):
            raise FarstepError(
                f"Another process is fetching {target.name} into {target.parent}. Wait for it."
            )
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


class _Download:
    """One file from one URL, into `target`."""

    def __init__(
        self, url: str, target: Path, patience: Patience, progress: DownloadProgress | None
    ):
        self._url, self._target, self._patience, self._progress = url, target, patience, progress
        self._part, self._state = (
            target.with_name(f"{target.name}{end}") for end in (".part", ".part.json")
        )

    def run(self, sha256: str | None) -> None:
        """Complete the target, or raise the last `_Failure`.

        Bytes that turn out wrong are fetched once more from the start if some of them were of an
        earlier try; a file that comes wrong in one piece would come wrong again.
        """
        for attempt in range(self._patience.attempts):
            version = self._version() if self._part.exists() else None
            begin = self._part.stat().st_size if version else 0
            try:
                self._transfer(begin, version)
                self._check(sha256)
            except _Failure as failure:
                if failure.kind == "spoiled":
                    self._discard()
                again = failure.kind == "passing" or (failure.kind == "spoiled" and begin > 0)
                if not again or attempt + 1 == self._patience.attempts:
                    raise
                time.sleep(min(self._patience.pause * 2**attempt, _LONGEST_PAUSE))
            else:
                self._part.replace(self._target)
                self._state.unlink(missing_ok=True)
                return

    def _version(self) -> str | None:
        """The entity tag or date of the bytes on disk, if they came from this URL."""
        try:
            stored = json.loads(self._state.read_text(encoding="utf-8"))
            return stored["validator"] if stored["url"] == self._url else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _discard(self) -> None:
        # The state is written first: bytes without one are never resumed.
        self._state.unlink(missing_ok=True)
        self._part.unlink(missing_ok=True)

    def _transfer(self, begin: int, version: str | None) -> None:
        """Append the bytes from `begin` on, or fetch the whole file if it has changed."""
        headers = {"Range": f"bytes={begin}-", "If-Range": version or ""} if begin else {}
        with ExitStack() as stack:
            stack.enter_context(self._failures_named())
            try:
                response = stack.enter_context(_open(self._url, self._patience, headers))
            except urllib.error.HTTPError as error:
                if error.code == 416 and error.headers.get("Content-Range") == f"bytes */{begin}":
                    error.close()
                    return  # The server has no byte after ours, so the file is complete.
                raise
            length = response.headers.get("Content-Length") or ""
            if response.status != 206:
                begin = 0
                self._discard()
                tag = response.headers.get("ETag") or "W/"
                version = response.headers.get("Last-Modified") if tag.startswith("W/") else tag
                self._part.touch()
                if version is not None:
                    write_text(self._state, json.dumps({"url": self._url, "validator": version}))
            total = begin + int(length) if length.isdigit() else None
            place = response.headers.get("Content-Range")
            if response.status == 206 and place != f"bytes {begin}-{(total or 0) - 1}/{total}":
                raise _Failure("spoiled", "it resumed at another place than was asked for")
            check_free_space(self._part.parent, (total or begin) - begin)
            read = getattr(response, "read1", response.read)
            with self._part.open("ab") as file:
                while chunk := read(_CHUNK):
                    file.write(chunk)
                    begin += len(chunk)
                    if self._progress is not None:
                        self._progress(self._target.name, begin, total)
        if total is not None and begin < total:
            answer = f"it stopped after {format_bytes(begin)} of {format_bytes(total)}"
            raise _Failure("passing", answer)

    @contextmanager
    def _failures_named(self) -> Iterator[None]:
        """Turn what goes wrong with a request or while its answer is read into a `_Failure`."""
        try:
            yield
        except urllib.error.HTTPError as error:
            error.close()
            passing = error.code in (408, 425, 429) or error.code >= 500
            kind: Kind = "passing" if passing else "final"
            if error.code in (404, 410, 416):
                kind = "spoiled" if error.code == 416 else "missing"
            raise _Failure(kind, f"HTTP {error.code} {error.reason}") from error
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, OSError) and error.errno in NO_SPACE:
                raise FarstepError(
                    f"No space left to write {self._part} ({error.strerror}). Free some space and"
                    " run this again: it resumes."
                ) from error
            reason = getattr(error, "reason", error)
            late = isinstance(reason, TimeoutError)
            answer = "no answer in time" if late else str(reason) or type(reason).__name__
            unreachable: Kind = "missing" if self._url.startswith("file:") else "passing"
            raise _Failure(unreachable, answer) from error

    def _check(self, sha256: str | None) -> None:
        """Refuse a file of another checksum or, where none is known, one that is no zip file."""
        expected = (sha256 or _published_sum(self._url, self._patience) or "").lower()
        if not expected:
            if not zipfile.is_zipfile(self._part):
                raise _Failure("spoiled", "what it sent is not a whole .npz file")
        elif (found := file_sha256(self._part)) != expected:
            raise _Failure("spoiled", f"the file's SHA-256 is {found}, not {expected}")


def _open(url: str, patience: Patience, headers: Mapping[str, str]) -> Any:
    request = urllib.request.Request(
        url, headers={"User-Agent": "farstep", "Accept-Encoding": "identity", **headers}
    )
    # An opener of its own reads the proxy settings of the environment as they are now.
    return urllib.request.build_opener().open(request, timeout=patience.timeout)


def _published_sum(url: str, patience: Patience) -> str | None:
    """The checksum in the sidecar `<url>.sha256`, in the form that `sha256sum` writes."""
    try:
        with _open(f"{url}.sha256", patience, {}) as response:
            text = response.read(4096).decode("utf-8", errors="replace")
    except urllib.error.HTTPError as error:
        error.close()
        return None
    except (OSError, http.client.HTTPException):
        return None
    match = re.match(r"\s*\\?([0-9a-fA-F]{64})(\s|$)", text)
    return match[1] if match else None


def _check_sum(path: Path, sha256: str | None) -> None:
    if sha256 is not None and (found := file_sha256(path)) != sha256.lower():
        raise FarstepError(
            f"{path} has SHA-256 {found}, not {sha256.lower()}. Remove it to fetch it again."
        )
