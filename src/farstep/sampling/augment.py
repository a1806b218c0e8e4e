"""Random crops of pixels, as OGBench's agents see them.

An image is extended by its border pixels and cut back to its size at a random place, which shifts
it by at most `PADDING` pixels each way (DrQ, arXiv 2004.13649). With a certain probability all
images of a batch are cropped, with one shift per row that its goals and other states share.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key, UInt8

from farstep.core.errors import FarstepError
from farstep.core.rng import stream_key
from farstep.core.types import BatchSpec, Spaces

PADDING = 3
"""Pixels that an image may be shifted by."""


def check_crops(crops: float, spaces: Spaces) -> None:
    """Raises FarstepError if `crops` is not a probability, or not of pixels."""
    if not 0 <= crops <= 1:
        raise FarstepError(f"--crops is a probability, in [0, 1], not {crops}.")
    if crops > 0 and spaces.observation.kind != "image":
        raise FarstepError(
            f"Random crops are for images, and these observations are {spaces.observation}: leave"
            " --crops at 0."
        )


def random_crops(
    spec: BatchSpec, columns: Mapping[str, Mapping[str, Array]], key: Key[Array, ""]
) -> Mapping[str, Mapping[str, Array]]:
    """What was read of a batch, its images cropped if `spec` asks for it and chance has it.

    The draws are streams of `key` apart from those that choose rows.
    """
    if spec.crops == 0:
        return columns
    chance = jax.random.uniform(stream_key(key, "crops", 0))
    corners = jax.random.randint(
        stream_key(key, "crops/corner", 0), (spec.size, 2), 0, 2 * PADDING + 1
    )
    # A crop at (PADDING, PADDING) is the image itself, which costs less than a branch on device.
    corners = jnp.where(chance < spec.crops, corners, PADDING)

    def cropped(rows: Array) -> Array:
        # Of what a batch holds, only images (H, W, C) have bytes on three axes or more a row.
        if rows.dtype != jnp.uint8 or rows.ndim < 4:
            return rows
        if rows.ndim == 4:
            return crop(rows, corners)
        return jax.vmap(lambda images: crop(images, corners), 1, 1)(rows)

    return jax.tree.map(cropped, columns)


def crop(
    images: UInt8[Array, "batch height width channels"], corners: Int[Array, "batch 2"]
) -> UInt8[Array, "batch height width channels"]:
    """Each image cut out of itself, extended by `PADDING` border pixels, from its corner on."""
    _, height, width, _ = images.shape
    # An index beyond the border is the border's: nothing has to be extended.
    rows = jnp.clip(corners[:, :1] + jnp.arange(height) - PADDING, 0, height - 1)
    columns = jnp.clip(corners[:, 1:] + jnp.arange(width) - PADDING, 0, width - 1)
    return jax.vmap(lambda image, row, column: image[row][:, column])(images, rows, columns)
