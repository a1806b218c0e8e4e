"""A dataset as RLDS: TFRecord shards that tensorflow_datasets, and farstep itself, read.

NAME/1.0.0/features.json                      the arrays of a step
           dataset_info.json                  splits and shards
           name-train.tfrecord-00000-of-00002 …
           farstep.json                       which arrays are which, and what was relabelled
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from farstep.core.arrays import arrays_of, part
from farstep.core.errors import FarstepError, install_command
from farstep.core.files import check_free_space, staged_directory
from farstep.data.episodes import LANGUAGE
from farstep.data.sources.base import extra_name
from farstep.data.sources.rlds import ABOUT, FEATURES, INSTRUCTION, STEPS
from farstep.data.table import Dataset, Table

VERSION = "1.0.0"

SHARD_BYTES = 200_000_000
"""Bytes of a shard's arrays, at most by an episode."""

_CORE = "tensorflow_datasets.core.features"
_DICT, _STEPS = f"{_CORE}.features_dict.FeaturesDict", f"{_CORE}.dataset_feature.Dataset"

_FLAGS = ("is_first", "is_last", "is_terminal")
_METADATA = "episode_metadata"


def export_rlds(dataset: Dataset, path: Path, *, overwrite: bool = False) -> list[Path]:
    """Write the dataset's tables as the splits `train` and `val` of an RLDS dataset.

    Images are PNG, without loss. Where the data were imported from RLDS, arrays get their names
    back. Rewards are 0 and discounts 1: a table has neither. float64 extras become float32, as
    TFRecord has no other.

    Args:
        path: the dataset's directory; its last part is the dataset's name.
        overwrite: replace an export that is there.

    Returns:
        the files written.

    Raises:
        FarstepError: `path` exists, the data do not fit, or the extra `bridge` is not installed.
    """
    try:
        import google_crc32c  # noqa: F401
        from PIL import Image  # noqa: F401
    except ImportError as error:
        raise FarstepError(f"Writing RLDS needs more: {install_command('bridge')}") from error
    tables = {"train": dataset.train} | ({"val": dataset.val} if dataset.val else {})
    check_free_space(path, sum(table.num_bytes for table in tables.values()))
    fields = _Fields(dataset.train)
    name = re.sub(r"\W", "_", path.name).lower()
    # Only an earlier export, which holds farstep's own file, may be replaced.
    owned = [VERSION] if (path / VERSION / ABOUT).is_file() else []
    with staged_directory(path, overwrite=overwrite, owned=owned) as staging:
        root = staging / VERSION
        root.mkdir()
        splits = [_write_split(root, name, split, table, fields) for split, table in tables.items()]
        (root / FEATURES).write_text(json.dumps(fields.described, indent=4), encoding="utf-8")
        information = {
            "citation": "",
            "description": f"Exported by farstep from {dataset.name}.",
            "fileFormat": "tfrecord",
            "moduleName": "farstep",
            "name": name,
            "releaseNotes": {VERSION: "Exported."},
            "splits": splits,
            "version": VERSION,
        }
        (root / "dataset_info.json").write_text(json.dumps(information, indent=2), encoding="utf-8")
        provenance = dataset.train.manifest.provenance
        about = {
            "keys": fields.keys,
            "relabelled": provenance.get("relabelled", "none"),
            "num_actions": dataset.train.manifest.action_size if fields.discrete else None,
            "environment": dataset.environment,
            "digests": {split: table.digest for split, table in tables.items()},
        }
        (root / ABOUT).write_text(json.dumps(about, indent=2), encoding="utf-8")
    return sorted(path.glob(f"{VERSION}/*"))


class _Fields:
    """The names and descriptions of a step's arrays.

    Attributes:
        names: name of each of the table's arrays in the dataset.
        keys: the field map by which farstep reads them back.
        described: the content of `features.json`.
    """

    def __init__(self, table: Table) -> None:
        self.discrete = table.manifest.discrete
        self.tasks = table.manifest.tasks
        provenance = table.manifest.provenance
        keys = provenance.get("keys", {}) if provenance.get("format") == "rlds" else {}
        seen, observed = keys.get("observations", []), arrays_of(table.observations)
        usual = {
            key: f"observation/{key or ('image_0' if array.dtype == np.uint8 else 'state')}"
            for key, array in observed.items()
        }
        if len(seen) == len(usual):
            usual = dict(zip(usual, seen, strict=True))
        extras = {extra_name(key): key for key in keys.get("extras", ())}
        stored = [name for name in table.extras if name != LANGUAGE or not self.tasks]
        self.names = {
            **{part("observations", key): name for key, name in usual.items()},
            "actions": keys.get("actions", "action"),
            **{name: extras.get(name, name) for name in stored},
        }
        self.keys = {
            "observations": list(usual.values()),
            "actions": self.names["actions"],
            "extras": [self.names[name] for name in stored],
        }
        arrays = table.arrays
        self.pictures = {name for name in self.names if _is_picture(arrays[name])}
        steps: dict[str, Any] = {}
        for name, key in self.names.items():
            _put(steps, key, _described(arrays[name], name in self.pictures))
        for flag in _FLAGS:
            steps[flag] = _scalar("bool")
        steps |= {"reward": _scalar("float32"), "discount": _scalar("float32")}
        metadata = {
            "episode_id": _scalar("int32"),
            "file_path": _text(),
            "has_language": _scalar("bool"),
        }
        if self.tasks:
            steps[INSTRUCTION] = _text()
        for key in self._cameras:
            metadata[f"has_{key}"] = _scalar("bool")
        described = {
            "steps": {
                "pythonClassName": _STEPS,
                "sequence": {"feature": _dictionary(steps), "length": "-1"},
            },
            _METADATA: _dictionary(metadata),
        }
        self.described = _dictionary(described)

    @property
    def _cameras(self) -> list[str]:
        keys = (self.names[name].rpartition("/")[2] for name in sorted(self.pictures))
        return [key for key in keys if key.startswith("image_")]

    def example(self, table: Table, number: int, begin: int, stop: int) -> dict[str, Any]:
        """Episode `number`, rows `begin` to `stop`, as the features of a `tf.Example`."""
        steps = stop - begin
        arrays = table.arrays
        found: dict[str, Any] = {}
        for name, key in self.names.items():
            rows = np.asarray(arrays[name][begin:stop])
            found[STEPS + key] = (
                [_png(row) for row in rows] if name in self.pictures else _numbers(rows)
            )
        at = np.arange(steps)
        found[f"{STEPS}is_first"] = (at == 0).astype(np.int64)
        found[f"{STEPS}is_last"] = (at == steps - 1).astype(np.int64)
        found[f"{STEPS}is_terminal"] = np.zeros(steps, np.int64)
        found[f"{STEPS}reward"] = np.zeros(steps, np.float32)
        found[f"{STEPS}discount"] = np.ones(steps, np.float32)
        texts: list[bytes] = []
        if self.tasks:
            texts = [self.tasks[code].encode() for code in table.extras[LANGUAGE][begin:stop]]
            found[STEPS + INSTRUCTION] = texts
        found[f"{_METADATA}/episode_id"] = np.array([number])
        found[f"{_METADATA}/file_path"] = [str(table.path).encode()]
        found[f"{_METADATA}/has_language"] = np.array([int(any(texts))])
        for key in self._cameras:
            found[f"{_METADATA}/has_{key}"] = np.array([1])
        return found


def _write_split(
    root: Path, name: str, split: str, table: Table, fields: _Fields
) -> dict[str, Any]:
    """Write the shards of a split and return its entry for `dataset_info.json`."""
    from farstep.data.sources.tfrecord import write_examples

    bounds = list(
        zip(table.episode_starts.tolist(), (table.episode_ends + 1).tolist(), strict=True)
    )
    row = sum(array[:1].nbytes for array in table.arrays.values())
    each = max(1, int(SHARD_BYTES / row / (table.num_steps / table.num_episodes)))
    shards = [range(n, min(n + each, len(bounds))) for n in range(0, len(bounds), each)]

    def examples(numbers: range) -> Iterator[Mapping[str, Any]]:
        for number in numbers:
            yield fields.example(table, number, *bounds[number])

    size = 0
    for index, numbers in enumerate(shards):
        file = root / f"{name}-{split}.tfrecord-{index:05d}-of-{len(shards):05d}"
        write_examples(file, examples(numbers))
        size += file.stat().st_size
    return {
        "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
        "name": split,
        "numBytes": str(size),
        "shardLengths": [str(len(numbers)) for numbers in shards],
    }


def _is_picture(array: np.ndarray) -> bool:
    return array.dtype == np.uint8 and array.ndim == 4 and array.shape[-1] in (1, 3)


def _numbers(rows: np.ndarray) -> np.ndarray:
    return rows.reshape(-1).astype(np.float32 if rows.dtype.kind == "f" else np.int64)


def _png(pixels: np.ndarray) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(stream, "PNG")
    return stream.getvalue()


def _put(steps: dict[str, Any], key: str, described: dict[str, Any]) -> None:
    """Describe an array in the group of its name."""
    *groups, last = key.split("/")
    inner = steps
    for group in groups:
        inner = inner.setdefault(group, _dictionary({}))["featuresDict"]["features"]
    inner[last] = described


def _described(array: np.ndarray, picture: bool) -> dict[str, Any]:
    shape = {"dimensions": [str(size) for size in array.shape[1:]]} if array.ndim > 1 else {}
    if picture:
        image = {"shape": shape, "dtype": "uint8", "encodingFormat": "png"}
        return {"pythonClassName": f"{_CORE}.image_feature.Image", "image": image}
    dtype = "float32" if array.dtype.kind == "f" else array.dtype.name
    if array.ndim == 1:
        return _scalar(dtype)
    tensor = {"shape": shape, "dtype": dtype, "encoding": "none"}
    return {"pythonClassName": f"{_CORE}.tensor_feature.Tensor", "tensor": tensor}


def _scalar(dtype: str) -> dict[str, Any]:
    tensor = {"shape": {}, "dtype": dtype, "encoding": "none"}
    return {"pythonClassName": f"{_CORE}.scalar.Scalar", "tensor": tensor}


def _text() -> dict[str, Any]:
    return {"pythonClassName": f"{_CORE}.text_feature.Text", "text": {}}


def _dictionary(features: dict[str, Any]) -> dict[str, Any]:
    return {"pythonClassName": _DICT, "featuresDict": {"features": features}}
