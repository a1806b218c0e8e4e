"""Conventions of BridgeData V2: actions as reached motions, and half-open grippers."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

OPEN, CLOSED = 0.95, 0.05
"""A gripper above is open, one below closed; in between it is on its way."""


def reached_actions(
    states: Float[np.ndarray, "steps 7"], actions: Float[np.ndarray, "steps 7"]
) -> Float[np.ndarray, "steps 7"]:
    """Actions as the arm carried them out, in place of those that it was told.

    Position and rotation (radians) become the difference to the next state, rotations by the
    shorter way. The gripper becomes 1 (open) or 0 (closed); on its way it is what it becomes next.
    The last step has no next state: its action stays zero but for the gripper, and leads nowhere.
    """
    relabelled = np.zeros_like(actions)
    moved = states[1:, :6] - states[:-1, :6]
    moved[:, 3:] = (moved[:, 3:] + np.pi) % (2 * np.pi) - np.pi
    relabelled[:-1, :6] = moved
    relabelled[:, 6] = definite_grippers(actions[:, 6])
    return relabelled


def definite_grippers(grippers: Float[np.ndarray, " steps"]) -> Float[np.ndarray, " steps"]:
    """1 for open, 0 for closed, and the next definite value in between.

    Where none comes any more, the nearer of the two is taken.
    """
    definite = np.where(grippers > OPEN, 1.0, np.where(grippers < CLOSED, 0.0, np.nan))
    following = np.round(grippers[-1]) if len(grippers) else 0.0
    result = np.empty_like(grippers)
    for step in reversed(range(len(grippers))):
        if not np.isnan(definite[step]):
            following = definite[step]
        result[step] = following
    return result
