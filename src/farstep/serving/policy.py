"""A trained policy, ready to act: no environment, no data and no training code needed.

An exported policy is a directory of two files:

    policy.json          the agent, its spaces, where it comes from
    policy.safetensors   its networks, the normalisation of its observations, and the landmarks
                         to plan over if it was exported with them
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np
import safetensors
import safetensors.numpy
from jaxtyping import Array, Int, UInt

from farstep.agents.base import Agent
from farstep.agents.registry import agent_from_dict, agent_to_dict
from farstep.core.errors import FarstepError
from farstep.core.fields import dataclass_from_dict
from farstep.core.files import staged_directory
from farstep.core.rng import root_key, stream_key
from farstep.core.seeds import check_seed
from farstep.core.trees import Packed, from_named, named_leaves
from farstep.core.types import Params, Spaces
from farstep.data.normalize import Normalization
from farstep.data.table import open_dataset
from farstep.planning.graph import LandmarkGraph
from farstep.planning.landmarks import Landmarks
from farstep.planning.metric import LearnedMetric
from farstep.planning.plan import Plan
from farstep.planning.policy import Steering
from farstep.planning.prepare import GraphOptions, prepare_graph

FORMAT = 2
DESCRIPTION = "policy.json"
WEIGHTS = "policy.safetensors"


@dataclass(frozen=True, kw_only=True)
class Policy:
    """A policy and, where its method has one, its temporal distance.

    `act` and `distance` take one observation or a batch of them (the declared observation shape,
    with or without one leading axis), in the units of the training data.

    Attributes:
        agent: the method and its hyperparameters.
        params: its networks.
        spaces: shapes and types of observations and actions.
        normalization: applied to observations and goals before the networks see them.
        dataset: name of the data that it was trained on.
        environment: the environment of those data, if known.
        step: updates that it was trained for.
        landmarks: what to plan over; without them, plans take them from the data.
        data: where the data of a run lay when it was trained; an export does not tell.
    """

    agent: Agent
    params: Params
    spaces: Spaces
    normalization: Normalization
    dataset: str
    environment: str | None
    step: int
    source: Mapping[str, Any] = field(default_factory=dict)
    landmarks: Landmarks | None = None
    data: Path | None = None

    def act(
        self,
        observations: np.ndarray,
        goals: np.ndarray,
        *,
        temperature: float = 0.0,
        seed: int = 0,
        step: int = 0,
    ) -> np.ndarray:
        """Actions in [−1, 1], (A,) for one observation and (B, A) for a batch; or discrete ones.

        Args:
            temperature: scale of the policy's own noise; 0 acts deterministically.
            seed: root of that noise.
            step: tells one call's noise from another's.

        Raises:
            FarstepError: the seed is not in [0, 2³²).
            ValueError: an array has another shape than the policy was trained on.
        """
        observations, single = self._batched(observations, "observations")
        goals, _ = self._batched(goals, "goals")
        actions = np.asarray(
            _act(
                self.agent,
                self._packed,
                observations,
                goals,
                np.uint32(check_seed(seed)),
                step,
                temperature,
            )
        )
        return actions[0] if single else actions

    def distance(
        self, observations: np.ndarray, goals: np.ndarray, actions: np.ndarray | None = None
    ) -> np.ndarray:
        """Temporal distance in environment steps, () or (B,).

        Args:
            actions: (A,) or (B, A), or integers () or (B,) if discrete: if given, the distance
                from (s, a), that is after committing to an action.

        Raises:
            FarstepError: the method has no distance.
            ValueError: an array has another shape than the policy was trained on, or there is no
                such discrete action.
        """
        if not self.agent.has_distance:
            raise FarstepError(
                f"{type(self.agent).__name__} learns a policy only: it has no distance. "
                "Train a method that has one, such as mqe."
            )
        observations, single = self._batched(observations, "observations")
        goals, _ = self._batched(goals, "goals")
        batched_actions = None
        if actions is not None:
            batched_actions = self._batched_actions(
                actions, () if single else observations.shape[:1]
            )
        steps = np.asarray(
            _distance(self.agent, self._packed, observations, goals, batched_actions)
        )
        return steps[0] if single else steps

    def begin(
        self, slots: Int[np.ndarray, " n"], observations: np.ndarray, goals: np.ndarray
    ) -> None:
        """New episodes start: a flat policy remembers nothing that it would have to forget."""

    def end(self, slots: Int[np.ndarray, " n"]) -> None:
        """Episodes are over: a flat policy takes no trouble over any."""

    def plan(self, goal: np.ndarray, *, steering: Steering | None = None) -> Plan:
        """A plan to `goal` over landmarks, for a loop of one's own: `plan.act(observation)`.

        The landmarks are those that the policy was exported with, or states of its own data with
        stride and reach calibrated; they are prepared at the first call and kept.

        Raises:
            FarstepError: the method has no distance, or there are neither landmarks nor data.
            ValueError: the goal has another shape than the policy was trained on.
        """
        goal = np.asarray(goal, self.spaces.observation.dtype)
        if goal.shape != self.spaces.observation.shape:
            raise ValueError(
                f"the goal has shape {goal.shape}; this policy takes "
                f"{self.spaces.observation.shape}"
            )
        return Plan(self, self.graph, goal, steering)

    @property
    def metric(self) -> LearnedMetric:
        """The temporal distance over sets of observations.

        Raises:
            FarstepError: the method has no distance.
        """
        return LearnedMetric(self.agent, self.params, self.normalization)

    @cached_property
    def _packed(self) -> Packed:
        return Packed.of(self.params)

    @cached_property
    def graph(self) -> LandmarkGraph:
        """What `plan` searches.

        Raises:
            FarstepError: the method has no distance, or there are neither landmarks nor data.
        """
        metric = self.metric
        if self.landmarks is not None:
            return LandmarkGraph.build(metric, self.landmarks)
        dataset = open_dataset(self.dataset if self.data is None else self.data)
        return prepare_graph(metric, dataset, GraphOptions())[0]

    def save(self, path: Path, *, overwrite: bool = False) -> None:
        """Write the two files of an exported policy into the directory `path`.

        Raises:
            FarstepError: `path` exists, or cannot be written.
        """
        description = {
            "format": FORMAT,
            "agent": agent_to_dict(self.agent),
            "spaces": asdict(self.spaces),
            "dataset": self.dataset,
            "environment": self.environment,
            "step": self.step,
            "source": dict(self.source),
            "planning": None
            if self.landmarks is None
            else {
                "landmarks": len(self.landmarks.observations),
                "reach": self.landmarks.reach,
                "stride": self.landmarks.stride,
                "moves": None if self.landmarks.moves is None else len(self.landmarks.moves),
                "replan_every": self.landmarks.replan_every,
            },
        }
        tensors = {f"params.{name}": leaf for name, leaf in named_leaves(self.params).items()} | {
            f"normalization.{name}": leaf for name, leaf in named_leaves(self.normalization).items()
        }
        if self.landmarks is not None:
            tensors["landmarks"] = self.landmarks.observations
            if self.landmarks.moves is not None:
                tensors["moves"] = self.landmarks.moves
        with staged_directory(path, overwrite=overwrite, owned=(DESCRIPTION, WEIGHTS)) as staging:
            (staging / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n")
            safetensors.numpy.save_file(
                {name: np.asarray(leaf) for name, leaf in tensors.items()}, staging / WEIGHTS
            )

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read an exported policy.

        Raises:
            FarstepError: there is none at `path`, or its files are damaged or do not fit.
        """
        source = path / DESCRIPTION
        try:
            description = json.loads(source.read_text())
            if description["format"] != FORMAT:
                raise FarstepError(
                    f"{source} has format {description['format']}; this version reads {FORMAT}."
                )
            agent = agent_from_dict(description["agent"], where=str(source))
            spaces = dataclass_from_dict(Spaces, description["spaces"], where=str(source))
            rest = {key: description[key] for key in ("dataset", "environment", "step", "source")}
            planning = description["planning"]
            planned = planning and (
                int(planning["landmarks"]),
                float(planning["reach"]),
                float(planning["stride"]),
                None if planning["moves"] is None else int(planning["moves"]),
                int(planning["replan_every"]),
            )
        except FileNotFoundError as error:
            raise FarstepError(f"{path} holds no exported policy: no {DESCRIPTION}.") from error
        except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
            raise FarstepError(f"{source} does not describe a policy: {error!r}.") from error
        try:
            tensors = safetensors.numpy.load_file(path / WEIGHTS)
        except (OSError, safetensors.SafetensorError) as error:
            raise FarstepError(f"Cannot read {path / WEIGHTS}: {error}.") from error

        skeleton = {
            "params": jax.eval_shape(lambda: agent.networks(spaces, root_key(0))),
            "normalization": Normalization.identity(spaces),
        }
        landmarks = None
        if planned:
            count, reach, stride, moves, replan_every = planned
            skeleton["landmarks"] = jax.ShapeDtypeStruct(
                (count, *spaces.observation.shape), spaces.observation.dtype
            )
            if moves is not None:
                skeleton["moves"] = jax.ShapeDtypeStruct((moves, 2), np.int32)
        loaded = from_named(skeleton, tensors, where=str(path / WEIGHTS))
        if planned:
            landmarks = Landmarks(
                loaded["landmarks"], reach, stride, loaded.get("moves"), replan_every
            )
        return cls(
            landmarks=landmarks,
            agent=agent,
            params=jax.device_put(loaded["params"]),
            normalization=loaded["normalization"],
            spaces=spaces,
            **rest,
        )

    def _batched_actions(self, actions: np.ndarray, rows: tuple[int, ...]) -> np.ndarray:
        """(B, A) floats, or (B,) integers if actions are discrete, for `rows` () or (B,)."""
        discrete, size = self.spaces.action.discrete, self.spaces.action.size
        actions, shape = np.asarray(actions), rows if discrete else (*rows, size)
        if actions.shape != shape:
            raise ValueError(f"actions have shape {actions.shape}; these states take {shape}")
        if discrete and not np.isin(actions, np.arange(size)).all():
            raise ValueError(f"actions must be whole numbers from 0 to {size - 1}")
        batched = actions.astype(np.int32 if discrete else np.float32)
        return batched if rows else batched[None]

    def _batched(self, array: np.ndarray, name: str) -> tuple[np.ndarray, bool]:
        shape = self.spaces.observation.shape
        array = np.asarray(array, self.spaces.observation.dtype)
        if array.shape == shape:
            return self.normalization.apply(array[None]), True
        if array.shape[1:] == shape:
            return self.normalization.apply(array), False
        raise ValueError(
            f"{name} have shape {array.shape}; this policy takes {shape} or (batch, "
            f"{', '.join(map(str, shape))})"
        )


def load_policy(path: str | Path, *, checkpoint: int | str = "last") -> Policy:
    """The policy exported to `path`, or the one of the run directory `path`.

    Args:
        checkpoint: of a run: `last`, `best` or a step. An export has only one.

    Raises:
        FarstepError: there is neither a policy nor a run at `path`.
    """
    path = Path(path)
    if (path / DESCRIPTION).exists():
        return Policy.load(path)
    if (path / "config.json").exists():
        # Runs are read by the training room, which an exported policy must do without.
        from farstep.serving.runs import policy_of_run

        return policy_of_run(path, checkpoint)
    raise FarstepError(
        f"{path} is neither a run (no config.json) nor an exported policy (no {DESCRIPTION})."
    )


@partial(jax.jit, static_argnums=0)
def _act(
    agent: Agent,
    params: Packed,
    observations: Array,
    goals: Array,
    seed: UInt[Array, ""],
    step: int,
    temperature: float,
) -> Array:
    key = stream_key(root_key(seed), "act", step)
    return agent.act(params.tree, observations, goals, key, temperature)


@partial(jax.jit, static_argnums=0)
def _distance(
    agent: Agent, params: Packed, observations: Array, goals: Array, actions: Array | None
) -> Array:
    return agent.distance(params.tree, observations, goals, actions).steps
