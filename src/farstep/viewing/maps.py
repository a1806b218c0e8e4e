"""What the page needs to compute distances and plans by itself: states, embeddings, graphs.

A document holds, for each policy, one array of embeddings: of the states that stand for the squares
of the chart, then of some episodes, then of its landmarks. Where a network computes distances of
pairs, a table of them takes the embeddings' place.

    states   0 … places    … episodes, one after another    … landmarks of this policy
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from farstep.agents.registry import agent_name
from farstep.core.errors import FarstepError
from farstep.core.rng import stream_generator
from farstep.data.table import Dataset, open_dataset
from farstep.envs.catalog import environment as find_environment
from farstep.envs.specs import EnvironmentSpec
from farstep.planning.graph import LandmarkGraph
from farstep.planning.metric import LearnedMetric
from farstep.planning.policy import PlannedPolicy
from farstep.planning.prepare import GraphOptions, prepare_graph
from farstep.serving.policy import Policy
from farstep.viewing.arrays import encoded
from farstep.viewing.charts import Chart, Positions, coordinates

POOL = 20_000
"""Steps of the data that states for the squares are chosen from."""

POOL_BYTES = 2**24
"""Most bytes of their observations: pictures take long to embed."""

EPISODES = 6
"""Episodes of the data in a map."""

EPISODE_STATES = 60
"""Most states of each, evenly spaced."""

TABLE_STATES = 900
"""Most states where distances of all pairs are sent."""


@dataclass(frozen=True)
class MapOptions:
    """What a map shows.

    Attributes:
        environment: name of the environment; that of the first policy's data by default.
        coordinates: columns of observations to draw states at, in place of the usual.
        landmarks: states to plan over, 0 for none. A policy that was exported with some keeps them.
        most_bytes: of all embeddings.
    """

    environment: str | None = None
    coordinates: tuple[int, int] | None = None
    landmarks: int = 1000
    most_bytes: int = 12_000_000


@dataclass(frozen=True, eq=False)
class Map:
    """Policies of one kind of observation over one chart.

    Attributes:
        names: of the policies, as the user gave them.
        policies: each with a distance of its own.
        dataset: where states, landmarks and episodes come from, if it is here.
        options: what it shows.
        problems: what could not be had, a sentence each.
    """

    names: tuple[str, ...]
    policies: tuple[Policy, ...]
    dataset: Dataset | None
    options: MapOptions
    problems: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        policies: Sequence[tuple[str, Policy]],
        data: str | None,
        options: MapOptions,
        problems: Sequence[str] = (),
    ) -> Map:
        """The policies that observe what the first one does; others are named in `problems`.

        Raises:
            FarstepError: no policies, or the dataset that was asked for is not here.
        """
        first, problems, same = policies[0][1], list(problems), []
        if first.spaces.observation.keys or first.spaces.frames > 1:
            raise FarstepError(
                f"{policies[0][0]} observes {first.spaces.observation}, and states of one array and"
                " one frame can be drawn."
            )
        for name, policy in policies:
            if policy.spaces.observation != first.spaces.observation:
                problems.append(
                    f"{name} observes {policy.spaces.observation}, and {policies[0][0]} observes "
                    f"{first.spaces.observation}: look at it alone."
                )
            else:
                same.append((name, policy))
        dataset = None
        try:
            dataset = open_dataset(data or first.data or first.dataset)
        except FarstepError as error:
            if data is not None:
                raise
            problems.append(f"{error} Without the data there are no episodes and no plans.")
        if dataset is not None and dataset.train.spaces.observation != first.spaces.observation:
            raise FarstepError(
                f"{dataset.path} holds {dataset.train.spaces.observation}, and {policies[0][0]} "
                f"observes {first.spaces.observation}: give the data that it was trained on."
            )
        names, kept = zip(*same, strict=True)
        return cls(names, kept, dataset, options, tuple(problems))

    @cached_property
    def spec(self) -> EnvironmentSpec | None:
        """The environment; None where the data name none, or it is not known here.

        Raises:
            FarstepError: the one that was asked for is unknown.
        """
        asked = self.options.environment
        name = asked or self.policies[0].environment
        try:
            return None if name is None else find_environment(name)
        except FarstepError:
            if asked is not None:
                raise
            return None

    @cached_property
    def metrics(self) -> list[LearnedMetric | None]:
        """The distance of each policy; None where its method has none."""
        return [
            None
            if policy.agent.metric(policy.params) is None
            else LearnedMetric(policy.agent, policy.params, policy.normalization, policy.spaces)
            for policy in self.policies
        ]

    @cached_property
    def most_states(self) -> int:
        """How many states there may be, by the bytes that all policies' embeddings take."""
        each, most = 0, 10**6
        space = self.policies[0].spaces.observation
        example = jax.ShapeDtypeStruct((1, *space.shape), space.dtype)
        for metric in filter(None, self.metrics):
            learned = metric.flat.tree
            if learned.formula is None:
                most = TABLE_STATES
            else:
                each += 2 * jax.eval_shape(learned.embed, example).size
        return min(most, max(200, self.options.most_bytes // max(1, each)))

    @cached_property
    def chart(self) -> Chart:
        """Where states are drawn.

        Raises:
            FarstepError: there are no data to tell, or no such columns.
        """
        spec, shape = self.spec, self.policies[0].spaces.observation.shape
        chosen, most = self.options.coordinates, self.most_states * 13 // 20
        if chosen is not None and (len(shape) != 1 or max(chosen) >= shape[0] or min(chosen) < 0):
            raise FarstepError(
                f"--coordinates {chosen[0]},{chosen[1]}: observations have shape {shape}; name two "
                "of their columns, counted from 0."
            )
        position = None if spec is None or len(spec.position) != 2 else spec.position
        if chosen is None and spec is not None and spec.maze_map is not None and position:
            return Chart.of_maze(spec.maze_map, position, most)
        columns = chosen or position or ((0, 1) if shape == (2,) else None)
        if columns is None:
            positions, names = (
                self._principal(),
                ("1st component of the embedding", "2nd component"),
            )
        else:
            positions, names = (
                coordinates(columns),
                (f"column {columns[0]}", f"column {columns[1]}"),
            )
        return Chart.of_states(positions, names, positions(self._pool), most)

    @cached_property
    def places(self) -> np.ndarray:
        """Observations that stand for squares, (n, *obs)."""
        chart = self.chart
        if chart.maze is not None and self.policies[0].spaces.observation.shape == (2,):
            return chart.centres(chart.free_squares()).astype(np.float32)
        return self._pool[chart.one_each(chart.positions(self._pool))]

    @cached_property
    def episodes(self) -> list[tuple[int, np.ndarray]]:
        """Numbers of some episodes of the data, and rows of some of their states."""
        if self.dataset is None:
            return []
        table = self.dataset.val or self.dataset.train
        count = min(EPISODES, table.num_episodes)
        most = max(2, min(EPISODE_STATES, self.most_states * 3 // 20 // count))
        chosen = np.unique(np.linspace(0, table.num_episodes - 1, count).astype(int))
        return [
            (
                int(episode),
                np.unique(
                    np.linspace(
                        table.episode_starts[episode], table.episode_ends[episode], most
                    ).astype(int)
                ),
            )
            for episode in chosen
        ]

    @cached_property
    def planned(self) -> list[PlannedPolicy | str]:
        """Each policy steered by its graph, or a sentence that says why there is none."""
        return [self._planned(policy) for policy in self.policies]

    def document(self) -> dict[str, Any]:
        """All that the page computes with.

        Raises:
            FarstepError: there is nothing to draw.
        """
        points = self.chart.positions(self._states)
        maze = self.chart.maze
        return {
            "title": self._title(),
            # Pictures of states lie behind addresses of the server's: see `observation`.
            "pictures": self.places.ndim == 4,
            "problems": list(self.problems),
            "chart": self.chart.document(),
            "squares": encoded(self.chart.squares_of(points[: len(self.places)]).astype(np.int32)),
            "positions": encoded(points.astype(np.float32)),
            "episodes": [
                {"number": number, "steps": (rows - rows[0]).tolist()}
                for number, rows in self.episodes
            ],
            "tasks": []
            if maze is None
            else [[maze.ij_to_xy(start), maze.ij_to_xy(goal)] for start, goal in maze.tasks],
            "agents": [self._agent(number) for number in range(len(self.policies))],
        }

    def observation(self, agent: int, state: int) -> np.ndarray:
        """What the page calls this state of a policy's, by the numbers of the document.

        Raises:
            FarstepError: there is no such state.
        """
        if state < len(self._states):
            return self._states[state]
        landmark, planned = state - len(self._states), self.planned[agent]
        if isinstance(planned, str) or landmark >= len(planned.graph):
            raise FarstepError("There is no such state.")
        return planned.graph.landmarks.observations[landmark]

    @cached_property
    def _states(self) -> np.ndarray:
        """Those that all policies share: the places', then the episodes'."""
        if self.dataset is None:
            return self.places
        table = self.dataset.val or self.dataset.train
        rows = np.concatenate([rows for _, rows in self.episodes])
        return np.concatenate([self.places, np.asarray(table.observations[rows])])

    def _agent(self, number: int) -> dict[str, Any]:
        policy, metric, planned = self.policies[number], self.metrics[number], self.planned[number]
        document: dict[str, Any] = {
            "name": self.names[number],
            "agent": agent_name(policy.agent),
            "updates": policy.step,
            "metric": None,
            "graph": None,
            "problem": planned if isinstance(planned, str) else None,
        }
        if metric is None:
            return document
        states, embeddings = self._states, self._embeddings(metric, self._states)
        if isinstance(planned, PlannedPolicy):
            graph = planned.graph
            document["graph"] = self._graph(graph)
            states = np.concatenate([states, graph.landmarks.observations])
            landmarks = self._embeddings(metric, graph.landmarks.observations)
            embeddings = np.concatenate([embeddings, landmarks])
        formula = metric.flat.tree.formula
        goals = embeddings
        if not policy.spaces.rule.whole:
            goals = np.asarray(metric.embed_goals(policy.spaces.rule.goals(states)))
        if formula is None:
            document["metric"] = {"quasimetric": "table"}
            document["states"] = encoded(metric.steps(embeddings, goals).astype(np.float16))
            return document
        document["metric"] = {
            "quasimetric": formula.quasimetric,
            "groups": formula.groups,
            "steps": formula.steps,
            "alpha": formula.alpha,
        }
        document["states"] = encoded(_half(embeddings, self.names[number]))
        if goals is not embeddings:
            document["goals"] = encoded(_half(goals, self.names[number]))
        return document

    def _graph(self, graph: LandmarkGraph) -> dict[str, Any]:
        tails, heads = graph.landmarks.edges.T
        positions = self.chart.positions(graph.landmarks.observations)
        return {
            "positions": encoded(positions.astype(np.float32)),
            "tails": encoded(tails.astype(np.uint16)),
            "heads": encoded(heads.astype(np.uint16)),
            "costs": encoded(graph.costs.astype(np.float32)),
            "near": float(graph.landmarks.step_length),
        }

    def _planned(self, policy: Policy) -> PlannedPolicy | str:
        most = min(self.options.landmarks, self.most_states // 5, np.iinfo(np.uint16).max)
        try:
            if policy.landmarks is not None:
                return PlannedPolicy(policy, policy.graph)
            if most == 0:
                return "Plans were not asked for (--landmarks 0)."
            metric = policy.metric
            if self.dataset is None:
                return "The data that landmarks come from are not here."
            options = GraphOptions(landmarks=most)
            return PlannedPolicy(policy, prepare_graph(metric, self.dataset, options))
        except FarstepError as error:
            return str(error)

    @cached_property
    def _pool(self) -> np.ndarray:
        if self.dataset is None:
            raise FarstepError(
                f"{self.problems[-1]} Nor is there anything to draw: name the data after the runs."
            )
        table = self.dataset.train
        size = table.observations[0].nbytes
        count = min(POOL, table.num_steps, POOL_BYTES // size)
        rows = stream_generator(0, "viewer").choice(table.num_steps, count, replace=False)
        return np.asarray(table.observations[np.sort(rows)])

    def _principal(self) -> Positions:
        """The two directions in which the first policy's embeddings differ most."""
        metric = next(filter(None, self.metrics), None)
        if metric is None:
            raise FarstepError(
                "None of these policies has a distance, so there is no map of embeddings: choose "
                "two columns of the observations with --coordinates."
            )

        def flat(observations: np.ndarray) -> np.ndarray:
            embeddings = self._embeddings(metric, observations).astype(np.float64)
            return embeddings.reshape(len(embeddings), -1)

        sample = flat(self._pool[:: max(1, len(self._pool) // 2000)])
        mean = sample.mean(axis=0)
        _, _, directions = np.linalg.svd(sample - mean, full_matrices=False)
        return lambda observations: (flat(observations) - mean) @ directions[:2].T

    def _embeddings(self, metric: LearnedMetric, observations: np.ndarray) -> np.ndarray:
        """Embeddings of states as the metric's formula takes them, (n, …).

        The last ones are kept: the chart and the page need the same, and pictures take long.
        """
        kept = self._embedded.get(id(metric))
        if kept is None or kept[0] is not observations:
            kept = self._embedded[id(metric)] = observations, np.asarray(metric.embed(observations))
        return kept[1]

    @cached_property
    def _embedded(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        return {}

    def _title(self) -> str:
        if self.spec is not None:
            return self.spec.name
        return self.policies[0].dataset


def _half(embeddings: np.ndarray, name: str) -> Float[np.ndarray, "n members latent"]:
    """As float16.

    Raises:
        FarstepError: some are not finite, or too large for it.
    """
    with np.errstate(over="ignore"):
        half = embeddings.astype(np.float16)
    if not np.isfinite(half).all():
        raise FarstepError(
            f"The embeddings of {name} are not finite, or beyond 65,504: its training diverged. "
            "Look at an earlier checkpoint with --checkpoint."
        )
    return half
