"""The episodes of a dataset on a page: curves, frames, what looks wrong, and what lies near."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from PIL import Image

from farstep.core.errors import FarstepError
from farstep.core.files import format_bytes
from farstep.core.rng import stream_generator
from farstep.data.check import RULES, check_dataset
from farstep.data.table import Dataset, Table
from farstep.planning.metric import LearnedMetric

POINTS = 400
"""Most steps of an episode's curves, evenly spaced."""

COLUMNS = 32
"""Most columns of states or actions that are drawn."""

NEAREST = 8
"""States near a chosen one that are shown."""

CANDIDATES = 4096
"""States of the data that they are chosen from."""

CANDIDATE_BYTES = 2**26
"""Most bytes of their observations."""

MOST_CHECKED = 2**31
"""Bytes of data that are looked through for what is wrong."""

Metrics = Mapping[str, LearnedMetric]
"""Distances by the name of the policy whose they are."""


def data_document(dataset: Dataset) -> dict[str, Any]:
    """What there is: splits, lengths and cameras."""
    table = dataset.train
    return {
        "name": dataset.name,
        "path": str(dataset.path),
        "environment": dataset.environment,
        "observations": str(table.spaces.observation),
        "cameras": cameras(table),
        "splits": [
            {
                "split": split,
                "episodes": one.num_episodes,
                "steps": one.num_steps,
                "shortest": int(one.episode_lengths.min()),
                "longest": int(one.episode_lengths.max()),
            }
            for split, one in _tables(dataset).items()
        ],
    }


def findings_document(dataset: Dataset) -> dict[str, Any]:
    """Episodes that look wrong; reads all data twice.

    Raises:
        FarstepError: they are too many to read while somebody waits.
    """
    arrays = (
        array
        for table in _tables(dataset).values()
        for array in (table.observations, table.actions, *table.extras.values())
    )
    size = sum(array.nbytes for array in arrays)
    if size > MOST_CHECKED:
        raise FarstepError(
            f"These data take {format_bytes(size)}, too much to read while you wait: "
            f"farstep data check {dataset.path}"
        )
    found = [{**asdict(finding), "why": RULES[finding.rule]} for finding in check_dataset(dataset)]
    return {"findings": found}


def episode_document(
    dataset: Dataset, metrics: Metrics, asked: Mapping[str, str]
) -> dict[str, Any]:
    """The curves of one episode: states, actions, and the distance to its end.

    Args:
        asked: `split` and the `episode`'s number in it.

    Raises:
        FarstepError: there is no such episode.
    """
    table = _table(dataset, asked)
    episode = number(asked, "episode", table.num_episodes)
    first, last = int(table.episode_starts[episode]), int(table.episode_ends[episode])
    rows = np.unique(np.linspace(first, last, min(POINTS, last - first + 1)).astype(int))
    observations = np.asarray(table.observations[rows])
    actions = np.asarray(table.actions[rows])
    curves = {"actions": _curves(actions.reshape(len(actions), -1))}
    vectors = [array for array in _observed(table, observations).values() if array.ndim == 2]
    if vectors:
        curves["observations"] = _curves(np.concatenate(vectors, axis=1))
    ends = np.repeat(observations[-1:], len(observations), axis=0)
    return {
        "first": first,
        "length": last - first + 1,
        "steps": (rows - first).tolist(),
        "curves": curves,
        "distances": {
            name: _plain(metric.between(observations, ends)) for name, metric in metrics.items()
        },
    }


def nearest_document(
    dataset: Dataset, metrics: Metrics, asked: Mapping[str, str]
) -> dict[str, Any]:
    """States of the data from which a state is reached soonest, by each distance.

    Args:
        asked: `split` and `row` of the state.

    Raises:
        FarstepError: there is no such row.
    """
    table = _table(dataset, asked)
    row = number(asked, "row", table.num_steps)
    count = min(CANDIDATES, max(NEAREST, CANDIDATE_BYTES // table.observations[0].nbytes))
    rows = stream_generator(0, "viewer").choice(
        table.num_steps, min(count, table.num_steps), replace=False
    )
    rows = np.setdiff1d(rows, [row])
    observations = np.asarray(table.observations[rows])
    state = np.asarray(table.observations[row : row + 1])
    found = {}
    for name, metric in metrics.items():
        steps = metric.steps(metric.embed(observations), metric.embed(state))[:, 0]
        back = metric.steps(metric.embed(state), metric.embed(observations))[0]
        order = np.argsort(steps)[:NEAREST]
        episodes = np.searchsorted(table.episode_ends, rows[order])
        found[name] = [
            {
                "row": int(rows[k]),
                "episode": int(episode),
                "step": int(rows[k] - table.episode_starts[episode]),
                "there": float(steps[k]),
                "back": float(back[k]),
            }
            for k, episode in zip(order, episodes, strict=True)
        ]
    return {"nearest": found}


def frame(dataset: Dataset, asked: Mapping[str, str]) -> bytes:
    """The picture of one camera at one row, as PNG.

    Raises:
        FarstepError: there is no such row or camera.
    """
    table = _table(dataset, asked)
    camera = asked.get("camera", "")
    if camera not in cameras(table):
        raise FarstepError(f"These data have no camera '{camera}'.")
    pictures = {**_observed(table, table.observations), **table.extras}[camera]
    return png(np.asarray(pictures[number(asked, "row", table.num_steps)]))


def png(picture: np.ndarray) -> bytes:
    """A picture (H, W, C) as a file; of stacked frames the newest, which is the last."""
    channels = picture.shape[-1]
    picture = picture[..., -3:] if channels % 3 == 0 else picture[..., -1]
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


def cameras(table: Table) -> list[str]:
    """Arrays of the table that hold pictures."""
    arrays = {**_observed(table, table.observations), **table.extras}
    return [name for name, array in arrays.items() if array.ndim == 4 and array.dtype == np.uint8]


def _observed(table: Table, rows: np.ndarray) -> dict[str, np.ndarray]:
    """The arrays that an observation is made of, of these rows of the table."""
    names = table.spaces.observation.keys
    return {name: rows[name] for name in names} if names else {"observations": rows}


def _tables(dataset: Dataset) -> dict[str, Table]:
    tables = {"train": dataset.train}
    return tables if dataset.val is None else {**tables, "val": dataset.val}


def _table(dataset: Dataset, asked: Mapping[str, str]) -> Table:
    tables = _tables(dataset)
    split = asked.get("split", "train")
    if split not in tables:
        raise FarstepError(f"{dataset.path} has no split '{split}'.")
    return tables[split]


def number(asked: Mapping[str, str], name: str, count: int) -> int:
    """The number that is asked for under this name.

    Raises:
        FarstepError: it is none, or not below `count`.
    """
    text = asked.get(name, "0")
    if not text.isascii() or not text.isdecimal() or not int(text) < count:
        raise FarstepError(f"There is no {name} {text}: they are counted from 0 to {count - 1:,}.")
    return int(text)


def _curves(values: np.ndarray) -> list[list[float | None]]:
    return [_plain(column) for column in values.T[:COLUMNS]]


def _plain(values: np.ndarray) -> list[float | None]:
    """JSON has no number for what is none."""
    return [float(value) if np.isfinite(value) else None for value in values]
