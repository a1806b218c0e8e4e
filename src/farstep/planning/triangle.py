"""Which distances need computing, by the triangle inequality.

A quasimetric obeys it: what is far from a point is far from all that is close to that point. Where
a method's distance is none, pairs may be passed over that are nearer than those that are left.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

ROUNDING = 1e-4
"""Share of a distance that rounding may have cost."""


def pairs_left(
    steps: Float[np.ndarray, "queries centres"],
    centre: Int[np.ndarray, " members"],
    radius: Float[np.ndarray, " members"],
    bound: Float[np.ndarray, " queries"] | float = 0.0,
) -> tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"]]:
    """Queries, in order, and members that may be within a bound of each other.

    Others are not, since steps(query, centre) ≤ steps(query, member) + steps(member, centre). What
    is not a number rules nothing out.

    Args:
        steps: from each query to each centre.
        centre: of each member.
        radius: steps from each member to its centre.
        bound: of each query; steps that depend on the member are added to its radius instead.
    """
    room = steps - (1 + ROUNDING) * np.reshape(bound, (-1, 1))
    radius = (1 + ROUNDING) * radius
    widest = np.full(steps.shape[1], -np.inf)
    np.maximum.at(widest, centre, radius)
    queries, centres = np.nonzero(~(room > widest))
    # Each of those queries with each member of its centre.
    sizes = np.bincount(centre, minlength=len(widest))
    ends, counts = np.cumsum(sizes), sizes[centres]
    place = np.arange(counts.sum()) + np.repeat(ends[centres] - np.cumsum(counts), counts)
    members = np.argsort(centre, kind="stable")[place]
    left = ~(np.repeat(room[queries, centres], counts) > radius[members])
    return np.repeat(queries, counts)[left], members[left]
