import re
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import farstep
from farstep.core.errors import FarstepError
from farstep.core.trees import named_leaves
from farstep.core.types import Actions, Space, Spaces
from farstep.networks.encoders import (
    ActionVector,
    Identity,
    encode,
    encoded_by,
    join,
    joined,
    make_encoder,
)
from farstep.networks.impala import Impala, ResidualStack

KEY = jax.random.key(0)


def test_vectors_are_joined_by_features_and_pixels_by_channels():
    for space in (Space((7,)), Space((16, 16, 3), "uint8", "image")):
        pair = joined(Spaces.from_observation(space, Actions(2)))
        assert (pair.kind, pair.shape) == (space.kind, (*space.shape[:-1], 2 * space.shape[-1]))
        values = jnp.zeros((2, *space.shape), space.dtype)
        both = join(values, values + 1)
        assert both.shape == (2, *pair.shape)
        assert both.dtype == pair.dtype
        np.testing.assert_array_equal(jnp.split(both, 2, axis=-1), [values, values + 1])


def test_vectors_pass_with_what_comes_beside_them():
    encoder = make_encoder(Space((3,)), KEY)
    assert encoder == Identity((3,))
    assert not named_leaves(encoder)
    np.testing.assert_array_equal(
        encode(encoder, jnp.ones((2, 3)), jnp.zeros((2, 1))), [[1, 1, 1, 0]] * 2
    )


@pytest.mark.parametrize("shape", [(16, 16, 3), (9, 12, 6)])
def test_pixels_become_features_of_one_size(shape):
    encoder = jax.eval_shape(lambda: make_encoder(Space(shape, "uint8", "image"), KEY))
    kernels = {name: leaf.shape for name, leaf in named_leaves(encoder).items() if "kernel" in name}
    assert [kernels[f"stacks.{i}.widen.kernel"] for i in range(3)] == [
        (3, 3, shape[2], 16),
        (3, 3, 16, 32),
        (3, 3, 32, 32),
    ]
    assert len(kernels) == 3 * 3 + 1
    pixels = jax.ShapeDtypeStruct((5, *shape), jnp.uint8)
    features = jax.eval_shape(lambda e, p: e(p), encoder, pixels)
    assert features.shape == (5, 512)
    assert features.dtype == jnp.float32


def test_a_stack_is_a_pooled_convolution_with_a_residual_block():
    """With the block's kernels at zero, only the pooled convolution remains."""
    stack = ResidualStack(1, 1, key=KEY)
    stack = jax.tree.map(jnp.zeros_like, stack)
    centre = jnp.zeros((3, 3, 1, 1)).at[1, 1].set(1.0)
    object.__setattr__(stack.widen, "kernel", centre)
    image = jnp.arange(16.0).reshape(1, 4, 4, 1)
    np.testing.assert_array_equal(stack(image)[0, :, :, 0], [[10, 11], [14, 15]])


def test_every_pixel_and_byte_counts():
    space = Space((8, 8, 1), "uint8", "image")

    @jax.jit
    def differentiated(pixels):
        return jax.value_and_grad(lambda p: make_encoder(space, KEY)(p).sum())(pixels)

    pixels = jax.random.uniform(KEY, (1, 8, 8, 1), minval=0, maxval=255)
    total, gradient = differentiated(pixels)
    assert np.all(np.isfinite(gradient))
    assert np.mean(np.asarray(gradient) != 0) > 0.9
    assert not np.allclose(total, differentiated(pixels * 0.5)[0])


def test_a_row_of_bytes_is_a_vector_if_it_is_declared_one():
    assert make_encoder(Space((5,), "uint8"), KEY) == Identity((5,))


@pytest.mark.parametrize(
    ("shape", "dtype", "kind"),
    [((4, 4), "uint8", "image"), ((4, 4), "float32", "vector"), ((4, 4, 3), "float32", "image")],
)
def test_other_shapes_are_refused(shape, dtype, kind):
    with pytest.raises(FarstepError, match=r"neither vectors|Images are of uint8"):
        Space(shape, dtype, kind)


def test_discrete_actions_are_indicators():
    np.testing.assert_array_equal(
        ActionVector(3, True)(jnp.asarray([2, 0])), [[0, 0, 1], [1, 0, 0]]
    )
    continuous = jnp.asarray([[0.1, -0.2]])
    np.testing.assert_array_equal(ActionVector(2, False)(continuous), continuous)


def test_an_encoder_of_ones_own_takes_a_class_and_a_registration():
    page = (Path(__file__).parents[2] / "docs" / "encoders.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(compile(example, "docs/encoders.md", "exec"), {"__name__": "example"})
    spaces = Spaces.from_observation(Space((3,)), Actions(2))
    for name in ("mqe", "gcbc", "hiql"):
        agent = farstep.make_agent(name, encoder=("waves",))
        networks = jax.eval_shape(partial(agent.encoded_networks, spaces), KEY)
        assert any(leaf.endswith("frequencies") for leaf in named_leaves(networks)), name
    made = make_encoder(Space((3,), encoder="waves"), KEY)
    np.testing.assert_array_equal(made(jnp.zeros((2, 3))), jnp.zeros((2, 6)))


def test_encoders_that_do_not_fit_are_refused():
    vectors, images = (
        Spaces.from_observation(space, Actions(2))
        for space in (Space((3,)), Space((8, 8, 3), "uint8", "image"))
    )
    for spaces, names, message in (
        (images, ("resnet43",), "no encoder 'resnet43'.*Did you mean 'resnet34'"),
        (vectors, ("resnet34",), r"encodes images, and these observations are vectors"),
        (images, ("resnet34", "impala"), "two of them encode images"),
    ):
        with pytest.raises(FarstepError, match=message):
            encoded_by(spaces, names)
    with pytest.raises(FarstepError, match="is no name"):
        farstep.register_encoder("My Net", "image", Impala)
    with pytest.raises(FarstepError, match="another encoder"):
        farstep.register_encoder("impala", "vector", Impala)


@pytest.mark.parametrize(("name", "shared"), [("mqe", True), ("tmd", True), ("crl", False)])
def test_phi_and_psi_share_an_image_encoder_as_each_method_publishes_it(name, shared):
    agent = farstep.make_agent(name)
    spaces = Spaces.from_observation(Space((8, 8, 3), "uint8", "image"), Actions(2))
    networks = jax.eval_shape(partial(agent.encoded_networks, spaces), KEY)
    assert (networks.critic.state_encoder is None) == shared
    # The policy's is its own everywhere.
    encoders = {leaf.split(".stacks")[0] for leaf in named_leaves(networks) if "stacks" in leaf}
    own = {"critic.encoder", "actor.encoder"}
    assert encoders == (own if shared else own | {"critic.state_encoder"})
