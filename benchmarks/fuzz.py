"""Mutated logs: every file is read or refused in a sentence, within bounded memory.

    python benchmarks/fuzz.py
    python benchmarks/fuzz.py minari --count 100

Files of each kind are written small, then spoilt: bytes flipped, cut off, zeroed, doubled; in
TFRecord shards inside the records too, whose checksums are then made right again, and in Parquet
files among the values. Each is opened as `farstep data import` opens it, and all its episodes are
converted. A kind runs in a process of its own, so that a crash of a library is seen as one.
"""

from __future__ import annotations

import argparse
import json
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from farstep.core.errors import FarstepError
from farstep.data.conversion import Conversion
from farstep.data.sources.base import ImportOptions
from farstep.data.sources.registry import open_source

SECONDS = 60
"""A file that takes longer counts as a failure."""

ROWS = 100_000
"""Rows after which an import is not followed: a header may declare as many as it likes, and they
stream."""

DEFAULT = ImportOptions()
KEYS = ImportOptions(observation_key=("observation",), action_key="action")


def _hdf5(path: Path, **arrays: Any) -> Path:
    import h5py

    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            place = name.replace("__", "/")
            if "packed" in name:
                file.create_dataset(place, data=array, chunks=True, compression="gzip")
            else:
                file[place] = array
    return path


def minari(root: Path) -> Path:
    arrays = {}
    for number, length in ((0, 4), (1, 3)):
        arrays[f"episode_{number}__observations"] = np.ones((length + 1, 3))
        arrays[f"episode_{number}__actions"] = np.ones((length, 2))
    path = _hdf5(root / "data" / "main_data.hdf5", **arrays)
    space = json.dumps({"type": "Box"})
    (path.parent / "metadata.json").write_text(json.dumps({"action_space": space}))
    return path


def d4rl(root: Path) -> Path:
    ends = np.arange(40) % 8 == 7
    arrays = {"observations": np.ones((40, 3)), "actions": np.ones((40, 2)), "terminals": ends}
    return _hdf5(root / "d4rl.hdf5", **arrays, infos__qpos=np.ones((40, 4)))


def robomimic(root: Path) -> Path:
    arrays: dict[str, Any] = {"mask__valid": np.array([b"demo_1"])}
    for number in (0, 1):
        arrays[f"data__demo_{number}__actions"] = np.ones((5, 2))
        for prefix in ("obs", "next_obs"):
            arrays[f"data__demo_{number}__{prefix}__object"] = np.ones((5, 3))
    return _hdf5(root / "robomimic.hdf5", **arrays)


def hdf5(root: Path) -> Path:
    import h5py

    path = root / "own.h5"
    with h5py.File(path, "w") as file:
        for number in (0, 1):
            for name, size in (("observation", 3), ("action", 2)):
                file.create_dataset(
                    f"demo_{number}/{name}", data=np.ones((9, size)), compression="gzip"
                )
    return path


def rlds(root: Path) -> Path:
    from farstep.data.rlds_export import export_rlds
    from farstep.data.table import TableWriter, open_dataset

    with TableWriter(root / "table" / "train", (8, 8, 3), "uint8", 2) as writer:
        for _ in range(3):
            writer.append(np.ones((4, 8, 8, 3), np.uint8), np.ones((4, 2)), state=np.ones((4, 3)))
    files = export_rlds(open_dataset(root / "table"), root / "toy")
    return next(file for file in files if "tfrecord" in file.name)


def parquet(root: Path) -> Path:
    import pyarrow
    import pyarrow.parquet

    length = 6
    number = {"dtype": "float32", "shape": [2]}
    info = {
        "codebase_version": "v2.1",
        "fps": 10,
        "chunks_size": 1000,
        "features": {"observation.state": number, "action": number},
        "data_path": "data/episode_{episode_index:06d}.parquet",
    }
    (root / "meta").mkdir()
    (root / "data").mkdir()
    (root / "meta" / "info.json").write_text(json.dumps(info))
    row = {"episode_index": 0, "length": length, "tasks": ["put"]}
    (root / "meta" / "episodes.jsonl").write_text(json.dumps(row) + "\n")
    column = np.arange(2 * length, dtype=np.float32).reshape(length, 2).tolist()
    table = pyarrow.table(
        {"observation.state": column, "action": column, "episode_index": [0] * length}
    )
    path = root / "data" / "episode_000000.parquet"
    pyarrow.parquet.write_table(table, path)
    return path


def video(root: Path) -> Path:
    import av

    parquet(root)
    info = json.loads((root / "meta" / "info.json").read_text())
    info["features"]["top"] = {"dtype": "video", "shape": [32, 32, 3]}
    info["video_path"] = "{video_key}.mp4"
    (root / "meta" / "info.json").write_text(json.dumps(info))
    with av.open(str(root / "top.mp4"), "w") as container:
        stream: Any = container.add_stream("libx264", rate=10)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for step in range(6):
            picture = np.full((32, 32, 3), 40 * step, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return root / "top.mp4"


@dataclass(frozen=True)
class Kind:
    """A kind of log.

    Attributes:
        write: writes one below a directory and returns the file that is spoilt.
        opened: what is opened, from that file.
        options: of the import.
        inside: spoils what a file holds rather than its bytes.
    """

    write: Callable[[Path], Path]
    opened: Callable[[Path], Path] = lambda file: file
    options: ImportOptions = DEFAULT
    inside: Callable[[Path, np.random.Generator], None] | None = None


def spoilt_records(path: Path, generator: np.random.Generator) -> None:
    """Spoil the contents of a shard's records, and give them the right checksums."""
    from farstep.data.sources.tfrecord import read_records, write_record

    contents = [bytes(content) for content in read_records(path)]
    chosen = int(generator.integers(len(contents)))
    contents[chosen] = spoilt(contents[chosen], generator)
    with path.open("wb") as stream:
        for content in contents:
            write_record(stream, content)


def spoilt_values(path: Path, generator: np.random.Generator) -> None:
    """Put other values into a Parquet file's columns."""
    import pyarrow
    import pyarrow.parquet

    rows = pyarrow.parquet.read_table(path).to_pydict()
    strange: list[Any] = [
        [None] * 6,
        [[1.0, 2.0]] * 5 + [None],
        [[1.0, 2.0]] * 5 + [[1.0]],
        [[float("nan"), float("inf")]] * 6,
        ["text"] * 6,
        [b"\xff"] * 6,
        [1 << 62] * 6,
        [[[1.0, 2.0]]] * 6,
        [[]] * 6,
        [True] * 6,
        [-1.5] * 6,
        [{"a": 1}] * 6,
    ]
    name = list(rows)[int(generator.integers(len(rows)))]
    rows[name] = strange[int(generator.integers(len(strange)))]
    if generator.random() < 0.2:
        del rows[list(rows)[int(generator.integers(len(rows)))]]
    pyarrow.parquet.write_table(pyarrow.table(rows), path)


KINDS: dict[str, Kind] = {
    "rlds": Kind(rlds, lambda file: file.parent, inside=spoilt_records),
    "parquet": Kind(parquet, lambda file: file.parents[1], inside=spoilt_values),
    "video": Kind(video, lambda file: file.parent, ImportOptions(observation_key=("top",))),
    "minari": Kind(minari),
    "d4rl": Kind(d4rl),
    "robomimic": Kind(robomimic),
    "hdf5": Kind(hdf5, options=KEYS),
}


def spoilt(content: bytes, generator: np.random.Generator) -> bytes:
    """The bytes, damaged in one of several ways."""
    data = bytearray(content)
    at = int(generator.integers(len(data)))
    size = int(generator.integers(1, 64))
    match int(generator.integers(5)):
        case 0:
            del data[at:]
        case 1:
            data[at : at + size] = bytes(len(data[at : at + size]))
        case 2:
            data[at:at] = data[at : at + size]
        case 3:
            data[at : at + 8] = generator.bytes(len(data[at : at + 8]))
        case _:
            for place in generator.integers(len(data), size=int(generator.integers(1, 9))).tolist():
                data[place] ^= 1 << int(generator.integers(8))
    return bytes(data)


def read(path: Path, options: ImportOptions) -> None:
    """Convert all episodes at `path`, as an import does.

    Raises:
        FarstepError: they are refused.
    """
    source = open_source(path, options)
    if options.num_actions is None:
        options = replace(options, num_actions=source.num_actions)
    conversion, train = Conversion.from_split(source.splits["train"], options)
    rows = 0
    for split in (train, source.splits.get("val")):
        for episode in conversion(split.episodes) if split is not None else ():
            rows += len(episode.observations)
            if rows > ROWS:
                return


def fuzz(name: str, count: int, seed: int = 0, begin: int = 0) -> Iterator[tuple[int, str]]:
    """Spoil and read files of a kind: their numbers, and `read`, `refused` or a traceback."""
    kind = KINDS[name]
    with tempfile.TemporaryDirectory() as root:
        path = kind.write(Path(root))
        sound = path.read_bytes()
        read(kind.opened(path), kind.options)
        for number in range(begin, count):
            generator = np.random.default_rng([seed, number])
            if kind.inside is not None and number % 2:
                path.write_bytes(sound)
                kind.inside(path, generator)
            else:
                path.write_bytes(spoilt(sound, generator))
            signal.alarm(SECONDS)
            try:
                read(kind.opened(path), kind.options)
                outcome = "read"
            except FarstepError:
                outcome = "refused"
            except Exception:
                outcome = traceback.format_exc()
            signal.alarm(0)
            yield number, outcome


def child(name: str, count: int, begin: int) -> None:
    """Fuzz in this process, which may crash; a line of JSON per file."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number, outcome in fuzz(name, count, begin=begin):
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak
        print(json.dumps([number, outcome, grown]), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kinds", nargs="*", default=[], choices=[*KINDS, []])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--begin", type=int, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.begin is not None:
        child(options.kinds[0], options.count, options.begin)
        return
    names = "kind", "files", "read", "refused", "failed", "MB more", "s"
    print("{:<10} {:>6} {:>6} {:>8} {:>7} {:>8} {:>6}".format(*names))
    failures: list[str] = []
    for name in options.kinds or KINDS:
        outcomes: list[str] = []
        grown, began = 0, time.perf_counter()
        while len(outcomes) < options.count:
            command = [sys.executable, __file__, name, f"--count={options.count}"]
            command.append(f"--begin={len(outcomes)}")
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
            for line in done.stdout.splitlines():
                _, outcome, more = json.loads(line)
                outcomes.append(outcome)
                grown = max(grown, more)
            if done.returncode:
                outcomes.append(f"file {len(outcomes)} ended the process: {done.returncode}")
        wrong = [one for one in outcomes if one not in ("read", "refused")]
        failures += [f"{name}: {one}" for one in wrong]
        print(
            f"{name:<10} {len(outcomes):>6} {outcomes.count('read'):>6}"
            f" {outcomes.count('refused'):>8} {len(wrong):>7} {grown / 1024:>8.0f}"
            f" {time.perf_counter() - began:>6.0f}",
            flush=True,
        )
    for failure in dict.fromkeys(failures):
        print(failure)
    raise SystemExit(bool(failures))


if __name__ == "__main__":
    main()
