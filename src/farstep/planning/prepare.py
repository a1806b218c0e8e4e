"""From a trained agent and its data to a graph that it can be steered along."""

from __future__ import annotations

from dataclasses import dataclass

from farstep.core.errors import FarstepError
from farstep.data.table import Dataset
from farstep.planning.calibration import WIDEST, Calibration, calibrate
from farstep.planning.graph import LandmarkGraph, check_lengths
from farstep.planning.landmarks import REPLAN_EVERY, Choice, Landmarks, choose_landmarks
from farstep.planning.metric import LearnedMetric
from farstep.planning.moves import logged_moves


@dataclass(frozen=True, kw_only=True)
class GraphOptions:
    """How a graph is made from data.

    Attributes:
        landmarks: states of the training table that become nodes.
        choice: how they are chosen.
        reach: longest edge in environment steps; calibrated if not given.
        stride: longest edge that no logged episode takes; calibrated if not given.
        replan_every: steps between choices of a subgoal, which the calibrated stride must span.
        seed: of the choice of landmarks and of the held-out pairs.
    """

    landmarks: int = 2000
    choice: Choice = "farthest"
    reach: float | None = None
    stride: float | None = None
    replan_every: int = REPLAN_EVERY
    seed: int = 0

    def __post_init__(self) -> None:
        check_lengths(reach=self.reach, stride=self.stride)
        if self.replan_every < 1:
            raise FarstepError(f"replan_every must be at least 1, not {self.replan_every}")


def prepare_graph(
    metric: LearnedMetric, dataset: Dataset, options: GraphOptions
) -> tuple[LandmarkGraph, Calibration | None]:
    """The graph, and how reach and stride were chosen unless both were given.

    Held-out episodes are those of the validation table, or of the training table where the
    dataset has no other.

    Raises:
        FarstepError: an option is out of range, the data have other observations than the agent
            was trained on, or no edge is left.
    """
    there, expected = dataset.train.spaces.observation, metric.spaces.frame
    if there.row != expected.row:
        raise FarstepError(
            f"{dataset.path} has observations {there}, and the agent was trained on {expected};"
            " landmarks must come from data like its own"
        )
    observations = choose_landmarks(
        metric, dataset.train, options.landmarks, options.choice, options.seed
    )
    reach, stride, calibration = options.reach, options.stride, None
    if reach is None or stride is None:
        calibration = calibrate(
            metric,
            dataset.val or dataset.train,
            replan_every=options.replan_every,
            seed=options.seed,
        )
        reach = calibration.reach if reach is None else reach
        stride = calibration.stride if stride is None else stride
    # Where states are is known once there is a graph of all pairs.
    landmarks = Landmarks(observations, reach, stride, replan_every=options.replan_every)
    all_pairs = LandmarkGraph.build(metric, landmarks)
    # The quickest cover a stride between two choices, and the reach is so many strides.
    longest = round(WIDEST * options.replan_every)
    moves = logged_moves(all_pairs.follower, dataset.train, longest, options.seed)
    return all_pairs.along(moves), calibration
