"""A trained walker in plain NumPy, for processes that import no JAX."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from farstep.collect.walkers.bodies import WalkerBody, walker_body
from farstep.core.errors import FarstepError


@dataclass(frozen=True)
class Walker:
    """Walks a body in a commanded direction, or the ball to a goal, deterministically.

    Attributes:
        body: what walks.
        layers: kernels (inputs, outputs) and biases, with GELU between them; the last gives the
            action before its tanh.
        about: how it was trained and how well it walks.
    """

    body: WalkerBody
    layers: Sequence[tuple[np.ndarray, np.ndarray]]
    about: Mapping[str, Any]

    def __call__(
        self,
        observations: Float[np.ndarray, "*rows observation"],
        commands: Float[np.ndarray, "*rows 2"],
    ) -> Float[np.ndarray, "*rows action"]:
        """Actions in (−1, 1).

        Args:
            observations: without the position.
            commands: directions of unit length, or ways from the ball to its goal in metres.
        """
        hidden = self.body.features(np, observations, commands).astype(np.float32)
        *inner, (kernel, bias) = self.layers
        for inner_kernel, inner_bias in inner:
            hidden = _gelu(hidden @ inner_kernel + inner_bias)
        return np.tanh(hidden @ kernel + bias)

    def save(self, path: Path, dtype: str = "float16") -> None:
        """Write it as one safetensors file that appears whole or not at all."""
        arrays = {
            f"{index}.{name}": np.ascontiguousarray(array, dtype)
            for index, layer in enumerate(self.layers)
            for name, array in zip(("kernel", "bias"), layer, strict=True)
        }
        about = {"body": self.body.name, "about": json.dumps(dict(self.about))}
        partial = path.with_name(f".{path.name}.partial")
        save_file(arrays, partial, about)
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> Walker:
        """The walker in the file that `save` wrote.

        Raises:
            FarstepError: no such file, or it holds no walker.
        """
        if not path.is_file():
            raise FarstepError(
                f"no walker at {path}; train one: farstep walker train ant (or humanoid, antball)"
            )
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                body = walker_body(metadata["body"])
                count = len(file.keys()) // 2
                layers = [
                    (
                        file.get_tensor(f"{index}.kernel").astype(np.float32),
                        file.get_tensor(f"{index}.bias").astype(np.float32),
                    )
                    for index in range(count)
                ]
        except (SafetensorError, KeyError, OSError) as error:
            raise FarstepError(f"{path} holds no walker: {error}") from error
        if not layers or layers[0][0].shape[0] != body.inputs:
            raise FarstepError(f"{path} holds no walker for the {body.name}: its shapes differ")
        return cls(body, layers, json.loads(metadata["about"]))


def shipped_walker(body: str) -> Path:
    """Where the package's own walker of `body` lies.

    Raises:
        FarstepError: the package has none.
    """
    path = Path(__file__).with_name(f"{walker_body(body).name}.safetensors")
    if not path.is_file():
        role = walker_body(body).role
        raise FarstepError(
            f"farstep ships no {role} of the {body}: train one (farstep walker train {body}) and "
            f"give its file by --{role}"
        )
    return path


def _gelu(x: np.ndarray) -> np.ndarray:
    """The tanh form, as `jax.nn.gelu`."""
    return 0.5 * x * (1 + np.tanh(np.float32(0.7978845608) * (x + np.float32(0.044715) * x**3)))
