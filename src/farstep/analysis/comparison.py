"""Methods × datasets × seeds: which runs may be averaged, and their statistics.

Runs are averaged only if they agree in everything but their seed. Where runs of one method on one
dataset do not agree, each group of runs is a method of its own. Its name says how it differs, and a
note names the runs.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float

from farstep.analysis.published import (
    PublishedResult,
    best_published,
    comparable,
    published_result,
)
from farstep.analysis.scores import UNKNOWN, Score
from farstep.analysis.statistics import (
    RESAMPLES,
    Strata,
    improvement_interval,
    interquartile_mean,
    mean,
    mean_interval,
    performance_profile,
    probability_of_improvement,
    resampled_interval,
    standard_error,
)
from farstep.core.errors import FarstepError
from farstep.evaluation.intervals import Interval

THRESHOLDS: Float[np.ndarray, " thresholds"] = np.round(np.linspace(0, 1, 101), 9)
"""Success rates at which performance profiles are taken."""

ACROSS_DATASETS = ("episodes per task", "temperature", "planning", "updates", "normalized")
"""Settings that must agree between datasets for a method's mean over them."""

ACROSS_METHODS = ("environment", "tasks", "step limit", "slots", "data", *ACROSS_DATASETS)
"""Settings that a reader expects to be equal between methods on one dataset."""

NAMED_DIFFERENCES = 2
"""Most differences that a group's name spells out."""


@dataclass(frozen=True)
class Cell:
    """One method on one dataset.

    Attributes:
        method: its name, unique among the groups of the dataset.
        dataset: the data's name.
        scores: runs that differ in nothing but the seed, in order of seed.
    """

    method: str
    dataset: str
    scores: tuple[Score, ...]

    @property
    def values(self) -> Float[np.ndarray, " runs"]:
        """Success of each run."""
        return np.array([score.success for score in self.scores])

    @property
    def published(self) -> PublishedResult | None:
        """What Table 4 has for this agent on this dataset.

        None for a planned policy, and for runs that are much smaller or shorter than the paper's.
        """
        first = self.scores[0]
        hidden = (first.hyperparameters or {}).get("hidden", ())
        if first.planned or not comparable(self.dataset, hidden, max(first.protocol["updates"])):
            return None
        return published_result(first.agent, first.dataset)

    @property
    def best_published(self) -> PublishedResult | None:
        """The highest success that is published for this dataset, of whatever method and size."""
        return best_published(self.dataset)


@dataclass(frozen=True)
class Aggregate:
    """Figures of one method over one or several datasets; intervals are 95 %.

    Attributes:
        runs: number of runs.
        mean: mean over datasets of the mean over runs.
        standard_error: standard error of the mean over runs; None for one run or several datasets.
        interquartile_mean: the mean of the middle half of the runs.
        mean_interval: t interval of the mean; None where a dataset has a single run, or all runs
            are equal and so tell nothing of their spread.
        interquartile_interval: its bootstrapped interval; None over few datasets.
    """

    runs: int
    mean: float
    standard_error: float | None
    interquartile_mean: float
    mean_interval: Interval | None
    interquartile_interval: Interval | None


@dataclass(frozen=True)
class Improvement:
    """The probability that a run of `method` scores higher than a run of `other`."""

    method: str
    other: str
    datasets: tuple[str, ...]
    probability: float
    interval: Interval | None


@dataclass(frozen=True)
class Profile:
    """Fraction of a method's runs above each of `THRESHOLDS`, with its pointwise 95 % band."""

    method: str
    fractions: Float[np.ndarray, " thresholds"]
    band: tuple[Float[np.ndarray, " thresholds"], Float[np.ndarray, " thresholds"]] | None


@dataclass(frozen=True)
class Comparison:
    """All groups of runs, and notes about them.

    Attributes:
        cells: cells in order of dataset, then of the methods' first appearance.
        notes: runs that were kept apart and how they differ, missing seeds, runs that ended
            early; a sentence each.
        seed: seed of the bootstrap.
        resamples: number of samples of the bootstrap.
    """

    cells: tuple[Cell, ...]
    notes: tuple[str, ...]
    seed: int
    resamples: int

    @property
    def datasets(self) -> list[str]:
        """In order of name."""
        return sorted({cell.dataset for cell in self.cells})

    @property
    def methods(self) -> list[str]:
        """In order of appearance."""
        return list(dict.fromkeys(cell.method for cell in self.cells))

    @property
    def shared_datasets(self) -> list[str]:
        """Datasets on which every method has runs."""
        return [
            dataset
            for dataset in self.datasets
            if all((method, dataset) in self.by_name for method in self.methods)
        ]

    @cached_property
    def overall(self) -> dict[str, Aggregate]:
        """For each method, over the datasets that all methods share; empty if it is only one.

        A method that was measured differently from one dataset to the next is left out.
        """
        shared = self.shared_datasets
        if len(shared) < 2:
            return {}
        return {
            method: self._aggregate(self._strata(method, shared))
            for method in self.methods
            if not self.differences_between_datasets(method, shared)
        }

    @cached_property
    def improvements(self) -> list[Improvement]:
        """For each pair of methods, over the datasets that both have runs on.

        A pair is left out if one of the two was measured differently from one of those datasets
        to the next.
        """
        found = []
        for one, other in itertools.combinations(self.methods, 2):
            both = [
                dataset
                for dataset in self.datasets
                if (one, dataset) in self.by_name and (other, dataset) in self.by_name
            ]
            if not both or any(
                self.differences_between_datasets(method, both) for method in (one, other)
            ):
                continue
            strata = self._strata(one, both), self._strata(other, both)
            found.append(
                Improvement(
                    method=one,
                    other=other,
                    datasets=tuple(both),
                    probability=float(probability_of_improvement(*strata)),
                    interval=_interval(improvement_interval(*strata)),
                )
            )
        return found

    @cached_property
    def profiles(self) -> list[Profile]:
        """Figures of each method that was measured alike on all shared datasets; may be empty."""
        shared = self.shared_datasets

        def profile(strata: Strata) -> np.ndarray:
            return performance_profile(strata, THRESHOLDS)

        found = []
        for method in self.methods:
            if not shared or self.differences_between_datasets(method, shared):
                continue
            strata = self._strata(method, shared)
            band = resampled_interval(profile, strata, seed=self.seed, resamples=self.resamples)
            found.append(Profile(method, profile(strata), band))
        return found

    def aggregate(self, cell: Cell) -> Aggregate:
        """The figures of one method on one dataset."""
        return replace(self._aggregate([cell.values]), standard_error=standard_error(cell.values))

    @cached_property
    def by_name(self) -> dict[tuple[str, str], Cell]:
        """Cells by (method, dataset)."""
        return {(cell.method, cell.dataset): cell for cell in self.cells}

    def differences_between_datasets(self, method: str, datasets: Iterable[str]) -> list[str]:
        """Settings in which a method's datasets differ."""
        cells = [self.by_name[method, dataset] for dataset in datasets]
        return _differing([cell.scores[0].protocol for cell in cells], ACROSS_DATASETS)

    def _strata(self, method: str, datasets: Iterable[str]) -> list[Float[np.ndarray, " runs"]]:
        return [self.by_name[method, dataset].values for dataset in datasets]

    def _aggregate(self, strata: Strata) -> Aggregate:
        return Aggregate(
            runs=sum(len(scores) for scores in strata),
            mean=float(mean(strata)),
            standard_error=None,
            interquartile_mean=float(interquartile_mean(strata)),
            mean_interval=_interval(mean_interval(strata)),
            interquartile_interval=_interval(
                resampled_interval(
                    interquartile_mean, strata, seed=self.seed, resamples=self.resamples
                )
            ),
        )


def _interval(ends: tuple[Any, Any] | None) -> Interval | None:
    if ends is None or ends[0] == ends[1]:
        return None
    return Interval(*map(float, ends))


def compare(
    scores: Sequence[Score],
    *,
    notes: Iterable[str] = (),
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Comparison:
    """Groups runs that differ in nothing but their seed, and notes what does not fit.

    Args:
        notes: earlier notes, such as runs that were left out.
        seed: seed of the bootstrap.
        resamples: number of samples of the bootstrap.

    Raises:
        FarstepError: there is no score, or one seed stands twice in a group.
    """
    if not scores:
        raise FarstepError("there are no runs to compare")
    scores = list({score.source.resolve(): score for score in scores}.values())
    named: dict[tuple[str, str], list[Score]] = {}
    for score in scores:
        named.setdefault((score.dataset, score.name), []).append(score)
    cells: list[Cell] = []
    notes = list(notes)
    for (dataset, name), together in named.items():
        groups = _groups(together)
        differing = _differing([group[0].settings() for group in groups])
        for number, group in enumerate(groups, start=1):
            _check_seeds(group)
            ordered = sorted(group, key=lambda score: (score.seed is None, score.seed or 0))
            method = name if len(groups) == 1 else _group_name(name, group, differing, number)
            cells.append(Cell(method, dataset, tuple(ordered)))
        if len(groups) > 1:
            notes.append(_kept_apart(dataset, name, groups, differing))
    cells.sort(key=lambda cell: cell.dataset)
    comparison = Comparison(tuple(cells), (), seed, resamples)
    notes += _between_methods(comparison)
    notes += _between_datasets(comparison)
    notes += _missing(comparison)
    notes += [f"{score.source}: {score.remark}." for score in scores if score.remark]
    return replace(comparison, notes=tuple(notes))


def _groups(scores: Sequence[Score]) -> list[list[Score]]:
    """Scores by equal settings, in order of first appearance."""
    groups: dict[str, list[Score]] = {}
    for score in scores:
        groups.setdefault(json.dumps(score.settings(), sort_keys=True), []).append(score)
    return list(groups.values())


def _differing(settings: Sequence[Mapping[str, Any]], among: Iterable[str] = ()) -> list[str]:
    """Names of settings whose known values differ, in the settings' order."""
    found = []
    for name in list(among) or dict.fromkeys(name for one in settings for name in one):
        values = [one[name] for one in settings if name in one]
        if any(value != values[0] for value in values):
            found.append(name)
    return found


def _group_name(name: str, group: Sequence[Score], differing: Sequence[str], number: int) -> str:
    if len(differing) > NAMED_DIFFERENCES:
        return f"{name} #{number}"
    settings = group[0].settings()
    said = ", ".join(
        f"{key.removeprefix('agent.')} {_short(settings.get(key, UNKNOWN))}" for key in differing
    )
    return f"{name} ({said})"


def _kept_apart(
    dataset: str, name: str, groups: Sequence[Sequence[Score]], differing: Sequence[str]
) -> str:
    lines = [f"{name} on {dataset}: {len(groups)} groups of runs are not averaged together:"]
    for group in groups:
        settings = group[0].settings()
        said = "; ".join(f"{key} {_short(settings.get(key, UNKNOWN))}" for key in differing)
        lines.append(f"{said} ({', '.join(str(score.source) for score in group)})")
    return "\n  ".join(lines)


def _between_methods(comparison: Comparison) -> list[str]:
    """Notes on settings in which methods on a dataset differ."""
    notes = []
    for dataset in comparison.datasets:
        cells = [cell for cell in comparison.cells if cell.dataset == dataset]
        protocols = [cell.scores[0].protocol for cell in cells]
        for name in _differing(protocols, ACROSS_METHODS):
            by_value: dict[str, list[str]] = {}
            for cell, protocol in zip(cells, protocols, strict=True):
                by_value.setdefault(_short(protocol[name]), []).append(cell.method)
            said = "; ".join(f"{value} for {', '.join(who)}" for value, who in by_value.items())
            notes.append(f"{dataset}: methods differ in {name}: {said}.")
    return notes


def _between_datasets(comparison: Comparison) -> list[str]:
    shared = comparison.shared_datasets
    if len(shared) < 2:
        return []
    left_out = [method for method in comparison.methods if method not in comparison.overall]
    return [
        f"{method} has no figures over all datasets, since its runs differ between them in "
        f"{', '.join(comparison.differences_between_datasets(method, shared))}."
        for method in left_out
    ]


def _missing(comparison: Comparison) -> list[str]:
    """Datasets and seeds that one method has and another lacks."""
    notes: list[str] = []
    unknown: list[str] = []
    seeds = {score.seed for cell in comparison.cells for score in cell.scores}
    known = sorted(seed for seed in seeds if seed is not None)
    for cell in comparison.cells:
        present = {score.seed for score in cell.scores}
        absent = [seed for seed in known if seed not in present]
        if None in present:
            unknown.append(f"{cell.method} on {cell.dataset}")
        elif absent:
            listed = ", ".join(map(str, absent))
            notes.append(f"{cell.method} on {cell.dataset}: no run with seed {listed}.")
    named = {(cell.scores[0].name, cell.dataset) for cell in comparison.cells}
    for name, dataset in itertools.product(sorted(dict(named)), comparison.datasets):
        if (name, dataset) not in named:
            notes.append(f"{name} has no runs on {dataset}.")
    if unknown:
        notes.append(f"Result files do not tell the training seeds of {'; '.join(unknown)}.")
    return notes


def _check_seeds(group: Sequence[Score]) -> None:
    by_seed: dict[int, Score] = {}
    for score in group:
        if score.seed is None:
            continue
        if score.seed in by_seed:
            raise FarstepError(
                f"{by_seed[score.seed].source} and {score.source} are both seed {score.seed} of "
                f"{score.name} on {score.dataset}, alike in every setting. Name only one of them, "
                "or give them names of their own: NAME=PATH."
            )
        by_seed[score.seed] = score


def _short(value: Any) -> str:
    """A setting's value in a sentence."""
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, list):
        return " ".join(_short(one) for one in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_short(one)}" for key, one in value.items())
    text = str(value)
    return f"{text[:8]}…" if len(text) == 64 else text
