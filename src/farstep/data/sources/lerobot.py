"""LeRobot datasets of versions 2.0, 2.1 and 3.0: Parquet tables, and videos beside them.

`meta/info.json` says what a step has and where the files lie. In version 2 every episode has a
Parquet file and a video of each camera. In version 3 files hold many episodes, and
`meta/episodes/` says which rows and which seconds of a video are whose.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from farstep.core.errors import FarstepError
from farstep.data.episodes import Episode, Split
from farstep.data.sources.base import FieldMap, Format, ImportOptions, Source

INFO = Path("meta", "info.json")

VIDEO = "video"


@dataclass(frozen=True)
class Clip:
    """Where an episode's frames of one camera lie.

    Attributes:
        path: the video.
        start: second of the first frame.
    """

    path: Path
    start: float = 0.0


@dataclass(frozen=True)
class Recorded:
    """Where one episode lies.

    Attributes:
        number: the episode's.
        table: the Parquet file.
        length: steps.
        clips: clips by camera.
        task: task in words, if the metadata hold it.
    """

    number: int
    table: Path
    length: int
    clips: Mapping[str, Clip]
    task: str | None


def _open(path: Path, options: ImportOptions) -> Source:
    """Inspect a dataset; see `Format`."""
    info = _json(path / INFO)
    try:
        version = str(info["codebase_version"])
        features: dict[str, dict[str, Any]] = info["features"]
        fps = float(info["fps"])
        recorded = _version_3(path, info) if version.startswith("v3") else _version_2(path, info)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise FarstepError(
            f"{path / INFO} does not describe a LeRobot dataset ({type(error).__name__}: {error})."
        ) from error
    if not recorded:
        raise FarstepError(f"{path} lists no episode in its metadata.")
    recorded = [r for r in recorded if options.wants(r.task or "", f"episode_{r.number:06d}")]
    fields = options.fields(("observation.state",), "action", features, f"A step of {path}")
    keys = fields.keys
    cameras = [key for key in keys if features[key].get("dtype") == VIDEO]
    missing = sorted(
        {one.table for one in recorded if not one.table.is_file()}
        | {
            one.clips[key].path
            for one in recorded
            for key in cameras
            if not one.clips[key].path.is_file()
        }
    )
    notes = []
    if missing:
        present = [
            one
            for one in recorded
            if one.table not in missing and not any(one.clips[k].path in missing for k in cameras)
        ]
        listed = ", ".join(str(one.relative_to(path)) for one in missing[:3])
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        if not present or options.missing_files == "error":
            without = " or import without images (--observation-key observation.state)" * bool(
                cameras
            )
            drop = " or leave its episodes out (--missing-files drop)" * bool(present)
            raise FarstepError(
                f"{path} names files that are not there: {listed}{more}. Get them{without}{drop}."
            )
        notes.append(
            f"{len(recorded) - len(present)} of {len(recorded)} episodes were left out, since"
            f" files are not there: {listed}{more}."
        )
        recorded = present
    other = [key for key in features if features[key].get("dtype") == VIDEO and key not in keys]
    if other:
        notes.append(f"Cameras not imported: {', '.join(other)}.")
    provenance = {
        "format": f"lerobot {version}",
        "path": str(path),
        "keys": asdict(fields),
        "fps": fps,
        "tasks": _tasks(path),
    }
    total = sum(one.length for one in recorded)

    def read(begin: int) -> Iterator[Episode]:
        return _episodes(recorded[begin:], features, fields, options, fps)

    return Source({"train": Split(read(0), total, provenance, read)}, tuple(notes))


def _task(row: Mapping[str, Any]) -> str | None:
    tasks = row.get("tasks")
    return "; ".join(map(str, tasks)) if isinstance(tasks, list) and tasks else None


def _version_2(path: Path, info: Mapping[str, Any]) -> list[Recorded]:
    listed = _lines(path / "meta" / "episodes.jsonl")
    cameras = [key for key, one in info["features"].items() if one.get("dtype") == VIDEO]
    recorded = []
    for row in listed:
        number = int(row["episode_index"])
        place = {"episode_index": number, "episode_chunk": number // int(info["chunks_size"])}
        clips = {
            key: Clip(path / info["video_path"].format(video_key=key, **place)) for key in cameras
        }
        table = path / info["data_path"].format(**place)
        recorded.append(Recorded(number, table, int(row["length"]), clips, _task(row)))
    return recorded


def _version_3(path: Path, info: Mapping[str, Any]) -> list[Recorded]:
    cameras = [key for key, one in info["features"].items() if one.get("dtype") == VIDEO]
    recorded = []
    for file in sorted((path / "meta" / "episodes").glob("*/*.parquet")):
        table = _parquet(file)
        for row in table.to_pylist():

            def place(prefix: str, row: Mapping[str, Any] = row) -> dict[str, int]:
                names = ("chunk_index", "file_index")
                return {name: int(row[f"{prefix}/{name}"]) for name in names}

            clips = {}
            for key in cameras:
                prefix = f"videos/{key}"
                video = info["video_path"].format(video_key=key, **place(prefix))
                clips[key] = Clip(path / video, float(row[f"{prefix}/from_timestamp"]))
            data = path / info["data_path"].format(**place("data"))
            number, length = int(row["episode_index"]), int(row["length"])
            recorded.append(Recorded(number, data, length, clips, _task(row)))
    return recorded


def _episodes(
    recorded: list[Recorded],
    features: Mapping[str, Mapping[str, Any]],
    fields: FieldMap,
    options: ImportOptions,
    fps: float,
) -> Iterator[Episode]:
    columns = [key for key in fields.keys if features[key].get("dtype") != VIDEO]
    held: tuple[Path, Any] | None = None
    for one in recorded:
        where = f"{one.table.name}, episode {one.number}"
        if held is None or held[0] != one.table:
            held = one.table, _parquet(one.table, (*columns, "episode_index"))
        rows = held[1].filter(_episode_numbers(held[1], where) == one.number)
        if len(rows) != one.length:
            raise FarstepError(
                f"{where} has {len(rows)} rows, and the metadata say {one.length}: a part of the"
                " dataset is missing or from another version of it."
            )
        arrays = {key: _column(rows, key, features[key], where) for key in columns}
        for key in set(fields.keys) - set(columns):
            arrays[key] = frames(one.clips[key], one.length, fps, options.image_size)
        yield fields.episode(arrays, where, task=one.task)


def _episode_numbers(table: Any, where: str) -> np.ndarray:
    """(rows,) which episode each row of a table belongs to."""
    try:
        numbers = np.asarray(table.column("episode_index").to_pylist(), np.int64)
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        raise FarstepError(
            f"{where}: 'episode_index' is no column of integers ({error})."
        ) from error
    if numbers.ndim != 1:
        raise FarstepError(f"{where}: 'episode_index' is no column of integers.")
    return numbers


def frames(clip: Clip, count: int, fps: float, size: int | None) -> np.ndarray:
    """`count` frames of a video from a second on, as (count, H, W, 3) bytes.

    Raises:
        FarstepError: the video cannot be decoded, or has fewer.
    """
    import av
    import av.error

    pictures: list[np.ndarray] = []
    try:
        with av.open(str(clip.path)) as container:
            stream = container.streams.video[0]
            if stream.time_base is not None:
                container.seek(int(clip.start / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                # Half a frame's time: stamps are rounded.
                if frame.time is None or frame.time < clip.start - 0.5 / fps:
                    continue
                scaled = (
                    frame if size is None else frame.reformat(size, size, interpolation="LANCZOS")
                )
                pictures.append(scaled.to_ndarray(format="rgb24"))
                if len(pictures) == count:
                    break
    except (av.error.FFmpegError, IndexError, ValueError, OSError) as error:
        raise FarstepError(f"{clip.path} cannot be decoded: {error}.") from error
    if len(pictures) < count:
        raise FarstepError(
            f"{clip.path} has {len(pictures)} frames from second {clip.start:g} on, and the episode"
            f" {count} steps."
        )
    return np.stack(pictures)


def _column(rows: Any, key: str, feature: Mapping[str, Any], where: str) -> np.ndarray:
    """One array of an episode; lists become rows."""
    try:
        values = rows.column(key).combine_chunks()
        with np.errstate(over="ignore", invalid="ignore"):  # The table refuses what is not finite.
            array = np.asarray(values.to_pylist(), feature["dtype"])
    except (KeyError, ValueError, TypeError) as error:
        raise FarstepError(f"{where}: '{key}' is not what {INFO} says ({error}).") from error
    shape = tuple(map(int, feature["shape"]))
    if array.shape[1:] not in (shape, ()) or (array.ndim == 1 and shape not in ((), (1,))):
        raise FarstepError(f"{where}: '{key}' has rows {array.shape[1:]}, not {shape}.")
    return array.reshape(len(array), *shape)


def _parquet(path: Path, columns: tuple[str, ...] | None = None) -> Any:
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_table(path, columns=columns and list(columns))
    except (OSError, pyarrow.ArrowException) as error:
        raise FarstepError(f"Cannot read {path}: {str(error).splitlines()[0]}") from error


def _json(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FarstepError(f"Cannot read {path}: {error}.") from error
    if not text.strip():
        raise FarstepError(f"{path} is empty: the dataset's metadata are lost; get it again.")
    try:
        document = json.loads(text)
    except ValueError as error:
        raise FarstepError(f"{path} is damaged: {error}.") from error
    if not isinstance(document, dict):
        raise FarstepError(f"{path} is no description of a dataset.")
    return document


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FarstepError(f"Cannot read {path}: {error}.") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except ValueError as error:
                raise FarstepError(f"{path}, line {number} is damaged: {error}.") from error
    return rows


def _tasks(path: Path) -> list[str]:
    """The episodes' tasks in words, if the metadata hold them."""
    if (path / "meta" / "tasks.jsonl").is_file():
        return [str(row.get("task")) for row in _lines(path / "meta" / "tasks.jsonl")]
    parquet = path / "meta" / "tasks.parquet"
    if parquet.is_file():
        rows = _parquet(parquet).to_pydict()
        names = rows.get("task") or rows.get("__index_level_0__") or []
        return [str(name) for name in names]
    return []


LEROBOT = Format("lerobot", lambda path: (path / INFO).is_file(), _open)
