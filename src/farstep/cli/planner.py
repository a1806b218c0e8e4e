"""What `farstep eval --plan`, `plot plan`, `distill` and `export --landmarks` plan over."""

from __future__ import annotations

from dataclasses import dataclass

from farstep.api import plan
from farstep.core.errors import FarstepError
from farstep.data.table import Dataset, open_dataset
from farstep.planning.landmarks import Choice
from farstep.planning.policy import PlannedPolicy
from farstep.planning.prepare import GraphOptions
from farstep.serving.policy import Policy


@dataclass(frozen=True, kw_only=True)
class Planning:
    """What is planned over. A policy exported with landmarks keeps them where nothing is given."""

    landmarks: int | None = None
    """States of the data to plan over; 2000 by default, and none in an export."""
    landmark_choice: Choice | None = None
    """How they are chosen: `farthest` from one another (the default), or at `random`."""
    reach: float | None = None
    """Longest step of a plan in environment steps; calibrated on held-out episodes by default."""
    stride: float | None = None
    """Longest step of a plan that no logged episode takes; calibrated by default."""
    replan_every: int | None = None
    """Steps between choices of a subgoal, by which lengths are calibrated; 5 by default."""
    dataset: str | None = None
    """The data; the policy's own by default."""

    def refuse(self, instead: str) -> None:
        """Raise `FarstepError` if any option is given, where nothing is planned."""
        for name, value in vars(self).items():
            if value is not None:
                raise FarstepError(f"--{name.replace('_', '-')} is for planning; {instead}")

    def data(self, policy: Policy) -> Dataset:
        """Where landmarks come from."""
        return open_dataset(self.dataset or policy.data or policy.dataset)

    def keeps(self, policy: Policy) -> bool:
        """Whether the policy was exported with landmarks and no others are asked for.

        Nothing then depends on the data, or on the seed of the choice.
        """
        return policy.landmarks is not None and all(value is None for value in vars(self).values())

    def plan(self, policy: Policy, seed: int = 0, execute: int | None = None) -> PlannedPolicy:
        """The policy steered over its own landmarks if it keeps them, or over others.

        Args:
            seed: of the choice of landmarks.
            execute: how many actions of the policy's chunks are carried out; all by default.

        Raises:
            FarstepError: no distance, no data, or an option out of range.
        """
        if self.keeps(policy):
            return plan(policy, execute=execute)
        asked = {
            "landmarks": self.landmarks,
            "choice": self.landmark_choice,
            "reach": self.reach,
            "stride": self.stride,
            "replan_every": self.replan_every,
            "seed": seed,
        }
        given = {name: value for name, value in asked.items() if value is not None}
        return plan(policy, self.dataset, GraphOptions(**given), execute=execute)


def described(planned: PlannedPolicy) -> str:
    """The graph in one line."""
    graph, calibration = planned.graph, planned.calibration
    parts = [
        f"{len(graph):,} landmarks",
        f"stride {graph.stride:.1f} and reach {graph.reach:.1f} steps",
    ]
    if calibration is not None:
        parts[1] += f" (calibrated; trusted to {calibration.trusted:.1f})"
    parts.append(f"{graph.edges.nnz:,} edges")
    if graph.isolated:
        parts.append(f"{graph.isolated} isolated states dropped")
    return "Planning over " + ", ".join(parts)
