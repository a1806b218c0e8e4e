"""Policies by the name that `--policy` takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Array, Float

from farstep.core.errors import FarstepError
from farstep.core.registry import register, registered
from farstep.core.rng import PRNGKey
from farstep.core.types import Arrays, Scalar, Spaces
from farstep.networks.actors import Actor, Done
from farstep.networks.flow import FlowPolicy


@runtime_checkable
class Policy(Protocol):
    """π(a | s, g) of any form, a pytree of networks; actions lie in [−1, 1]."""

    def behaviour_loss(
        self,
        observations: Arrays,
        goals: Arrays,
        actions: Array,
        key: PRNGKey,
        done: Done = None,
        /,
    ) -> Float[Array, " batch"]:
        """The loss of cloning by row; over the actions of a chunk that are `done`."""
        ...

    def climb(self, observations: Arrays, goals: Arrays, key: PRNGKey, /) -> Array:
        """Actions that a critic's gradient passes to the policy."""
        ...

    def sample(
        self, observations: Arrays, goals: Arrays, key: PRNGKey, temperature: Scalar = 1.0, /
    ) -> Array:
        """Actions by noise of this scale; at 0 the mode."""
        ...

    def mode(self, observations: Arrays, goals: Arrays, /) -> Array:
        """Actions without noise."""
        ...


@runtime_checkable
class MakePolicy(Protocol):
    """Makes a policy for spaces, with hidden layers of these widths."""

    def __call__(
        self,
        spaces: Spaces,
        hidden: Sequence[int],
        *,
        climbs: bool,
        joins: bool,
        bounded: bool,
        key: PRNGKey,
    ) -> Policy:
        """
        Args:
            climbs: whether a critic's gradient is to pass `climb`.
            joins: whether goals are joined with observations; else a goal is a vector, of what
                shape `spaces.goal` says.
            bounded: whether what it gives are actions in [−1, 1]; else vectors of any length.

        Raises:
            FarstepError: there is no such policy for these spaces.
        """
        ...


def _gaussian(spaces: Spaces, hidden: Sequence[int], *, climbs: bool, **options: Any) -> Actor:
    return Actor(spaces, hidden, **options)


def _flow(spaces: Spaces, hidden: Sequence[int], *, climbs: bool, **options: Any) -> FlowPolicy:
    if spaces.action.discrete:
        raise FarstepError(
            "A flow carries vectors, and these actions are discrete: leave --policy flow out, and "
            "the policy is a categorical."
        )
    return FlowPolicy(spaces, hidden, one_step=climbs, **options)


POLICIES: dict[str, MakePolicy] = {"gaussian": _gaussian, "flow": _flow}


def register_policy(name: str, make: MakePolicy) -> None:
    """Let `--policy` and files call a policy of your own by a name.

    Args:
        name: lower-case letters, digits, `_` and `-`.
        make: makes a `Policy`.

    Raises:
        FarstepError: the name is another policy's or has other characters.
    """
    register(POLICIES, "policy", name, make)


def make_policy(
    name: str,
    spaces: Spaces,
    hidden: Sequence[int],
    key: PRNGKey,
    *,
    climbs: bool = False,
    joins: bool = True,
    bounded: bool = True,
) -> Policy:
    """The policy of this name; the options are `MakePolicy`'s.

    Raises:
        FarstepError: there is none, or not for these spaces.
    """
    make = registered(POLICIES, "policy", name)
    return make(spaces, hidden, climbs=climbs, joins=joins, bounded=bounded, key=key)
