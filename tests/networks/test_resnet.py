"""Residual encoders: what torchvision's weights mean, and what they begin with."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

import farstep
from farstep.core.errors import FarstepError
from farstep.core.trees import named_leaves
from farstep.core.types import Actions, Space, Spaces
from farstep.networks.convolution import GroupNorm, pooled
from farstep.networks.encoders import ENCODERS, make_encoder, with_weights
from farstep.networks.resnet import FrozenResNet, ResNet

KEY = jax.random.key(0)
SHAPE = 11, 9, 3
RNG = np.random.default_rng(0)


def torchvision(depths):
    """Random tensors by the names, and in the layout (O, I, H, W), of torchvision's networks."""
    tensors, width = {}, 64

    def add(convolution, norm, outputs, inputs, size):
        shape = outputs, inputs, size, size
        tensors[f"{convolution}.weight"] = RNG.normal(size=shape) / np.sqrt(inputs * size**2)
        for name in ("weight", "bias", "running_mean", "running_var"):
            tensors[f"{norm}.{name}"] = RNG.uniform(0.5, 1.5, outputs)

    add("conv1", "bn1", 64, 3, 7)
    for stage, depth in enumerate(depths, start=1):
        for block in range(depth):
            at, outputs = f"layer{stage}.{block}", 32 * 2**stage
            add(f"{at}.conv1", f"{at}.bn1", outputs, width, 3)
            add(f"{at}.conv2", f"{at}.bn2", outputs, outputs, 3)
            if width != outputs:
                add(f"{at}.downsample.0", f"{at}.downsample.1", outputs, width, 1)
            width = outputs
    tensors["fc.weight"] = np.zeros((1000, 512))
    return {name: value.astype(np.float32) for name, value in tensors.items()}


def by_hand(x, tensors, convolution, norm, *, stride, padding):
    """One image (C, H, W) through torch's convolution and batch normalisation, sum by sum."""
    kernel = tensors[f"{convolution}.weight"].astype(np.float64)
    x = np.pad(x.astype(np.float64), ((0, 0), (padding, padding), (padding, padding)))
    size = kernel.shape[-1]
    rows, columns = ((side - size) // stride + 1 for side in x.shape[1:])
    y = np.zeros((len(kernel), rows, columns))
    for row in range(rows):
        for column in range(columns):
            top, left = stride * row, stride * column
            patch = x[:, top : top + size, left : left + size]
            y[:, row, column] = np.tensordot(kernel, patch, 3)
    scale, offset, mean, variance = (
        tensors[f"{norm}.{name}"][:, None, None]
        for name in ("weight", "bias", "running_mean", "running_var")
    )
    return (y - mean) / np.sqrt(variance + 1e-5) * scale + offset


@pytest.fixture(scope="module")
def weights():
    return torchvision((1, 1, 1, 1))


@pytest.fixture(scope="module")
def encoder(weights):
    return loaded(SHAPE, weights)


def loaded(shape, weights):
    made = jax.eval_shape(lambda: FrozenResNet(shape, depths=(1, 1, 1, 1), key=KEY))
    return made.with_weights(weights, "weights.safetensors")


def test_converted_layers_are_torchs_own_by_hand(encoder, weights):
    image = RNG.integers(256, size=SHAPE).astype(np.uint8)
    standard = (image / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    x = jnp.asarray(standard, jnp.float32)
    stem = np.asarray(encoder.trunk.stem(x[None]))[0]
    expected = by_hand(standard.transpose(2, 0, 1), weights, "conv1", "bn1", stride=2, padding=3)
    np.testing.assert_allclose(stem.transpose(2, 0, 1), expected, rtol=1e-4, atol=1e-4)
    # A stride of 2 with one row of zeros on either side, which 'SAME' would not give.
    wide = RNG.normal(size=(64, 6, 6)).astype(np.float32)
    block = encoder.trunk.stages[1][0]
    names = {"first": ("conv1", "bn1", 1), "shortcut": ("downsample.0", "downsample.1", 0)}
    for layer, (convolution, norm, padding) in names.items():
        y = np.asarray(getattr(block, layer)(jnp.asarray(wide.transpose(1, 2, 0)[None])))[0]
        at = f"layer2.0.{convolution}", f"layer2.0.{norm}"
        expected = by_hand(wide, weights, *at, stride=2, padding=padding)
        np.testing.assert_allclose(y.transpose(2, 0, 1), expected, rtol=1e-4, atol=1e-4)


def test_joined_images_share_the_first_convolution_and_normalisation_is_frozen(encoder, weights):
    two = loaded((*SHAPE[:2], 6), weights)
    image = jnp.asarray(RNG.integers(256, size=(1, *SHAPE)), jnp.uint8)
    once = encoder(image)
    np.testing.assert_allclose(
        two(jnp.concatenate([image, image], -1)), once, rtol=1e-3, atol=1e-3 * np.abs(once).max()
    )
    gradients = named_leaves(jax.jit(jax.grad(lambda e: e(image).sum()))(encoder))
    for name, gradient in gradients.items():
        assert np.any(gradient) == name.endswith("kernel"), name


def test_a_maximum_at_the_border_takes_nothing_from_beyond_it():
    np.testing.assert_array_equal(pooled(jnp.full((1, 3, 4, 1), -7.0)), jnp.full((1, 2, 2, 1), -7))


def test_group_norm_standardises_each_group_of_an_image():
    x = 3 + 5 * RNG.normal(size=(2, 4, 4, 8)).astype(np.float32)
    groups = np.asarray(GroupNorm(8, 2)(jnp.asarray(x))).reshape(2, 16, 2, 4)
    np.testing.assert_allclose(groups.mean(axis=(1, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(groups.std(axis=(1, 3)), 1, atol=1e-4)


@pytest.mark.parametrize("name", [name for name, one in ENCODERS.items() if one.kind == "image"])
def test_every_encoder_of_images_has_its_layers_and_its_features(name):
    space = Space((64, 64, 3), "uint8", "image", encoder=name)
    encoder = jax.eval_shape(lambda: make_encoder(space, KEY))
    kernels = sum(leaf.ndim in (2, 4) for leaf in named_leaves(encoder).values())
    # Of residual networks, those of the shortcuts besides; a linear layer instead of theirs.
    layers = {"impala_small": 10, "impala": 16, "impala_large": 16, "resnet18": 20, "resnet34": 36}
    assert kernels == layers[name.removesuffix("_frozen")]
    pixels = jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.uint8)
    features = jax.eval_shape(lambda one, images: one(images), encoder, pixels)
    assert features.shape == (2, encoder.features)
    assert encoder.features == (1024 if name == "impala_large" else 512)


def test_a_goals_representation_conditions_the_network_that_looks_at_the_state():
    """TRA's published policy: the identity at first, then each channel scaled and shifted."""
    vector = jnp.asarray(RNG.normal(size=(1, 4)), jnp.float32)
    image = jnp.asarray(RNG.integers(256, size=(1, *SHAPE)), jnp.uint8)
    plain = ResNet(SHAPE, depths=(1, 1, 1, 1), key=KEY)
    films = [partial(film, vector=vector) for film in plain.films(4, KEY)]
    once = plain(image)
    np.testing.assert_array_equal(plain(image, *films), once)
    kernel = jnp.asarray(RNG.normal(size=(4, 1024)), jnp.float32)
    last = eqx.tree_at(lambda one: one.projection.kernel, films.pop().func, kernel)
    scale, shift = jnp.split(vector @ kernel, 2, axis=-1)
    # The last block is followed by a mean over pixels, which scales and shifts alike.
    conditioned = plain(image, *films, partial(last, vector=vector))
    np.testing.assert_allclose(conditioned, once * (1 + scale) + shift, rtol=1e-3, atol=1e-3)
    tra = farstep.TRA(film=True, encoder=("resnet18",), hidden=(8,), latent=4)
    images = Space((16, 16, 3), "uint8", "image")
    networks = jax.eval_shape(
        lambda: tra.encoded_networks(Spaces.from_observation(images, Actions(2)), KEY)
    )
    assert len(networks.actor.films) == 8
    assert networks.actor.torso.layers[0].kernel.shape == (512, 8)
    with pytest.raises(FarstepError, match="FiLM conditions residual networks"):
        farstep.TRA(film=True).encoded_networks(
            Spaces.from_observation(Space((3,)), Actions(2)), KEY
        )


def test_weights_and_encoders_that_do_not_fit_are_refused(tmp_path, weights):
    spaces = Spaces.from_observation(Space((16, 16, 3), "uint8", "image"), Actions(2))
    frozen = farstep.GCBC(encoder=("resnet18_frozen",), hidden=(8,))
    networks = jax.eval_shape(lambda: frozen.encoded_networks(spaces, KEY))
    file = tmp_path / "weights.safetensors"
    for content, message in (
        (None, "cannot be read"),
        (b"PK", "cannot be read"),
        (safetensors.numpy.save(weights), r"has no 'layer1.1.conv1.weight'"),
        (safetensors.numpy.save(weights | {"layer1.0.conv1.weight": np.zeros(3)}), "has shape"),
    ):
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(FarstepError, match=message):
            with_weights(networks, str(file))
    with pytest.raises(FarstepError, match="needs weights"):
        with_weights(networks, "")
    with pytest.raises(FarstepError, match="no encoder here takes weights"):
        with_weights({}, str(file))
