"""Rules that find the episodes of a log that look wrong.

from farstep.data.check import check_dataset
for finding in check_dataset(open_dataset("my-robot")):
    print(finding.episode, finding.step, finding.rule, finding.what)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from farstep.core.arrays import arrays_of
from farstep.data.episodes import Episode
from farstep.data.table import Dataset, Table

RULES = {
    "not finite": "a single NaN makes every weight of a network NaN within one update",
    "one step": "there is no transition in it",
    "short": "a tenth of the usual length: the recording was cut off, or the trial given up",
    "still": "no observation ever changes: the state was not recorded, or nothing moved",
    "same action": "every action is the same: commands were not recorded, or nobody drove",
    "frozen camera": "the picture stands still while actions change: the camera hung",
    "jump": "no body moves so far in a step: a sensor failed, or two episodes were joined",
    "action far out": "the scale of all actions follows such an outlier",
    "action out of range": "it is used as it is, and a policy acts in [-1, 1]",
}
"""The reason for each rule."""

FROZEN = 10
"""Number of equal pictures in a row that a slow camera does not explain."""

JUMP = 2.0, 10.0
"""A jump is a change beyond the first factor times the range of 99 % of a column's values, and the
second times the largest change of the median episode."""

FAR_OUT = 3.0
"""An action is far out if it lies beyond the range of 99 % of them by this many such ranges."""

SHORT = 0.1
"""Longest short episode, in median lengths."""

_SAMPLE = 1 << 17
_BLOCK = 4096


@dataclass(frozen=True)
class Finding:
    """A rule that an episode broke.

    Attributes:
        split: `train` or `val`.
        episode: its number in the split, from 0.
        step: the first step that broke the rule, from 0; `None` if it is the whole episode.
        rule: a key of `RULES`.
        what: the finding in words.
        where: place of the episode in the log, if known.
    """

    split: str
    episode: int
    step: int | None
    rule: str
    what: str
    where: str = ""


def check_dataset(dataset: Dataset) -> list[Finding]:
    """Findings in a dataset, in the order of its episodes. Reads it twice."""
    tables = {"train": dataset.train} | ({"val": dataset.val} if dataset.val else {})
    manifest = dataset.train.manifest
    return check_splits(
        {split: partial(episodes_of, table) for split, table in tables.items()},
        in_range=not manifest.discrete and manifest.action_bounds is None,
    )


def episodes_of(table: Table) -> Iterator[Episode]:
    """A table's episodes, in pieces of some thousand steps."""
    for start, end in zip(table.episode_starts.tolist(), table.episode_ends.tolist(), strict=True):
        for begin in range(start, end + 1, _BLOCK):
            stop = min(begin + _BLOCK, end + 1)
            rows = slice(begin, stop)
            extras = {name: array[rows] for name, array in table.extras.items()}
            yield Episode(table.observations[rows], table.actions[rows], extras, stop == end + 1)


def check_splits(
    splits: Mapping[str, Callable[[], Iterable[Episode]]], *, in_range: bool = False
) -> list[Finding]:
    """Findings in the episodes of some splits, in their order.

    Args:
        splits: a function for each split's name that yields its episodes from the first; called
            twice, first to learn what is usual.
        in_range: actions are used as they are, and so must lie in [-1, 1].
    """
    usual = _Usual()
    for episodes in splits.values():
        for episode in episodes():
            usual.add(episode)
    usual.finish()
    findings: list[Finding] = []
    for split, episodes in splits.items():
        number, current = 0, _Current()
        for episode in episodes():
            current.add(episode, usual, in_range)
            if episode.ends:
                findings += [
                    Finding(split, number, step, rule, what, episode.where)
                    for rule, (step, what) in current.broken(usual).items()
                ]
                number, current = number + 1, _Current()
    return findings


@dataclass
class _Sample:
    """A bounded sample of rows of numbers, thinned out evenly."""

    rows: list[np.ndarray] = field(default_factory=list)
    every: int = 1
    _seen: int = 0
    _kept: int = 0

    def add(self, block: np.ndarray) -> None:
        chosen = block[-self._seen % self.every :: self.every]
        self._seen += len(block)
        self.rows.append(chosen[np.isfinite(chosen).all(axis=1)])
        self._kept += self.rows[-1].size
        while self._kept > _SAMPLE * max(1, self.rows[-1].shape[1]):
            self.every *= 2
            self.rows = [np.concatenate(self.rows)[::2]]
            self._kept = self.rows[0].size

    def percentiles(self, *shares: float) -> np.ndarray:
        """(shares, columns); zeros where there are no rows."""
        rows = np.concatenate(self.rows) if self.rows else np.zeros((0, 1))
        if not len(rows):
            return np.zeros((len(shares), rows.shape[1]))
        return np.percentile(rows, shares, axis=0)


class _Usual:
    """Usual ranges, changes and lengths over all episodes."""

    def __init__(self) -> None:
        self._values, self._actions = _Sample(), _Sample()
        self._lengths: list[int] = []
        self._largest: list[np.ndarray] = []
        self._last: np.ndarray | None = None

    def add(self, episode: Episode) -> None:
        if self._last is None:
            self._lengths.append(0)
        self._lengths[-1] += len(episode.observations)
        values = _vectors(episode.observations)
        if values is not None:
            self._values.add(values)
            largest = np.abs(_changes(values, self._last)).max(axis=0)
            if self._last is not None:
                largest = np.maximum(largest, self._largest.pop())
            self._largest.append(largest)
            self._last = values[-1:]
        else:
            self._last = np.zeros((1, 1))
        if episode.ends:
            self._last = None
        if episode.actions.ndim == 2:
            self._actions.add(np.asarray(episode.actions, np.float64))

    def finish(self) -> None:
        low, high = self._values.percentiles(0.5, 99.5)
        jump = JUMP[0] * (high - low)
        if len(self._largest) > 1:
            largest = np.nan_to_num(self._largest, nan=np.inf)
            usual = np.percentile(largest, 50, axis=0, method="lower")
            jump = np.maximum(jump, JUMP[1] * usual)
        # A column that hardly ever changes does not say what a large change is.
        self.jump = np.where(high > low, jump, np.inf)
        self.low, self.high = self._actions.percentiles(0.5, 99.5)
        self.room = np.where(self.high > self.low, FAR_OUT * (self.high - self.low), np.inf)
        self.length = float(np.median(self._lengths)) if self._lengths else 0.0


class _Current:
    """The episode that is read, which may come in pieces."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[int | None, str]] = {}
        self._steps = 0
        self._still = self._same = True
        self._last: Episode | None = None
        self._runs: dict[str, tuple[int, int]] = {}

    def add(self, episode: Episode, usual: _Usual, in_range: bool) -> None:
        arrays = episode.arrays
        for name, array in arrays.items():
            if array.dtype.kind == "f":
                self._note("not finite", ~np.isfinite(array), lambda at, n=name: f"{n}{at}")
        if self._last is not None:
            self._still &= _equal(self._last.observations[-1:], episode.observations[:1])
            self._same &= _equal(self._last.actions[-1:], episode.actions[:1])
        self._still &= _equal(episode.observations[1:], episode.observations[:-1])
        # The last action leads nowhere, and is often made up.
        acted = episode.actions[: len(episode.actions) - episode.ends]
        self._same &= _equal(acted[1:], acted[:-1])
        values = _vectors(episode.observations)
        if values is not None:
            before = None if self._last is None else _vectors(self._last.observations[-1:])
            changes = np.abs(_changes(values, before))
            with np.errstate(invalid="ignore"):
                self._note(
                    "jump",
                    changes > usual.jump,
                    lambda at: f"column{at} changes by {changes[at.row]:.4g}",
                )
        if episode.actions.ndim == 2:
            self._check_actions(np.asarray(episode.actions, np.float64), usual, in_range)
        for name, array in arrays.items():
            if array.ndim == 4 and array.dtype == np.uint8:
                self._check_frames(name, array, episode.actions)
        self._steps += len(episode.observations)
        self._last = episode

    def _check_actions(self, actions: np.ndarray, usual: _Usual, in_range: bool) -> None:
        far = (actions < usual.low - usual.room) | (actions > usual.high + usual.room)
        self._note("action far out", far, lambda at: f"action{at} is {actions[at.row]:.4g}")
        if in_range:
            outside = np.abs(actions) > 1
            self._note(
                "action out of range", outside, lambda at: f"action{at} is {actions[at.row]:.4g}"
            )

    def _check_frames(self, name: str, frames: np.ndarray, actions: np.ndarray) -> None:
        """Watch how long a camera's pictures have been equal while actions were not."""
        length, since = self._runs.get(name, (1, self._steps))
        last = self._last
        before = frames[0]
        if last is not None:
            before = last.arrays[name][-1]
        for t, frame in enumerate(frames):
            if t == 0 and last is None:
                continue
            if np.array_equal(frame, before):
                length += 1
            else:
                length, since = 1, self._steps + t
            before = frame
            begin = max(0, since - self._steps)
            if length >= FROZEN and not _equal(actions[begin + 1 : t], actions[begin : t - 1]):
                what = f"{name} show the same picture for {length} steps or more"
                self._found.setdefault("frozen camera", (since, what))
        self._runs[name] = length, since

    def _note(self, rule: str, wrong: np.ndarray, what: Callable[[_At], str]) -> None:
        """Keep the first step that broke a rule."""
        if rule in self._found or not wrong.any():
            return
        row = tuple(map(int, np.argwhere(wrong)[0]))
        self._found[rule] = self._steps + row[0], what(_At(row))

    def broken(self, usual: _Usual) -> dict[str, tuple[int | None, str]]:
        """The rules that the episode broke, in the order of `RULES`."""
        found = dict(self._found)
        if self._steps == 1:
            found["one step"] = None, "a single observation"
        else:
            if self._still:
                found["still"] = None, f"{self._steps} observations are the same"
            if self._same and self._steps > 2:
                found["same action"] = None, f"{self._steps - 1} actions are the same"
            if self._steps < SHORT * usual.length:
                found["short"] = None, f"{self._steps} steps, where {usual.length:.0f} are usual"
        return {rule: found[rule] for rule in RULES if rule in found}


@dataclass(frozen=True)
class _At:
    """An index as text: its row, then the rest."""

    row: tuple[int, ...]

    def __str__(self) -> str:
        return f" {', '.join(map(str, self.row[1:]))}" if len(self.row) > 1 else ""


def _vectors(observations: np.ndarray) -> np.ndarray | None:
    """Observations as float64 rows, all vectors among them; `None` of pictures alone."""
    vectors = [
        np.asarray(array, np.float64).reshape(len(array), -1)
        for array in arrays_of(observations).values()
        if array.dtype != np.uint8 or array.ndim <= 2
    ]
    return np.concatenate(vectors, axis=1) if vectors else None


def _changes(values: np.ndarray, before: np.ndarray | None) -> np.ndarray:
    """Each row minus the one before; zeros for an episode's first."""
    first = values[:1] if before is None else before
    with np.errstate(invalid="ignore"):
        return np.diff(values, axis=0, prepend=first)


def _equal(left: np.ndarray, right: np.ndarray) -> bool:
    return bool(np.array_equal(left, right))
