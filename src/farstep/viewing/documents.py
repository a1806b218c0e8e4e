"""What the pages show, as JSON values by name; each is made when it is first asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

from farstep.core.errors import FarstepError
from farstep.data.table import Dataset, open_dataset
from farstep.planning.metric import LearnedMetric
from farstep.serving.policy import Policy, load_policy
from farstep.training.run import CONFIG
from farstep.viewing import episodes, page, ways
from farstep.viewing.maps import Map, MapOptions
from farstep.viewing.runs import metric_document, runs_document

SIDE_BY_SIDE = 4
"""Most policies in one map."""

MOST_TRIED = 8
"""Runs that are tried before there are enough policies for a map."""

MOST_EXPORTED = 5_000_000
"""Bytes of a page in one file: what mail takes and a browser opens at once."""


@dataclass(frozen=True)
class Documents:
    """Runs, exported policies and data to look at.

    Attributes:
        runs: directories by the names that they are shown by.
        data: name or path of a dataset, if one was named.
        checkpoint: of the runs.
        options: of the map.
    """

    runs: Sequence[tuple[str, Path]]
    data: str | None
    checkpoint: str
    options: MapOptions
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def by_name(self) -> dict[str, Callable[[Mapping[str, str]], Any]]:
        """What makes each document, from what is asked for in particular."""
        return {
            "view.json": lambda _: self.view(),
            "map.json": lambda _: self.map_document(),
            "runs.json": lambda _: runs_document(self.runs),
            "metric.json": lambda asked: metric_document(self.runs, asked.get("metric", "")),
            "data.json": lambda _: (
                episodes.data_document(self.dataset) | {"distances": bool(self._metrics)}
            ),
            "findings.json": lambda _: episodes.findings_document(self.dataset),
            "episode.json": lambda asked: episodes.episode_document(
                self.dataset, self._metrics, asked
            ),
            "nearest.json": lambda asked: episodes.nearest_document(
                self.dataset, self._metrics, asked
            ),
        }

    def view(self) -> dict[str, Any]:
        """Which pages there are; told at once."""
        names = [name for name, _ in self.runs]
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        title = ", ".join(names[:3]) + more if names else str(self.data)
        return {"title": title, "pages": self._pages}

    @property
    def _pages(self) -> list[str]:
        trained = any((path / CONFIG).exists() for _, path in self.runs)
        pages = [*(["map"] if self.runs else []), "data", *(["runs"] if trained else [])]
        # Of many runs one asks first how they went.
        return pages if len(self.runs) <= SIDE_BY_SIDE else pages[::-1]

    @property
    def map(self) -> Map:
        """The policies that can be loaded.

        Raises:
            FarstepError: none of them, or they cannot be drawn.
        """
        with self._lock:  # Each request has its own thread, and a map is made once.
            return self._map

    def map_document(self) -> dict[str, Any]:
        """The map, whose ways are walked when they are asked for."""
        with self._lock:
            return self._map.document() | {"rollouts": ways.possible(self._map)}

    def picture(self, asked: Mapping[str, str]) -> bytes:
        """The picture that a state of the map is, as PNG.

        Args:
            asked: `agent` and `state`, numbers of the map's.

        Raises:
            FarstepError: there is none.
        """
        shown = self.map
        agent = episodes.number(asked, "agent", len(shown.policies))
        state = shown.observation(agent, episodes.number(asked, "state", 10**9))
        if state.ndim != 3:
            raise FarstepError("These states are no pictures.")
        return episodes.png(state)

    def exported(self, recorded: int) -> str:
        """The page in one file.

        Args:
            recorded: episodes of each task.

        Raises:
            FarstepError: there is nothing to show, or it makes too large a file.
        """
        shown = self.map.document()
        shown["ways"] = ways.recorded(self.map, recorded)
        view = self.view()
        # Frames and curves of all episodes would make no small file.
        view["pages"].remove("data")
        documents: dict[str, Any] = {"view.json": view, "map.json": shown}
        if "runs" in view["pages"]:
            runs = documents["runs.json"] = runs_document(self.runs)
            for metric in runs["metrics"]:
                name = f"metric.json?metric={quote(metric, safe='')}"
                documents[name] = metric_document(self.runs, metric)
        text = page.exported(documents)
        if len(text) > MOST_EXPORTED:
            raise FarstepError(
                f"The page would take {len(text) / 1e6:.1f} MB, more than {MOST_EXPORTED // 10**6}:"
                " name fewer runs, or ask for fewer --landmarks and --episodes."
            )
        return text

    @property
    def dataset(self) -> Dataset:
        """The data that were named, or those of the first policy.

        Raises:
            FarstepError: they are not here.
        """
        if self.data is not None:
            return self._named
        shown = self.map
        if shown.dataset is None:
            raise FarstepError(shown.problems[-1])
        return shown.dataset

    @cached_property
    def _named(self) -> Dataset:
        assert self.data is not None
        return open_dataset(self.data)

    @property
    def _metrics(self) -> dict[str, LearnedMetric]:
        """Distances of states to states, by policy; none where no policy can be shown."""
        try:
            shown = self.map if self.runs else None
        except FarstepError:
            shown = None
        if shown is None:
            return {}
        named = zip(shown.names, shown.policies, shown.metrics, strict=True)
        return {
            name: metric
            for name, policy, metric in named
            if metric is not None and policy.spaces.rule.whole
        }

    @cached_property
    def _map(self) -> Map:
        policies: list[tuple[str, Policy]] = []
        failed = []
        for name, path in self.runs[:MOST_TRIED]:
            if len(policies) == SIDE_BY_SIDE:
                failed.append(f"Of {len(self.runs)} policies {SIDE_BY_SIDE} are shown.")
                break
            try:
                policies.append((name, load_policy(path, checkpoint=self.checkpoint)))
            except FarstepError as error:
                failed.append(f"{name}: {error}")
        if not policies:
            raise FarstepError(" ".join(failed) or "There is no policy to show.")
        return Map.of(policies, self.data, self.options, failed)
