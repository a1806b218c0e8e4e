"""RLDS datasets of TFRecord shards, BridgeData V2's above all; read without TensorFlow.

`features.json` says which arrays a step has and in what shape, and each record is one episode: a
`tf.Example` with the steps of each array one after another, such as `steps/action` of 7·T numbers.
Images are encoded, a byte string a step.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from farstep.core.errors import FarstepError
from farstep.data.episodes import Episode, Split
from farstep.data.sources.base import FieldMap, Format, ImportOptions, Source
from farstep.data.sources.bridge import reached_actions
from farstep.data.sources.pictures import decoded

FEATURES = "features.json"
STEPS = "steps/"

STATE = "observation/state"
"""Bridge's position, rotation and gripper, by which actions are relabelled."""

INSTRUCTION = "language_instruction"
"""The task, in words, which every step repeats."""

ABOUT = "farstep.json"
"""What farstep writes beside an export: which arrays are which, and whether it was relabelled."""

VALIDATION = ("val", "validation", "test")
"""Splits that become the validation table, the first that is there."""


@dataclass(frozen=True)
class Feature:
    """One array of a step.

    Attributes:
        shape: shape of a step.
        dtype: NumPy's name of it; of an image `uint8`, and `str` of a text.
        image: whether each step is an encoded picture.
    """

    shape: tuple[int, ...]
    dtype: str
    image: bool = False


def features_of(path: Path) -> dict[str, Feature]:
    """The arrays of a step by name, such as `observation/state`, as `features.json` has them.

    Raises:
        FarstepError: no such file, or not of this form.
    """
    try:
        described = json.loads((path / FEATURES).read_text(encoding="utf-8"))
        steps = described["featuresDict"]["features"]["steps"]["sequence"]["feature"]
        return dict(_walk(steps, ""))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FarstepError(
            f"{path / FEATURES} does not describe episodes of steps ({type(error).__name__}:"
            f" {error}). It is written beside the shards by tensorflow_datasets."
        ) from error


def _walk(described: Mapping[str, Any], name: str) -> Iterator[tuple[str, Feature]]:
    if "featuresDict" in described:
        for key, inner in described["featuresDict"]["features"].items():
            yield from _walk(inner, f"{name}/{key}" if name else key)
        return
    if "image" in described:
        shape = described["image"]["shape"]["dimensions"]
        yield name, Feature(tuple(map(int, shape)), "uint8", image=True)
    elif "tensor" in described:
        shape = described["tensor"]["shape"].get("dimensions", [])
        yield name, Feature(tuple(map(int, shape)), described["tensor"]["dtype"])
    elif "text" in described:
        yield name, Feature((), "str")


def _root(path: Path) -> Path | None:
    """The directory that holds `features.json`: `path`, or its newest version."""
    if (path / FEATURES).is_file():
        return path
    if not path.is_dir():
        return None
    versions = [one.parent for one in path.glob(f"*/{FEATURES}")]
    key = [[int(part) for part in re.findall(r"\d+", one.name)] for one in versions]
    return versions[key.index(max(key))] if versions else None


def _open(path: Path, options: ImportOptions) -> Source:
    """Inspect the shards of a directory; see `Format`."""
    root = _root(path)
    if root is None:
        raise FarstepError(f"{path} holds no {FEATURES}, which an RLDS dataset has.")
    features = features_of(root)
    usual = "observation/image_0" if "observation/image_0" in features else "observation/state"
    about = _about(root)
    own = about.get("keys", {})
    fields = options.fields(
        tuple(own.get("observations", (usual,))),
        own.get("actions", "action"),
        features,
        f"A step of {root}",
        tuple(own.get("extras", ())),
    )
    keys = [*fields.keys]
    if options.relabel == "reached":
        keys += [key for key in (STATE,) if key not in keys]
        if STATE not in features:
            raise FarstepError(f"A step of {root} has no '{STATE}', from which to relabel.")
    for key in keys:
        if features[key].dtype == "str":
            raise FarstepError(f"'{key}' of {root} is text, and a table holds numbers.")
    splits = {"train": _shards(root, "train")}
    for name in VALIDATION:
        if shards := _shards(root, name):
            splits["val"] = shards
            break
    if not splits["train"]:
        raise FarstepError(f"{root} holds no shard of a split 'train' (*-train.tfrecord-*).")
    relabelled = about.get("relabelled", "none")
    if options.relabel != "none" and relabelled != "none":
        raise FarstepError(
            f"Actions in {root} are relabelled already ({relabelled}): import it without --relabel."
        )
    provenance = {
        "format": "rlds",
        "path": str(root),
        "bytes": sum(shard.stat().st_size for shards in splits.values() for shard in shards),
        "keys": asdict(fields),
        "relabelled": relabelled if options.relabel == "none" else options.relabel,
    }
    read = partial(_episodes, features=features, fields=fields, keys=keys, options=options)
    return Source(
        {
            name: Split(
                read(shards, 0),
                _guessed_steps(shards, fields.actions, features),
                provenance,
                partial(read, shards),
            )
            for name, shards in splits.items()
        },
        num_actions=about.get("num_actions"),
    )


def _about(root: Path) -> dict[str, Any]:
    """What farstep wrote beside its own exports; nothing of others'."""
    path = root / ABOUT
    if not path.is_file():
        return {}
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        return about if isinstance(about, dict) else {}
    except (OSError, ValueError) as error:
        raise FarstepError(f"{path} is damaged: {error}.") from error


def _guessed_steps(shards: list[Path], key: str, features: Mapping[str, Feature]) -> int | None:
    """Steps of all shards, if all records are like the first."""
    from farstep.data.sources.tfrecord import parse_example, read_records

    record = next(read_records(shards[0]), None)
    if record is None:
        return None
    try:
        values = len(parse_example(record).get(STEPS + key, ()))
    except ValueError:
        return None
    steps = values // max(1, math.prod(features[key].shape))
    return sum(shard.stat().st_size for shard in shards) * steps // max(1, len(record)) or None


def _shards(root: Path, split: str) -> list[Path]:
    """The shards of a split in their order, checked to be all there.

    Raises:
        FarstepError: one is missing; names it.
    """
    shards = sorted(root.glob(f"*-{split}.tfrecord-*"))
    for shard in shards:
        stem, _, count = shard.name.rpartition("-of-")
        if not count.isdigit():
            continue
        head, _, number = stem.rpartition("-")
        width = len(number)
        for index in range(int(count)):
            name = f"{head}-{index:0{width}d}-of-{count}"
            if not (root / name).is_file():
                raise FarstepError(f"{root / name} is missing: get the dataset's other shards.")
        break
    return shards


def _episodes(
    shards: list[Path],
    begin: int,
    *,
    features: Mapping[str, Feature],
    fields: FieldMap,
    keys: list[str],
    options: ImportOptions,
) -> Iterator[Episode]:
    from farstep.data.sources.tfrecord import parse_example, read_records

    left = begin
    for shard in shards:
        for number, record in enumerate(read_records(shard)):
            if left and options.only is None:
                left -= 1
                continue
            where = f"{shard.name}, episode {number}"
            try:
                example = parse_example(record)
            except ValueError as error:
                raise FarstepError(f"{where} is no tf.Example: {error}.") from error
            task = _text(example.get(STEPS + INSTRUCTION)) if INSTRUCTION in features else None
            if not options.wants(task or "", _text(example.get("episode_metadata/file_path"))):
                continue
            if left:
                left -= 1
                continue
            arrays = {
                key: _steps(example.get(STEPS + key), features[key], f"{where}, '{key}'", options)
                for key in keys
            }
            lengths = {key: len(array) for key, array in arrays.items()}
            if len(set(lengths.values())) > 1:
                raise FarstepError(f"{where}: its arrays differ in length: {lengths}.")
            episode = fields.episode(arrays, where, task=task)
            if options.relabel == "reached":
                actions = reached_actions(arrays[STATE], episode.actions)
                episode = replace(episode, actions=actions)
            yield episode


def _text(values: Any) -> str:
    """The first of some texts; empty if there is none."""
    return values[0].decode(errors="replace") if isinstance(values, list) and values else ""


def _steps(values: Any, feature: Feature, where: str, options: ImportOptions) -> np.ndarray:
    """The rows of one array of an episode.

    Raises:
        FarstepError: it is missing, or not of the declared shape.
    """
    if feature.image:
        if not isinstance(values, list):
            raise FarstepError(f"{where}: there are no images.")
        return np.stack(
            [
                decoded(value, options.image_size, f"{where}, step {t}", feature.shape[-1])
                for t, value in enumerate(values)
            ]
        )
    size = math.prod(feature.shape)
    if isinstance(values, list) or values is None or not size or values.size % size:
        raise FarstepError(f"{where}: there are not {feature.shape} numbers a step.")
    with np.errstate(invalid="ignore"):
        return values.reshape(-1, *feature.shape).astype(feature.dtype)


RLDS = Format("rlds", lambda path: _root(path) is not None, _open)
