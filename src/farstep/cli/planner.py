"""Options of planning, for `eval --plan`, `plot plan`, `distill` and `export --landmarks`."""

from __future__ import annotations

from dataclasses import dataclass

from farstep.api import plan
from farstep.core.errors import FarstepError
from farstep.data.table import Dataset, open_dataset
from farstep.planning.policy import Observer, PlannedPolicy
from farstep.planning.prepare import GraphOptions
from farstep.serving.policy import Policy


@dataclass(frozen=True, kw_only=True)
class Planning:
    """Options of planning. A policy exported with landmarks keeps them where none is given."""

    landmarks: int | None = None
    """Most states of the data to plan over; fewer where these cover the data within a step length.
    4000 by default, and none in an export."""
    replan_every: int | None = None
    """Environment steps between choices of a subgoal; by default the fewest over which motion adds
    up in held-out episodes."""
    step_length: float | None = None
    """Learned steps that the quickest held-out episodes cover in that time, unless given."""
    edge_cutoff: float | None = None
    """Longest edge of the graph in learned steps; four step lengths by default."""
    dataset: str | None = None
    """The data; the policy's own by default."""

    def refuse(self, instead: str) -> None:
        """Raise `FarstepError` if any option is given, where nothing is planned."""
        for name, value in vars(self).items():
            if value is not None:
                raise FarstepError(f"--{name.replace('_', '-')} is for planning; {instead}")

    def data(self, policy: Policy) -> Dataset:
        """The data that landmarks come from."""
        return open_dataset(self.dataset or policy.data or policy.dataset)

    def keeps(self, policy: Policy) -> bool:
        """Whether the policy was exported with landmarks and no others are asked for.

        Nothing then depends on the data, or on the seed of the choice.
        """
        return policy.landmarks is not None and all(value is None for value in vars(self).values())

    def plan(
        self,
        policy: Policy,
        seed: int = 0,
        observer: Observer | None = None,
        execute: int | None = None,
    ) -> PlannedPolicy:
        """The policy steered over its own landmarks if it keeps them, or over others.

        Args:
            seed: seed of the choice of landmarks.
            observer: called at every choice of a subgoal.
            execute: number of actions of the policy's chunks carried out; all by default.

        Raises:
            FarstepError: no distance, no data, or an option out of range.
        """
        if self.keeps(policy):
            return plan(policy, observer=observer, execute=execute)
        asked = {name: value for name, value in vars(self).items() if name != "dataset"}
        given = {name: value for name, value in asked.items() if value is not None}
        return plan(
            policy,
            self.dataset,
            GraphOptions(seed=seed, **given),
            observer=observer,
            execute=execute,
        )


def described(planned: PlannedPolicy) -> str:
    """The graph in a few words, and what it promises."""
    marks = planned.graph.landmarks
    return (
        f"Planning over {len(planned.graph):,} landmarks and {marks.logged.sum():,} logged edges: "
        f"every {marks.replan_every} steps, step length {marks.step_length:.1f}, edge cutoff "
        f"{marks.edge_cutoff:.1f} learned steps\n{planned.graph.diagnosis}"
    )
