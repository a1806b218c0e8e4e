"""The designs of MQE's ablations, on any dataset: the settings that each one compares.

They are Table 1a (action invariance), Table 1b (the waypoint law), Figure 6 (p and λ of the
waypoints) and Figure 3b (success by distance) of arXiv 2511.07730. One more compares the goals of
the policy's loss, which Eq. 15 and the released code choose differently, for every agent whose
policy climbs a critic.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from farstep.agents.base import Agent
from farstep.agents.registry import AGENTS, agent_class
from farstep.analysis.published import (
    TABLE1_DATASET,
    PublishedResult,
    published_ablation,
    published_result,
)
from farstep.core.errors import FarstepError


@dataclass(frozen=True)
class Variant:
    """One setting of a study.

    Attributes:
        name: its row in the table.
        directory: directory of its runs, below the study's.
        agent: the agent that is trained.
        options: hyperparameters that make the setting, by field name.
    """

    name: str
    directory: str
    agent: str = "mqe"
    options: Mapping[str, Any] = field(default_factory=dict)

    def applied_to(self, agent: Agent) -> Agent:
        """The agent with the setting's hyperparameters."""
        return replace(agent, **self.options)


@dataclass(frozen=True)
class Study:
    """The design of a study.

    Attributes:
        name: name on the command line.
        title: title of its table.
        variants: the settings that it compares.
        published: published results of settings by name, with their dataset.
        published_dataset: that dataset; empty if nothing is published.
    """

    name: str
    title: str
    variants: tuple[Variant, ...]
    published: Mapping[str, PublishedResult]
    published_dataset: str = ""


def ablation_invariance() -> Study:
    """Table 1a: with action invariance, without, and with an expectile value loss instead."""
    return Study(
        "ablation-invariance",
        "Action invariance (MQE, Table 1a)",
        (
            Variant("with L_I", "with", options={"invariance": "logged"}),
            Variant("without L_I", "without", options={"invariance": "off"}),
            *(
                Variant(
                    f"expectile κ = {expectile}",
                    f"expectile-{expectile}",
                    options={"invariance": "expectile", "expectile": expectile},
                )
                for expectile in (0.7, 0.9)
            ),
        ),
        published_ablation("invariance"),
        TABLE1_DATASET,
    )


def ablation_waypoint() -> Study:
    """Table 1b: the laws by which waypoints are drawn."""
    laws = {
        "mixture": "mixture (Eq. 8)",
        "geometric": "geometric",
        "uniform": "uniform on [1, k_g]",
        "uniform-50": "uniform on [1, 50]",
        "constant-50": "constant 50",
        "constant-1": "constant 1",
    }
    return Study(
        "ablation-waypoint",
        "Waypoint law (MQE, Table 1b)",
        tuple(Variant(name, law, options={"waypoint_law": law}) for law, name in laws.items()),
        published_ablation("waypoint"),
        TABLE1_DATASET,
    )


def p_lambda_grid(one_step: Sequence[float], lambdas: Sequence[float]) -> Study:
    """Figure 6: the probability p of a one-step waypoint against λ of the geometric law."""
    return Study(
        "p-lambda-grid",
        "p and λ of the waypoints (MQE, Figure 6)",
        tuple(
            Variant(
                grid_name(p, lambda_),
                f"p{p:g}-lambda{lambda_:g}",
                options={"waypoint_one_step": p, "waypoint_lambda": lambda_},
            )
            for p, lambda_ in itertools.product(one_step, lambdas)
        ),
        {},
    )


def grid_name(one_step: float, lambda_: float) -> str:
    """The row of a point of the grid."""
    return f"p = {one_step:g}, λ = {lambda_:g}"


def horizon(agents: Sequence[str], dataset: str) -> Study:
    """Figure 3b: several methods' success by how far the goal lies from the start.

    Beside it stands what Table 4 reports for these methods on this dataset over all its tasks.

    Raises:
        FarstepError: there is no such agent.
    """
    for agent in agents:
        agent_class(agent)
    published = {agent: published_result(agent, dataset) for agent in agents}
    return Study(
        "horizon",
        "Success by distance (MQE, Figure 3b)",
        tuple(Variant(agent, agent, agent) for agent in dict.fromkeys(agents)),
        {agent: result for agent, result in published.items() if result is not None},
        dataset,
    )


def policy_goals(agents: Sequence[str]) -> Study:
    """Goals of the policy's q term: each row's own (`paired`) or other rows' (`cross`, Eq. 15).

    Raises:
        FarstepError: there is no such agent, or its policy has no q term.
    """
    for agent in agents:
        if agent not in agents_with("policy_goals"):
            agent_class(agent)
            raise FarstepError(f"The policy of {agent} climbs no critic: it has no q goals.")
    return Study(
        "policy-goals",
        "Goals of the policy's q term",
        tuple(
            Variant(f"{agent}, {goals}", f"{agent}-{goals}", agent, {"policy_goals": goals})
            for agent in dict.fromkeys(agents)
            for goals in ("cross", "paired")
        ),
        {},
    )


def policy_levers(chunk: int, average: float) -> Study:
    """Alternatives to the paper's Gaussian policy: flows, chunks, an average of parameters."""
    flow = {"policy": "flow"}
    return Study(
        "policy-levers",
        "What the policy is, and which parameters act",
        (
            Variant("Gaussian, DDPG+BC", "gaussian"),
            Variant("flow, best of N", "best-of-n", options=flow | {"extraction": "best-of-n"}),
            Variant("flow, one step distilled, DDPG+BC", "distilled", options=flow),
            Variant(f"chunks of {chunk}", f"chunk-{chunk}", options={"action_chunk": chunk}),
            Variant(
                f"parameters averaged at {average:g}",
                f"average-{average:g}",
                options={"policy_average": average},
            ),
        ),
        {},
    )


def agents_with(hyperparameter: str) -> tuple[str, ...]:
    """Agents that have a hyperparameter of this name."""
    return tuple(
        name
        for name, kind in AGENTS.items()
        if hyperparameter in {field.name for field in fields(kind)}
    )
