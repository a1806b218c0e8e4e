"""Random changes of pixels, the same for all images of a row: its own, its goals, other states.

Crops as OGBench's agents have them: an image is extended by its border pixels and cut back to its
size at a random place, which shifts it by at most `PADDING` pixels each way (DrQ, arXiv
2004.13649). With a certain probability all images of a batch are cropped.

Views as BridgeData V2's policies have them (Walke et al. 2023, arXiv 2308.12952): a crop that is
resized, then brightness, contrast, saturation and hue, in this order and clipped after each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt8

from farstep.core.errors import FarstepError
from farstep.core.rng import PRNGKey, stream_key
from farstep.core.types import Arrays, Augmentation, BatchSpec, Spaces

Images = UInt8[Array, "batch height width channels"]
Pixels = Float[Array, "height width images 3"]

PADDING = 3
"""Pixels that an image may be shifted by."""

SCALES, RATIOS = (0.8, 1.0), (0.9, 1.1)
"""Share of an image that a view shows, and its width to its height."""

BRIGHTNESS, CONTRAST, SATURATION, HUE = 0.2, (0.8, 1.2), (0.8, 1.2), 0.1
"""Ranges: ± added to values in [0, 1]; factors; factors; ± share of the circle of hues."""


def check_augmentation(augmentation: Augmentation, spaces: Spaces) -> None:
    """Raises FarstepError if colours are to be changed of what has none."""
    images = [space for space in spaces.observation.arrays.values() if space.kind == "image"]
    if augmentation != "none" and (not images or any(space.shape[-1] % 3 for space in images)):
        raise FarstepError(
            f"--augmentation {augmentation} is for images of red, green and blue, and these"
            f" observations are {spaces.observation}."
        )


def check_crops(crops: float, spaces: Spaces) -> None:
    """Raises FarstepError if `crops` is not a probability, or not of pixels."""
    if not 0 <= crops <= 1:
        raise FarstepError(f"--crops is a probability, in [0, 1], not {crops}.")
    if crops > 0 and "image" not in spaces.observation.kinds:
        raise FarstepError(
            f"Random crops are for images, and these observations are {spaces.observation}: leave"
            " --crops at 0."
        )


def random_crops(
    spec: BatchSpec, columns: Mapping[str, Mapping[str, Arrays]], key: PRNGKey
) -> Mapping[str, Mapping[str, Arrays]]:
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

    return _map_images(lambda images: crop(images, corners), columns)


def random_views(
    spec: BatchSpec, columns: Mapping[str, Mapping[str, Arrays]], key: PRNGKey
) -> Mapping[str, Mapping[str, Arrays]]:
    """The arrays of a batch, with its images augmented as `spec` asks."""
    if spec.augmentation == "none":
        return columns
    view = View.draw(key, spec.size)
    return _map_images(view.apply, columns)


def _map_images(
    change: Callable[[Images], Images], columns: Mapping[str, Mapping[str, Arrays]]
) -> Mapping[str, Mapping[str, Arrays]]:
    """A change of the images of each row; windows of several are changed one by one."""

    def changed(rows: Array) -> Array:
        # Of what a batch holds, only images (H, W, C) have bytes on three axes or more a row.
        if rows.dtype != jnp.uint8 or rows.ndim < 4:
            return rows
        return change(rows) if rows.ndim == 4 else jax.vmap(change, 1, 1)(rows)

    return jax.tree.map(changed, columns)


def crop(images: Images, corners: Int[Array, "batch 2"]) -> Images:
    """Each image cut out of itself, extended by `PADDING` border pixels, from its corner on."""
    _, height, width, _ = images.shape
    # An index beyond the border is the border's: nothing has to be extended.
    rows = jnp.clip(corners[:, :1] + jnp.arange(height) - PADDING, 0, height - 1)
    columns = jnp.clip(corners[:, 1:] + jnp.arange(width) - PADDING, 0, width - 1)
    return jax.vmap(lambda image, row, column: image[row][:, column])(images, rows, columns)


class View(eqx.Module):
    """How the images of each row are seen.

    Attributes:
        box: top, left, height and width of what is shown, as shares of the image.
        brightness: added to values in [0, 1].
        contrast: factor of how far values lie from their channel's mean.
        saturation: factor of the saturation.
        hue: angle by which hues turn, of the whole circle.
    """

    box: Float[Array, "batch 4"]
    brightness: Float[Array, " batch"]
    contrast: Float[Array, " batch"]
    saturation: Float[Array, " batch"]
    hue: Float[Array, " batch"]

    @classmethod
    def draw(cls, key: PRNGKey, size: int) -> View:
        """One for each of `size` rows; the draws are streams apart from those that choose rows."""

        def uniform(name: str, low: float, high: float) -> Float[Array, " batch"]:
            stream = stream_key(key, f"view/{name}", 0)
            return jax.random.uniform(stream, (size,), minval=low, maxval=high)

        scale = uniform("scale", *SCALES)
        ratio = jnp.exp(uniform("ratio", math.log(RATIOS[0]), math.log(RATIOS[1])))
        height = jnp.clip(jnp.sqrt(scale / ratio), 0, 1)
        width = jnp.clip(jnp.sqrt(scale * ratio), 0, 1)
        top, left = uniform("top", 0.0, 1.0) * (1 - height), uniform("left", 0.0, 1.0) * (1 - width)
        return cls(
            jnp.stack([top, left, height, width], axis=-1),
            uniform("brightness", -BRIGHTNESS, BRIGHTNESS),
            uniform("contrast", *CONTRAST),
            uniform("saturation", *SATURATION),
            uniform("hue", -HUE, HUE),
        )

    def apply(self, images: Images) -> Images:
        """The augmented images, which may be several stacked in the channels."""
        return jax.vmap(View._apply_to_one)(self, images)

    def _apply_to_one(self, image: UInt8[Array, "h w c"]) -> UInt8[Array, "h w c"]:
        x = image.reshape(*image.shape[:2], -1, 3).astype(jnp.float32) / 255
        for change in (
            self._cropped,
            self._brighter,
            self._contrasted,
            self._saturated,
            self._hued,
        ):
            x = jnp.clip(change(x), 0, 1)
        return jnp.round(255 * x).astype(jnp.uint8).reshape(image.shape)

    def _cropped(self, x: Pixels) -> Pixels:
        top, left, height, width = self.box
        x = jnp.einsum("ij,jwnc->iwnc", _resized(x.shape[0], top, height), x)
        return jnp.einsum("ij,hjnc->hinc", _resized(x.shape[1], left, width), x)

    def _brighter(self, x: Pixels) -> Pixels:
        return x + self.brightness

    def _contrasted(self, x: Pixels) -> Pixels:
        mean = jnp.mean(x, axis=(0, 1), keepdims=True)
        return mean + self.contrast * (x - mean)

    def _saturated(self, x: Pixels) -> Pixels:
        most, least = x.max(axis=-1, keepdims=True), x.min(axis=-1, keepdims=True)
        # No saturation may pass 1, at which the least of the colours is 0.
        factor = jnp.minimum(self.saturation, most / jnp.maximum(most - least, 1e-6))
        return most - factor * (most - x)

    def _hued(self, x: Pixels) -> Pixels:
        most, least = x.max(axis=-1), x.min(axis=-1)
        chroma = most - least
        red, green, blue = jnp.moveaxis(x, -1, 0)
        sector = jnp.select(
            [most == red, most == green],
            [green - blue, 2 * chroma + blue - red],
            4 * chroma + red - green,
        ) / jnp.maximum(chroma, 1e-6)
        turned = sector + 6 * self.hue
        # How far each colour lies from the greatest one, by its angle from the hue.
        angles = (jnp.asarray([5.0, 3.0, 1.0]) + turned[..., None]) % 6
        share = jnp.clip(jnp.minimum(angles, 4 - angles), 0, 1)
        return most[..., None] - chroma[..., None] * share


def _resized(
    size: int, begin: Float[Array, ""], share: Float[Array, ""]
) -> Float[Array, "size size"]:
    """Weights of bilinear interpolation from a part of an axis to the whole of it.

    The part's first and last places go to the axis's first and last.
    """
    places = begin * (size - 1) + share * jnp.arange(size)
    return jnp.maximum(0, 1 - jnp.abs(places[:, None] - jnp.arange(size)))
