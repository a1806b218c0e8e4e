"""The formats that episodes are imported from, by name; and the import itself.

Adding one takes one file with a `Format`, and one entry here, or a call of `register_format` from
another package.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from farstep.core.errors import FarstepError
from farstep.core.files import check_free_space
from farstep.core.registry import registered
from farstep.data.conversion import Conversion
from farstep.data.episodes import Episode, Split, import_episodes
from farstep.data.records import Records, recorded, unfinished
from farstep.data.sources.base import Format, ImportOptions, Source
from farstep.data.sources.d4rl import D4RL
from farstep.data.sources.hdf5 import HDF5
from farstep.data.sources.hdf5_file import SUFFIXES
from farstep.data.sources.lerobot import LEROBOT
from farstep.data.sources.minari import MINARI
from farstep.data.sources.npz import NPZ
from farstep.data.sources.raw_bridge import RAW_BRIDGE
from farstep.data.sources.rlds import RLDS
from farstep.data.sources.robomimic import ROBOMIMIC
from farstep.data.table import check_name, data_root

FORMATS: dict[str, Format] = {
    format.name: format
    for format in (RLDS, LEROBOT, MINARI, RAW_BRIDGE, NPZ, ROBOMIMIC, D4RL, HDF5)
}
"""Formats by name, in the order in which they are tried on a path."""

ENDINGS = (".npz", *SUFFIXES)
"""Suffixes of files that are left out of a dataset's name."""

Progress = Callable[[int, int], None]
"""Called with (steps written, steps in all)."""


@dataclass(frozen=True)
class Imported:
    """A finished import: the dataset's directory, and notes for the user."""

    path: Path
    notes: tuple[str, ...]


def register_format(format: Format) -> None:
    """Make a further format known, to the command line too.

    Raises:
        ValueError: there is one of that name.
    """
    if format.name in FORMATS:
        raise ValueError(f"there is a format '{format.name}' already")
    FORMATS[format.name] = format


def open_source(path: Path, options: ImportOptions, format: str | None = None) -> Source:
    """The episodes at `path`, by the named format or by the one that recognises it.

    Raises:
        FarstepError: nothing is there, or nothing that any format reads; says what it is.
    """
    if not path.exists():
        raise FarstepError(f"There is no file {path}.")
    if path.is_file() and path.stat().st_size == 0:
        raise FarstepError(f"{path} is empty.")
    if format is not None:
        return registered(FORMATS, "format", format).open(path, options)
    for known in FORMATS.values():
        if known.recognises(path):
            return known.open(path, options)
    raise FarstepError(describe(path))


def import_source(
    path: Path,
    name: str | None = None,
    *,
    format: str | None = None,
    environment: str | None = None,
    options: ImportOptions | None = None,
    overwrite: bool = False,
    provenance: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Imported:
    """Import what lies at `path` as dataset `name` under `data_root()`.

    Logs whose split can be resumed go on where an import of the same options was cut off.

    Args:
        path: a file or directory of any format in `FORMATS`.
        name: the dataset's name; that of the file or directory if left out.
        format: the format's name; by default the one that recognises the path.
        environment: name of the environment, stored for evaluation.
        options: options for reading the data.
        overwrite: replace a dataset of this name.
        provenance: stored in the manifest beside what the source tells.
        progress: called after every block.

    Raises:
        FarstepError: files missing, damaged or of the wrong shape, numbers that are not finite,
            or no space; nothing is left behind.
    """
    options = options or ImportOptions()
    name = check_name(name if name is not None else default_name(path))
    target = data_root() / name
    if target.exists() and not overwrite:
        raise FarstepError(f"{target} already exists. Choose another name, or --overwrite it.")
    source = open_source(path, options, format)
    options = replace(
        options,
        num_actions=options.num_actions or source.num_actions,
        out_of_range=options.out_of_range or "scale",
    )
    plan = {
        "source": str(path.resolve()),
        "options": asdict(options),
        "splits": {part: split.provenance for part, split in source.splits.items()},
    }
    splits = dict(source.splits)
    unfinished_part = unfinished(target)
    with ExitStack() as stack:
        for part, split in splits.items():
            if split.resume is not None:
                records = Records(unfinished_part / part, plan, overwrite=overwrite)
                splits[part] = recorded(stack.enter_context(records), split)
        try:
            notes = _write(
                target,
                splits,
                options,
                name=name,
                environment=environment,
                overwrite=overwrite,
                provenance=provenance or {},
                progress=progress,
            )
        except FarstepError:
            # The episodes read so far would be refused again.
            stack.close()
            shutil.rmtree(unfinished_part, ignore_errors=True)
            raise
    shutil.rmtree(unfinished_part, ignore_errors=True)
    return Imported(target, (*source.notes, *notes))


def _write(
    target: Path,
    splits: dict[str, Split],
    options: ImportOptions,
    *,
    name: str,
    environment: str | None,
    overwrite: bool,
    provenance: Mapping[str, Any],
    progress: Progress | None,
) -> tuple[str, ...]:
    """Convert the splits and write them; returns notes for the user."""
    train = _without(splits["train"], frozenset(options.leave_out))
    conversion, splits["train"] = Conversion.from_split(train, options)
    total = sum(split.steps or 0 for split in splits.values())
    done = 0
    # Logs that can be resumed lie beside the table until that is whole.
    recorded = any(split.resume is not None for split in splits.values())
    row = conversion.row_bytes + (conversion.logged_bytes if recorded else 0)
    there = sum(file.stat().st_size for file in unfinished(target).rglob("episodes"))
    check_free_space(target, max(0, total * row - there))

    def counted(episodes: Iterator[Episode]) -> Iterator[Episode]:
        nonlocal done
        for episode in episodes:
            yield episode
            done += len(episode.observations)
            if progress is not None:
                progress(done, max(done, total))

    notes = import_episodes(
        target,
        {
            part: Split(
                counted(conversion(split.episodes)),
                None,
                {**provenance, "out_of_range": options.out_of_range, **split.provenance},
            )
            for part, split in splits.items()
        },
        conversion.spaces,
        name=name,
        environment=environment,
        scale_actions=options.out_of_range == "scale",
        overwrite=overwrite,
        check=conversion.check,
    )
    return (*conversion.notes, *notes)


def _without(split: Split, numbers: frozenset[int]) -> Split:
    """A split without the episodes of these numbers."""

    def rest() -> Iterator[Episode]:
        number = 0
        for episode in split.episodes:
            if number not in numbers:
                yield episode
            number += episode.ends
        beyond = [one for one in numbers if not 0 <= one < number]
        if beyond:
            raise FarstepError(
                f"Episode {min(beyond)} cannot be left out: there are {number}, from 0 on."
            )

    return replace(split, episodes=rest()) if numbers else split


def default_name(path: Path) -> str:
    """The name of a dataset that lies at `path`, unless another is given."""
    name = path.resolve().name
    return name.removesuffix(next((end for end in ENDINGS if name.endswith(end)), ""))


def describe(path: Path) -> str:
    """A message for a path that no format reads, with what to do."""
    if path.is_dir():
        return f"{path} holds no .npz file to train on."
    with path.open("rb") as file:
        head = file.read(512)
    text = head.lstrip().lower()
    save = "Read it with its own library, and save the arrays with numpy.savez."
    for kind, is_it, advice in (
        ("a Parquet file", head.startswith(b"PAR1"), save),
        (
            "an .npy file",
            head.startswith(b"\x93NUMPY"),
            "It holds one array without a name: save all of them with numpy.savez, as"
            " observations=…, actions=…, terminals=….",
        ),
        (
            "a pickle",
            head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"),
            "It can run any program when it is read, so farstep never reads one: save the arrays"
            " with numpy.savez.",
        ),
        ("a gzip file", head.startswith(b"\x1f\x8b"), "Unpack it with gunzip or tar first."),
        (
            "a web page",
            text.startswith((b"<!doctype html", b"<html", b"<head")),
            "An address that asks for a login or has moved gives one: get the file again.",
        ),
        (
            "a Git LFS pointer",
            text.startswith(b"version https://git-lfs"),
            "The data are fetched by `git lfs pull` in its repository.",
        ),
        ("a text file", not head.translate(None, _TEXT), save),
    ):
        if is_it:
            return f"{path} is {kind}, not an .npz file. {advice}"
    return f"{path} is not an .npz file: it begins with {head[:8]!r}."


_TEXT = bytes(range(32, 127)) + b"\t\n\r" + bytes(range(128, 256))
"""Bytes of text in UTF-8."""
