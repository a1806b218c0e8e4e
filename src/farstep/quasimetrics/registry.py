"""Quasimetrics by the name that `--quasimetric` takes."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from farstep.core.registry import register, registered
from farstep.quasimetrics.iqe import iqe
from farstep.quasimetrics.mrn import mrn


class Quasimetric(eqx.Module):
    """d(x, y) of latents, with its own parameters; satisfies the triangle inequality."""

    @abc.abstractmethod
    def __call__(
        self, x: Float[Array, "*#batch latent"], y: Float[Array, "*#batch latent"]
    ) -> Float[Array, "*batch"]:
        """The distance from each `x` to its `y`; leading axes broadcast."""


class LearnedIQE(Quasimetric):
    """IQE with its learned weight of mean and maximum over groups."""

    raw_alpha: Float[Array, ""]
    groups: int = eqx.field(static=True)

    def __call__(
        self, x: Float[Array, "*#batch latent"], y: Float[Array, "*#batch latent"]
    ) -> Float[Array, "*batch"]:
        return iqe(x, y, self.raw_alpha, self.groups)


class UnscaledMRN(Quasimetric):
    """MRN of one group without its 1/√D, as OGBench has it."""

    def __call__(
        self, x: Float[Array, "*#batch latent"], y: Float[Array, "*#batch latent"]
    ) -> Float[Array, "*batch"]:
        return math.sqrt(x.shape[-1]) * mrn(x, y, groups=1)


MakeQuasimetric = Callable[[int, int], Quasimetric]
"""From the width of the latents and a number of groups, which it may ignore."""

QUASIMETRICS: dict[str, MakeQuasimetric] = {
    "iqe": lambda latent, groups: LearnedIQE(jnp.zeros(()), groups),
    "mrn": lambda latent, groups: UnscaledMRN(),
}


def register_quasimetric(name: str, make: MakeQuasimetric) -> None:
    """Let `--quasimetric` and files call a quasimetric of your own by a name.

    Args:
        name: lower-case letters, digits, `_` and `-`.
        make: `make(latent, groups)` gives a `Quasimetric`.

    Raises:
        FarstepError: the name is another quasimetric's or has other characters.
    """
    register(QUASIMETRICS, "quasimetric", name, make)


def make_quasimetric(name: str, latent: int, groups: int) -> Quasimetric:
    """The quasimetric of this name for latents of this width.

    Raises:
        FarstepError: there is none; suggests the nearest.
    """
    return registered(QUASIMETRICS, "quasimetric", name)(latent, groups)
