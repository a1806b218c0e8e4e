"""How a goal is made from a step of a table, or from an environment's goal."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

import numpy as np

from farstep.core.errors import FarstepError


@dataclass(frozen=True)
class GoalRule:
    """How a goal is made. At most one attribute is set; without any, a goal is an observation.

    Attributes:
        columns: numbers of the observation's columns that a goal is made of.
        key: name of one of the observation's arrays where it has several, or of another array of
            the table, of which a step's row is its goal.
        function: `module:name` of a function from observations (B, D) to goals (B, G).
    """

    columns: tuple[int, ...] = ()
    key: str | None = None
    function: str | None = None

    @classmethod
    def parse(cls, text: str) -> GoalRule:
        """From `observation`, column numbers such as `0,1`, `key:NAME` or `function:MODULE:NAME`.

        Raises:
            FarstepError: none of these.
        """
        kind, _, rest = text.partition(":")
        if text == "observation":
            return cls()
        if kind == "key" and rest:
            return cls(key=rest)
        if kind == "function" and rest.count(":") == 1:
            return cls(function=rest)
        try:
            columns = tuple(int(word) for word in text.split(","))
        except ValueError:
            raise FarstepError(
                f"--goal {text}: a goal is `observation`, column numbers such as `0,1`, `key:NAME`"
                " for another array of the table, or `function:MODULE:NAME`."
            ) from None
        if min(columns) < 0 or len(set(columns)) != len(columns):
            raise FarstepError(f"--goal {text}: columns are counted from 0, each named once.")
        return cls(columns=columns)

    def __str__(self) -> str:
        if self.columns:
            return ",".join(map(str, self.columns))
        if self.key is not None:
            return f"key:{self.key}"
        return "observation" if self.function is None else f"function:{self.function}"

    @property
    def whole(self) -> bool:
        """Whether a goal is a whole observation."""
        return not self.columns and self.key is None and self.function is None

    def goals(self, observations: np.ndarray) -> np.ndarray:
        """The goals (B, …) of raw observations (B, …).

        Raises:
            FarstepError: they tell no goal, or the function cannot be found or gives none.
        """
        if self.whole:
            return observations
        if self.columns:
            if observations.ndim != 2 or max(self.columns) >= observations.shape[-1]:
                raise FarstepError(
                    f"--goal {self}: observations have shape {observations.shape[1:]}, without"
                    f" column {max(self.columns)}."
                )
            return observations[:, self.columns]
        if self.function is None:
            if self.key in (observations.dtype.names or ()):
                return observations[self.key]
            raise FarstepError(
                f"Goals are the table's '{self.key}', which observations do not tell. Give goals"
                " themselves; evaluate without an environment (--evaluation-episodes 0)."
            )
        module, _, name = self.function.partition(":")
        try:
            function = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise FarstepError(f"--goal {self}: {error}.") from error
        goals = np.asarray(function(observations), np.float32)
        if goals.ndim != 2 or len(goals) != len(observations) or not np.isfinite(goals).all():
            raise FarstepError(
                f"--goal {self}: it must give finite numbers (B, G), and gave {goals.shape} for"
                f" {len(observations)} observations."
            )
        return goals


WHOLE = GoalRule()
"""A goal is an observation."""
