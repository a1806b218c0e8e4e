"""Encoders: networks from observations of one kind to a vector of features."""

import abc
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float


class Encoder(eqx.Module):
    """Features of a batch of arrays (B, …); a subclass sets their width.

    A subclass is made by `make(shape, key=key)` for arrays of that shape, such as (H, W, C).
    """

    features: eqx.AbstractVar[int]

    @abc.abstractmethod
    def __call__(self, observations: Any) -> Float[Array, "batch features"]:
        """Features of what was observed; images come as bytes."""


class PretrainedEncoder(Encoder):
    """An encoder whose weights come from a file before training begins."""

    @abc.abstractmethod
    def with_weights(self, weights: Mapping[str, np.ndarray], where: str) -> "PretrainedEncoder":
        """The encoder with weights by their names in the file `where`.

        Raises:
            FarstepError: one is missing or has another shape.
        """
