"""What the pages show, as JSON values by name; each is made when it is first asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from farstep.core.errors import FarstepError
from farstep.serving.policy import Policy, load_policy
from farstep.viewing import page, ways
from farstep.viewing.maps import Map, MapOptions

SIDE_BY_SIDE = 4
"""Most policies in one map."""

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
    def by_name(self) -> dict[str, Callable[..., Any]]:
        """What makes each document."""
        return {"view.json": lambda _: self.view(), "map.json": lambda _: self.map_document()}

    def view(self) -> dict[str, Any]:
        """Which pages there are; told at once."""
        names = [name for name, _ in self.runs]
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        return {"title": ", ".join(names[:3]) + more, "pages": ["map"]}

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

    def exported(self, episodes: int) -> str:
        """The page in one file.

        Args:
            episodes: recorded of each task.

        Raises:
            FarstepError: there is nothing to show, or it makes too large a file.
        """
        shown = self.map.document()
        shown["ways"] = ways.recorded(self.map, episodes)
        text = page.exported({"view.json": self.view(), "map.json": shown})
        if len(text) > MOST_EXPORTED:
            raise FarstepError(
                f"The page would take {len(text) / 1e6:.1f} MB, more than {MOST_EXPORTED // 10**6}:"
                " name fewer runs, or ask for fewer --landmarks and --episodes."
            )
        return text

    @cached_property
    def _map(self) -> Map:
        policies: list[tuple[str, Policy]] = []
        failed = []
        for name, path in self.runs:
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
