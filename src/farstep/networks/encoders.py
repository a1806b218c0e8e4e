"""Encoders by name, and from observations and actions to the vectors that an MLP takes.

A network of several observations, such as [s; g], joins them along the last axis, which is features
for vectors and channels for pixels, and builds its encoder for the joined shape. So nothing that
uses an encoder has to know which of the two it deals with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import safetensors
import safetensors.numpy
from jaxtyping import Array, Float, Int, Real

from farstep.core.errors import FarstepError
from farstep.core.registry import register, registered
from farstep.core.rng import PRNGKey, stream_key
from farstep.core.types import Kind, Space, Spaces
from farstep.networks.encoder import Encoder, PretrainedEncoder
from farstep.networks.impala import Impala
from farstep.networks.resnet import FrozenResNet, ResNet

Observations = Real[Array, "batch *obs"] | dict[str, Real[Array, "batch ..."]]
"""(B, D) floats or (B, H, W, C) bytes, or several such arrays by name."""

Goals = Real[Array, "batch *goal"] | dict[str, Real[Array, "batch ..."]]
"""The same for goals; (B, *obs) where goals are observations."""

STATE, GOAL = "_state", "_goal"
"""Names of a state and a goal side by side. No array of data has these names."""


class Identity(Encoder):
    """Vectors are their own features."""

    features: int = eqx.field(static=True)

    def __init__(self, shape: tuple[int, ...], *, key: PRNGKey | None = None):
        (self.features,) = shape

    def __call__(self, observations: Float[Array, "*batch obs"]) -> Float[Array, "*batch obs"]:
        return observations


class Keyed(Encoder):
    """Features of several named arrays side by side, each by an encoder of its own."""

    encoders: dict[str, Encoder]
    names: tuple[str, ...] = eqx.field(static=True)

    def __init__(self, encoders: dict[str, Encoder], names: tuple[str, ...]):
        """`names` are those of the encoders in the order of their features."""
        self.encoders, self.names = encoders, names

    @property
    def features(self) -> int:
        return sum(encoder.features for encoder in self.encoders.values())

    def __call__(
        self, observations: dict[str, Real[Array, "batch ..."]]
    ) -> Float[Array, "batch features"]:
        each = [self.encoders[name](observations[name]) for name in self.names]
        return jnp.concatenate(each, axis=-1)


@dataclass(frozen=True)
class Registered:
    """A named encoder.

    Attributes:
        kind: kind of the arrays that it takes.
        make: makes it, from the shape of one array and a keyword `key`.
    """

    kind: Kind
    make: Callable[..., Encoder]


ENCODERS: dict[str, Registered] = {
    "identity": Registered("vector", Identity),
    "impala_small": Registered("image", partial(Impala, blocks=1)),
    "impala": Registered("image", Impala),
    "impala_large": Registered("image", partial(Impala, channels=(64, 128, 128), features=1024)),
    "resnet18": Registered("image", partial(ResNet, depths=(2, 2, 2, 2))),
    "resnet34": Registered("image", partial(ResNet, depths=(3, 4, 6, 3))),
    "resnet18_frozen": Registered("image", partial(FrozenResNet, depths=(2, 2, 2, 2))),
    "resnet34_frozen": Registered("image", partial(FrozenResNet, depths=(3, 4, 6, 3))),
}

DEFAULT = "identity", "impala_small"
"""One of each kind."""


def register_encoder(name: str, kind: Kind, make: Callable[..., Encoder]) -> None:
    """Let `--encoder` and files call an encoder of your own by a name.

    Args:
        name: lower-case letters, digits, `_` and `-`.
        kind: kind of the arrays that it takes, `vector` or `image`.
        make: `make(shape, key=key)` gives an `Encoder` of arrays of that shape.

    Raises:
        FarstepError: the name is another encoder's or has other characters.
    """
    register(ENCODERS, "encoder", name, Registered(kind, make))


def encoded_by(spaces: Spaces, names: Sequence[str]) -> Spaces:
    """The spaces, with these encoders of their arrays; of a kind that no name has, the default.

    Raises:
        FarstepError: no such encoder, two of a kind, or one of a kind that the spaces do not have.
    """
    chosen = {ENCODERS[name].kind: name for name in DEFAULT}
    kinds: list[str] = []
    there = spaces.observation.kinds | spaces.goal.kinds
    for name in names:
        kind = registered(ENCODERS, "encoder", name).kind
        if kind in kinds:
            raise FarstepError(f"--encoder {' '.join(names)}: two of them encode {kind}s.")
        if kind not in there and name not in DEFAULT:
            raise FarstepError(
                f"--encoder {name} encodes {kind}s, and these observations are"
                f" {spaces.observation}."
            )
        kinds.append(kind)
        chosen[kind] = name

    def encoded(space: Space) -> Space:
        return replace(space, encoder=chosen[space.kind])

    observation, goal = spaces.observation.map(encoded), spaces.goal.map(encoded)
    return replace(spaces, observation=observation, goal=goal)


def make_encoder(space: Space, key: PRNGKey) -> Encoder:
    """The encoder of a space: the one that it names, or the default of its kind."""
    if space.keys:
        made = {
            name: make_encoder(each, stream_key(key, name, 0)) for name, each in space.keys.items()
        }
        return Keyed(made, tuple(space.keys))
    name = space.encoder or next(n for n in DEFAULT if ENCODERS[n].kind == space.kind)
    return ENCODERS[name].make(space.shape, key=key)


def with_weights(networks: Any, path: str) -> Any:
    """The networks, their pretrained encoders with the weights in the safetensors file `path`.

    Args:
        path: empty where no encoder is pretrained.

    Raises:
        FarstepError: there are such encoders and no file, or the reverse; or the file cannot be
            read or holds other networks.
    """

    def pretrained(node: Any) -> bool:
        return isinstance(node, PretrainedEncoder)

    if not any(map(pretrained, jax.tree.leaves(networks, is_leaf=pretrained))):
        if path:
            raise FarstepError(
                f"--encoder-weights {path}: no encoder here takes weights. Choose one that does,"
                " such as --encoder resnet34_frozen."
            )
        return networks
    if not path:
        raise FarstepError(
            "A frozen encoder needs weights: give a safetensors file by --encoder-weights, or train"
            " one from scratch, such as --encoder resnet34."
        )
    try:
        weights = safetensors.numpy.load_file(Path(path).expanduser())
    except (OSError, safetensors.SafetensorError, TypeError) as error:
        raise FarstepError(f"--encoder-weights {path} cannot be read: {error}.") from error
    return jax.tree.map(
        lambda node: node.with_weights(weights, path) if pretrained(node) else node,
        networks,
        is_leaf=pretrained,
    )


def joined(spaces: Spaces) -> Space:
    """The space of [s; g].

    Vectors are joined with vectors, images with images of their size, and several arrays with
    several of the same names. A goal of another kind stays an array of its own, beside the state's.

    Raises:
        FarstepError: images of two sizes cannot be joined.
    """
    state, goal = spaces.observation, spaces.goal
    if state.kind != goal.kind:
        return Space.several({**(state.keys or {STATE: state}), GOAL: goal})
    if state.keys:
        return Space.several(
            {
                name: joined(replace(spaces, observation=each, goal=goal.keys[name]))
                for name, each in state.keys.items()
            }
        )
    if state.shape[:-1] != goal.shape[:-1]:
        raise FarstepError(
            f"These networks join a state and its goal, and cannot join {spaces.observation} and"
            f" {spaces.goal}."
        )
    return replace(state, shape=(*state.shape[:-1], state.shape[-1] + goal.shape[-1]))


def join(observations: Observations, goals: Goals) -> Any:
    """[s; g], of the space that `joined` gives."""
    if isinstance(observations, dict):
        if isinstance(goals, dict):
            return {name: join(each, goals[name]) for name, each in observations.items()}
        return {**observations, GOAL: goals}
    assert not isinstance(goals, dict)
    if observations.ndim != goals.ndim:
        return {STATE: observations, GOAL: goals}
    return jnp.concatenate([observations, goals], axis=-1)


def encode(
    encoder: Encoder, observations: Observations, *extras: Float[Array, "batch _"]
) -> Float[Array, "batch _"]:
    """The observations' features, then plain vectors such as actions or representations."""
    return jnp.concatenate([encoder(observations), *extras], axis=-1)


class ActionVector(eqx.Module):
    """Actions as vectors of `size`: continuous ones as they are, discrete ones as indicators."""

    size: int = eqx.field(static=True)
    discrete: bool = eqx.field(static=True)

    def __call__(
        self, actions: Float[Array, "batch actions"] | Int[Array, " batch"]
    ) -> Float[Array, "batch actions"]:
        return jax.nn.one_hot(actions, self.size) if self.discrete else actions
