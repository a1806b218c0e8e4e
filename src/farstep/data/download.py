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
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from farstep.core.errors import FarstepError
from farstep.core.files import NO_SPACE, check_free_space, format_bytes
from farstep.data.sources.base import ImportOptions
from farstep.data.sources.npz import file_sha256
from farstep.data.sources.npz_file import DamagedFileError
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
        name: as OGBench names it; `-v0` may be left out.
        mirrors: addresses to try in order; `mirror_list()` if left out.
        offline: use only files that are already there.
        sha256: checksum that the training file must have; else its `.sha256` sidecar on the
            mirror is used, if there is one.
        val_sha256: the same for the validation file.
        environment: name of the environment, stored in the tables.
        overwrite: import again where the dataset exists already.
        keep_files: keep the downloaded files after the import.
        patience: timeouts and retries.
        on_download: told of every chunk.
        on_import: told of every imported block.

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
            options=ImportOptions(val=val, out_of_range="keep"),
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
        filename: its name on every mirror.
        directory: where it goes; created if need be.
        mirrors: URLs of directories, tried in order.
        sha256: checksum it must have; else that of the mirror's sidecar, if there is one.
        offline: request nothing.
        optional: give `None` if every mirror says that it has no such file.
        patience: timeouts and retries.
        progress: told of every chunk.

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
    part = _Part(directory, filename)
    answers: list[str] = []
    missing = 0
    with part.locked():
        if target.is_file():
            return target
        for mirror in mirrors:
            url = f"{mirror}/{quote(filename)}"
            try:
                _fetch_from(url, part, sha256, patience, progress)
            except _Failure as failure:
                answers.append(f"  {url}: {failure}")
                missing += isinstance(failure, _Missing)
            else:
                part.become(target)
                return target
        if optional and missing == len(mirrors):
            return None
        raise FarstepError(
            f"Could not fetch {filename}:\n" + "\n".join(answers) + "\n"
            "Try again to resume, name another mirror (--mirror URL, or FARSTEP_MIRRORS), or put"
            f" the file at {target} by hand."
        )


class _Failure(Exception):
    """A mirror did not give the file; what it answered."""


class _Passing(_Failure):
    """It may do so if asked again."""


class _Missing(_Failure):
    """It has no such file."""


class _Spoiled(_Failure):
    """The bytes received are not those of the file."""


@dataclass(frozen=True)
class _Part:
    """A file under way: its bytes, and which version of which URL they belong to."""

    directory: Path
    filename: str

    @property
    def path(self) -> Path:
        return self.directory / f"{self.filename}.part"

    @property
    def _state_path(self) -> Path:
        return self.directory / f"{self.filename}.part.json"

    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def validator(self, url: str) -> str | None:
        """The entity tag or date of the bytes here, if they came from `url`."""
        try:
            state = json.loads(self._state_path.read_text(encoding="utf-8"))
            return state["validator"] if state["url"] == url else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def restart(self, url: str, validator: str | None) -> None:
        """Empty the file; the bytes to come are `validator` of `url`."""
        self.discard()
        self.path.touch()
        if validator is not None:
            state = json.dumps({"url": url, "validator": validator})
            self._state_path.write_text(state, encoding="utf-8")

    def discard(self) -> None:
        # The state goes first: bytes without one are never resumed.
        self._state_path.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def become(self, target: Path) -> None:
        self.path.replace(target)
        self._state_path.unlink(missing_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second process from writing the same file; a dead process holds no lock."""
        if sys.platform == "win32":
            yield
            return
        import fcntl

        lock = self.directory / f"{self.filename}.lock"
        with lock.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise FarstepError(
                    f"Another process is fetching {self.filename} into {self.directory}."
                    " Wait for it."
                ) from error
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)


def _fetch_from(
    url: str,
    part: _Part,
    sha256: str | None,
    patience: Patience,
    progress: DownloadProgress | None,
) -> None:
    """Complete `part` from `url`, or raise the last `_Failure`.

    Bytes that turn out wrong are asked for once more from the start if some of them were of an
    earlier try; a file that comes wrong in one piece would come wrong again.
    """
    for attempt in range(1, patience.attempts + 1):
        resumes = part.size() > 0 and part.validator(url) is not None
        try:
            _transfer(url, part, patience, progress)
            _check_whole(url, part, sha256, patience)
        except _Spoiled:
            part.discard()
            if not resumes or attempt == patience.attempts:
                raise
        except _Passing:
            if attempt == patience.attempts:
                raise
        else:
            return
        time.sleep(min(patience.pause * 2 ** (attempt - 1), _LONGEST_PAUSE))


def _transfer(url: str, part: _Part, patience: Patience, progress: DownloadProgress | None) -> None:
    begin, validator = part.size(), part.validator(url)
    headers = {}
    if begin and validator is not None:
        headers = {"Range": f"bytes={begin}-", "If-Range": validator}
    with _request(url, headers, patience) as response:
        if response is None:
            # The server knows of no byte after ours: all are here, if it agrees on the length.
            return
        if response.status == 206:
            total = _resumed_total(response.headers.get("Content-Range"), begin)
            if total is None:
                raise _Spoiled("it resumed at another place than was asked for")
        else:
            begin = 0
            length = response.headers.get("Content-Length")
            total = int(length) if length and length.isdigit() else None
            part.restart(url, _validator_of(response))
        if total is not None:
            check_free_space(part.directory, total - begin)
        received = begin
        with part.path.open("ab") as file:
            for chunk in _chunks(response):
                _write(file, chunk, part)
                received += len(chunk)
                if progress is not None:
                    progress(part.filename, received, total)
    if total is not None and received < total:
        raise _Passing(f"it stopped after {format_bytes(received)} of {format_bytes(total)}")
    if total is not None and received > total:
        raise _Spoiled(f"it sent {format_bytes(received)} instead of {format_bytes(total)}")


@contextmanager
def _request(url: str, headers: dict[str, str], patience: Patience) -> Iterator[Any]:
    """The response to a GET; `None` if the requested range begins at the file's end."""
    request = urllib.request.Request(
        url, headers={"User-Agent": "farstep", "Accept-Encoding": "identity", **headers}
    )
    # An opener of its own reads the proxy settings of the environment as they are now.
    opener = urllib.request.build_opener()
    try:
        response = opener.open(request, timeout=patience.timeout)
    except urllib.error.HTTPError as error:
        error.close()
        whole = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range") or "")
        if error.code == 416 and whole and headers.get("Range") == f"bytes={whole[1]}-":
            yield None
            return
        answer = f"HTTP {error.code} {error.reason}"
        if error.code in (404, 410):
            raise _Missing(answer) from error
        if error.code == 416:
            raise _Spoiled(answer) from error
        if error.code in (408, 425, 429) or error.code >= 500:
            raise _Passing(answer) from error
        raise _Failure(answer) from error
    except urllib.error.URLError as error:
        if url.startswith("file:"):
            raise _Missing(str(error.reason)) from error
        raise _Passing(str(error.reason)) from error
    except (OSError, http.client.HTTPException) as error:
        raise _Passing(_in_words(error)) from error
    with response:
        yield response


def _chunks(response: Any) -> Iterator[bytes]:
    while True:
        try:
            chunk = response.read1(_CHUNK) if hasattr(response, "read1") else response.read(_CHUNK)
        except (OSError, http.client.HTTPException) as error:
            raise _Passing(_in_words(error)) from error
        if not chunk:
            return
        yield chunk


def _write(file: Any, chunk: bytes, part: _Part) -> None:
    try:
        file.write(chunk)
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        raise FarstepError(
            f"No space left to write {part.path} ({error.strerror}). Free some space and run this"
            " again: it resumes."
        ) from error


def _in_words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error) or type(error).__name__


def _validator_of(response: Any) -> str | None:
    tag = response.headers.get("ETag")
    if tag and not tag.startswith("W/"):
        return tag
    return response.headers.get("Last-Modified")


def _resumed_total(content_range: str | None, begin: int) -> int | None:
    match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", content_range or "")
    if match is None:
        return None
    first, last, total = map(int, match.groups())
    return total if first == begin and last == total - 1 else None


def _check_whole(url: str, part: _Part, sha256: str | None, patience: Patience) -> None:
    if expected := (sha256 or _published_sum(url, patience)):
        found = file_sha256(part.path)
        if found != expected.lower():
            raise _Spoiled(f"the file's SHA-256 is {found}, not {expected.lower()}")
    elif not zipfile.is_zipfile(part.path):
        raise _Spoiled("what it sent is not a whole .npz file")


def _published_sum(url: str, patience: Patience) -> str | None:
    """The checksum in the sidecar `<url>.sha256`, in the form that `sha256sum` writes."""
    try:
        with _request(f"{url}.sha256", {}, patience) as response:
            text = response.read(4096).decode("utf-8", errors="replace")
    except (_Failure, OSError, http.client.HTTPException):
        return None
    match = re.match(r"\s*\\?([0-9a-fA-F]{64})(\s|$)", text)
    return match[1] if match else None


def _check_sum(path: Path, sha256: str | None) -> None:
    if sha256 is not None and (found := file_sha256(path)) != sha256.lower():
        raise FarstepError(
            f"{path} has SHA-256 {found}, not {sha256.lower()}. Remove it to fetch it again."
        )
