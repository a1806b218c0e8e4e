"""A trained policy, ready to act: no environment, no data and no training code needed.

An exported policy is a directory of two files:

    policy.json          the agent, its spaces, where it comes from, and the other file's checksum
    policy.safetensors   its networks, the normalisation of its observations, and the landmarks
                         to plan over if it was exported with them
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np
import safetensors.numpy
from jaxtyping import Array, Int, UInt
from numpy.typing import ArrayLike
from safetensors import SafetensorError

from farstep.agents.base import Agent
from farstep.agents.metric import Metric
from farstep.agents.registry import agent_from_dict, agent_to_dict
from farstep.core.errors import FarstepError
from farstep.core.fields import dataclass_from_dict
from farstep.core.files import staged_directory
from farstep.core.goals import WHOLE
from farstep.core.inputs import checked_array, checked_rows, expanded_path
from farstep.core.rng import root_key, stream_key
from farstep.core.seeds import check_seed
from farstep.core.trees import FlatTree, from_named, named_leaves
from farstep.core.types import Arrays, Params, Spaces, size_of
from farstep.data.normalize import Normalization
from farstep.data.table import open_dataset
from farstep.planning.graph import LandmarkGraph, Landmarks
from farstep.planning.metric import LearnedMetric
from farstep.planning.open_loop import OpenLoop
from farstep.planning.policy import Plan
from farstep.planning.prepare import GraphOptions, prepare_graph

FORMAT = 5
DESCRIPTION = "policy.json"
WEIGHTS = "policy.safetensors"


@dataclass(frozen=True, kw_only=True)
class Policy:
    """A policy and, where its method has one, its temporal distance.

    `act` and `distance` take one observation or a batch of them (the declared observation shape,
    with or without one leading axis), in the units of the training data; of several arrays, a dict.
    One goal serves a batch of observations, and one observation a batch of goals. Returned arrays
    are the caller's own. Of stacked frames all are given: `LastFrames(policy.spaces.frames)` keeps
    them.

    Attributes:
        agent: the method and its hyperparameters.
        params: its networks.
        spaces: shapes and types of observations and actions.
        normalization: between the data's units and what the networks see.
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
        observations: ArrayLike | Mapping[str, ArrayLike],
        goals: ArrayLike | Mapping[str, ArrayLike],
        *,
        temperature: float = 0.0,
        seed: int = 0,
        step: int = 0,
    ) -> np.ndarray:
        """Actions in the data's units, (A,) for one pair and (B, A) for a batch; or discrete ones.

        Of a policy that gives chunks, the first action of each.

        Args:
            temperature: scale of the policy's own noise; 0 acts deterministically.
            seed: root of that noise.
            step: tells one call's noise from another's.

        Raises:
            FarstepError: an array has another shape than the policy was trained on, or holds what
                is no finite number; or the temperature is negative, or the seed not in [0, 2³²).
        """
        chunks = self.chunk(observations, goals, temperature=temperature, seed=seed, step=step)
        return np.take(chunks, 0, axis=-1 if self.spaces.action.discrete else -2)

    def chunk(
        self,
        observations: ArrayLike | Mapping[str, ArrayLike],
        goals: ArrayLike | Mapping[str, ArrayLike],
        *,
        temperature: float = 0.0,
        seed: int = 0,
        step: int = 0,
    ) -> np.ndarray:
        """The actions that the policy gives at once, (h, A) or (B, h, A); or discrete ones, (h,).

        Takes what `act` takes. `OpenLoop` carries them out one after another.
        """
        if not 0 <= temperature < np.inf:
            raise FarstepError(f"temperature must be a number from 0 on, not {temperature}")
        observations, goals, single = self._pairs(observations, goals)
        root = np.uint32(check_seed(seed))
        actions = np.array(
            _act(self.agent, self._flat_params, observations, goals, root, step, temperature)
        )
        size = () if self.spaces.action.discrete else (self.spaces.action.size,)
        actions = actions.reshape(len(actions), self.action_chunk, *size)
        actions = self.normalization.unscale_actions(actions)
        return actions[0] if single else actions

    @property
    def action_chunk(self) -> int:
        """How many actions the policy gives at once."""
        return self.agent.action_chunk

    def step_by_step(self, execute: int | None = None) -> Policy | OpenLoop:
        """What acts step by step: the policy, or what carries out its chunks.

        Args:
            execute: how many actions of a chunk are carried out; all by default.

        Raises:
            FarstepError: a chunk has no so many actions.
        """
        if self.action_chunk == 1 and execute in (None, 1):
            return self
        return OpenLoop(self, execute)

    def distance(
        self,
        observations: ArrayLike | Mapping[str, ArrayLike],
        goals: ArrayLike | Mapping[str, ArrayLike],
        actions: ArrayLike | None = None,
    ) -> np.ndarray:
        """Temporal distance in environment steps, () or (B,).

        Args:
            actions: if given, the distance from (s, a), that is after committing to an action; (A,)
                or (B, A), and () or (B,) if discrete; of chunks (h, A) or (B, h, A).

        Raises:
            FarstepError: the method has no distance, or an array has another shape than the policy
                was trained on, or holds what is no finite number.
        """
        if self._flat_metric is None:
            raise FarstepError(
                f"{type(self.agent).__name__} learns a policy only: it has no distance. "
                "Train a method that has one, such as mqe."
            )
        starts, aims, single = self._pairs(observations, goals)
        if actions is not None:
            actions = self._actions(actions, size_of(starts))
        steps = np.array(_distance(self._flat_metric, starts, aims, actions))
        return steps[0] if single else steps

    def begin(
        self, slots: Int[np.ndarray, " n"], observations: np.ndarray, goals: np.ndarray
    ) -> None:
        """New episodes start: a flat policy remembers nothing that it would have to forget."""

    def end(self, slots: Int[np.ndarray, " n"]) -> None:
        """Episodes are over: a flat policy takes no trouble over any."""

    def plan(self, goal: ArrayLike) -> Plan:
        """A plan to `goal` over landmarks, for a loop of one's own: `plan.act(observation)`.

        The landmarks are those that the policy was exported with, or states of its own data; they
        are prepared at the first call and kept.

        Raises:
            FarstepError: the method has no distance, or there are neither landmarks nor data, or
                the goal has another shape than the policy was trained on.
        """
        return Plan(self.step_by_step(), self.graph, goal)

    @property
    def metric(self) -> LearnedMetric:
        """The temporal distance over sets of observations.

        Raises:
            FarstepError: the method has no distance.
        """
        return LearnedMetric(self.agent, self.params, self.normalization, self.spaces)

    @cached_property
    def _flat_params(self) -> FlatTree:
        return FlatTree.flatten(self.params)

    @cached_property
    def _flat_metric(self) -> FlatTree | None:
        metric = self.agent.metric(self.params)
        return None if metric is None else FlatTree.flatten(metric)

    @cached_property
    def graph(self) -> LandmarkGraph:
        """What `plan` searches.

        Raises:
            FarstepError: the method has no distance, or there are neither landmarks nor data.
        """
        metric = self.metric
        if self.landmarks is not None:
            return LandmarkGraph(metric, self.landmarks)
        dataset = open_dataset(self.dataset if self.data is None else self.data)
        return prepare_graph(metric, dataset, GraphOptions())

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the two files of an exported policy into the directory `path`.

        Raises:
            FarstepError: `path` exists, or cannot be written.
        """
        path = expanded_path(path)
        description = {
            "format": FORMAT,
            "agent": agent_to_dict(self.agent),
            "spaces": asdict(self.spaces),
            "dataset": self.dataset,
            "environment": self.environment,
            "step": self.step,
            "source": dict(self.source),
            "planning": None if self.landmarks is None else self.landmarks.about,
        }
        tensors = {f"params.{name}": leaf for name, leaf in named_leaves(self.params).items()} | {
            f"normalization.{name}": leaf for name, leaf in named_leaves(self.normalization).items()
        }
        if self.landmarks is not None:
            tensors |= {f"landmarks.{name}": leaf for name, leaf in self.landmarks.arrays.items()}
        with staged_directory(path, overwrite=overwrite, owned=(DESCRIPTION, WEIGHTS)) as staging:
            # Some versions of safetensors write columns as rows without a word.
            rows = {name: np.asarray(leaf, order="C") for name, leaf in tensors.items()}
            weights = safetensors.numpy.save(rows)
            (staging / WEIGHTS).write_bytes(weights)
            description["sha256"] = hashlib.sha256(weights).hexdigest()
            (staging / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n")

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
            checksum = description["sha256"]
            rest = {key: description[key] for key in ("dataset", "environment", "step", "source")}
            planning = description["planning"]
            expected = None if planning is None else Landmarks.expected(planning, spaces)
        except FileNotFoundError as error:
            raise FarstepError(f"{path} holds no exported policy: no {DESCRIPTION}.") from error
        except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
            raise FarstepError(f"{source} does not describe a policy: {error!r}.") from error
        try:
            weights = (path / WEIGHTS).read_bytes()
        except OSError as error:
            raise FarstepError(f"Cannot read {path / WEIGHTS}: {error.strerror}.") from error
        if hashlib.sha256(weights).hexdigest() != checksum:
            raise FarstepError(
                f"{path / WEIGHTS} is not what was written: its SHA-256 is not the one in "
                f"{DESCRIPTION}. Copy the policy again, or export it again."
            )
        try:
            tensors = safetensors.numpy.load(weights)
            scales = [tensors[f"normalization.{field.name}"] for field in fields(Normalization)]
        except (SafetensorError, KeyError) as error:
            raise FarstepError(
                f"{path / WEIGHTS} holds no networks of a policy: {error}."
            ) from error

        skeleton = {
            "params": jax.eval_shape(lambda: agent.encoded_networks(spaces, root_key(0))),
            "normalization": Normalization(*scales),
        }
        if planning is not None:
            skeleton["landmarks"] = expected
        loaded = from_named(skeleton, tensors, where=str(path / WEIGHTS))
        landmarks = None
        if planning is not None:
            landmarks = Landmarks.of(planning, loaded["landmarks"])
        return cls(
            landmarks=landmarks,
            agent=agent,
            params=jax.device_put(loaded["params"]),
            normalization=loaded["normalization"],
            spaces=spaces,
            **rest,
        )

    def _pairs(self, observations: Any, goals: Any) -> tuple[Any, Any, bool]:
        """(B, …) of both, as the networks see them, and whether one pair was given."""
        batches, single = [], True
        for values, space, name in (
            (observations, self.spaces.observation, "observations"),
            (goals, self.spaces.goal, "goals"),
        ):
            array = checked_rows(values, space, name, batch=True)
            single = single and array.shape == space.row.shape
            rule = self.spaces.rule if name == "goals" else WHOLE
            rows = array.reshape(-1, *space.row.shape)
            batches.append(self.normalization.apply_goals(rows, rule))
        here, there = map(size_of, batches)
        if here != there and 1 not in (here, there):
            raise FarstepError(f"{here} observations and {there} goals make no pairs")
        size = there if here == 1 else here
        observations, goals = jax.tree.map(
            lambda one: np.broadcast_to(one, (size, *one.shape[1:])), tuple(batches)
        )
        return observations, goals, single

    def _actions(self, actions: ArrayLike, count: int) -> np.ndarray:
        """(B, A) floats, of chunks (B, h·A); or (B,) integers if actions are discrete."""
        size = self.spaces.action.size
        shape, dtype = ((), "int32") if self.spaces.action.discrete else ((size,), "float32")
        if self.action_chunk > 1:
            shape = (self.action_chunk, size)
        given = checked_array(actions, shape, dtype, "actions", batch=True)
        if given.shape != shape and len(given) != count:
            raise FarstepError(f"actions have shape {given.shape}, and {count} are needed")
        if (
            self.spaces.action.discrete
            and given.size
            and not 0 <= given.min() <= given.max() < size
        ):
            wrong = given.min() if given.min() < 0 else given.max()
            raise FarstepError(f"actions are 0 to {size - 1}, and {wrong} is none of them")
        scaled = np.broadcast_to(self.normalization.scale_actions(given), (count, *shape))
        return scaled.reshape(count, -1) if self.action_chunk > 1 else scaled


def load_policy(path: str | Path, *, checkpoint: int | str = "last") -> Policy:
    """The policy exported to `path`, or the one of the run directory `path`.

    Args:
        checkpoint: of a run: `last`, `best` or a step. An export has only one.

    Raises:
        FarstepError: there is neither a policy nor a run at `path`.
    """
    path = expanded_path(path)
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
    params: FlatTree,
    observations: Arrays,
    goals: Arrays,
    seed: UInt[Array, ""],
    step: int,
    temperature: float,
) -> Array:
    key = stream_key(root_key(seed), "act", step)
    return agent.act(params.tree, observations, goals, key, temperature)


@jax.jit
def _distance(flat: FlatTree, observations: Arrays, goals: Arrays, actions: Array | None) -> Array:
    metric: Metric = flat.tree
    if actions is not None:
        return metric.after(observations, actions, goals).steps
    return metric.distance(metric.embed(observations), metric.embed_goal(goals)).steps
