"""Random changes of images: shifts by at most the padding, and views, shared by a row's images."""

import colorsys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from farstep.core.errors import FarstepError
from farstep.core.laws import Geometric, Window
from farstep.core.rng import root_key, stream_key
from farstep.core.types import GOALS, Actions, BatchSpec, Sample, Space, Spaces
from farstep.data.normalize import Normalization
from farstep.sampling.augment import (
    PADDING,
    View,
    check_augmentation,
    check_crops,
    crop,
    random_crops,
    random_views,
)
from farstep.sampling.batches import DeviceTable
from farstep.sampling.episodes import Episodes
from farstep.sampling.stream import HostTable, Reader

KEY = root_key(5)
SPEC = BatchSpec(
    16,
    {"goal/policy": Sample(Geometric(0.99), GOALS), "frames": Sample(Window(back=2))},
    crops=1.0,
)
IMAGES = np.random.default_rng(0).integers(256, size=(16, 9, 8, 3), dtype=np.uint8)


def shifted(image, down, right):
    """The image moved up and left, its border repeated: pixel by pixel, as one would write it."""
    height, width, _ = image.shape
    rows = np.clip(np.arange(height) + down, 0, height - 1)
    columns = np.clip(np.arange(width) + right, 0, width - 1)
    return image[rows][:, columns]


def test_a_crop_is_a_shift_with_the_border_repeated():
    corners = np.stack(np.meshgrid([0, 3, 6, 1], [2, 3, 0, 6]), -1).reshape(-1, 2)
    cropped = jax.jit(crop)(jnp.asarray(IMAGES), jnp.asarray(corners))
    assert cropped.dtype == jnp.uint8
    for image, corner, result in zip(IMAGES, corners, cropped, strict=True):
        np.testing.assert_array_equal(result, shifted(image, *(corner - PADDING)))


def test_all_shifts_occur_and_a_row_shares_its_own():
    seen, images = set(), jnp.asarray(IMAGES)
    crops = jax.jit(
        lambda key: random_crops(
            SPEC, {"rows": {"observations": images}, "goal/policy": {"goals": images}}, key
        )
    )
    for step in range(20):
        batch = crops(stream_key(KEY, "batch", step))
        cropped = batch["rows"]["observations"]
        np.testing.assert_array_equal(cropped, batch["goal/policy"]["goals"])
        for image, result in zip(IMAGES, cropped, strict=True):
            shifts = [
                (down, right)
                for down in range(-PADDING, PADDING + 1)
                for right in range(-PADDING, PADDING + 1)
                if np.array_equal(shifted(image, down, right), result)
            ]
            assert len(shifts) == 1
            seen.update(shifts)
    assert len(seen) == (2 * PADDING + 1) ** 2


def test_a_batch_is_cropped_as_a_whole_with_its_probability():
    spec, columns = replace(SPEC, crops=0.3), {"rows": {"observations": jnp.asarray(IMAGES)}}
    crops = jax.jit(jax.vmap(lambda key: random_crops(spec, columns, key)["rows"]["observations"]))
    batches = crops(jax.vmap(lambda step: stream_key(KEY, "batch", step))(jnp.arange(300)))
    changed = np.any(np.asarray(batches) != IMAGES, axis=(2, 3, 4)).mean(axis=1)
    untouched = changed == 0
    assert 0.6 < untouched.mean() < 0.8
    # Of 49 shifts one is none at all.
    assert np.all(changed[~untouched] > 0.7)


def test_crops_leave_the_choice_of_rows_alone_and_are_streamed_alike():
    ends = np.array([3, 15])
    episodes, actions = Episodes.from_ends(ends), np.zeros((16, 1), np.float32)
    resident = DeviceTable(jnp.asarray(IMAGES), jnp.asarray(actions), episodes)
    plain, cropped = jax.jit(
        lambda key: [resident.sample(replace(SPEC, crops=p), key) for p in (0.0, 1.0)]
    )(stream_key(KEY, "batch", 7))
    assert np.any(plain.observations != cropped.observations)
    np.testing.assert_array_equal(plain["goal/policy"].offsets, cropped["goal/policy"].offsets)
    # The newest frame is the row's own image, cropped as it is.
    np.testing.assert_array_equal(cropped["frames"].observations[:, -1], cropped.observations)
    host = HostTable(IMAGES, actions, episodes, Normalization(np.zeros(0), np.ones(0)))
    chunk = Reader(host, SPEC, KEY, "batch").read(6, 2)
    streamed = jax.jit(lambda chunk, key: chunk.sample(SPEC, key, jnp.asarray(1)))(
        chunk, stream_key(KEY, "batch", 7)
    )
    jax.tree.map(np.testing.assert_array_equal, streamed, cropped)


def test_crops_are_refused_where_they_mean_nothing():
    check_crops(0.5, Spaces.from_observation(Space((64, 64, 3), "uint8", "image"), Actions(5)))
    check_crops(0.0, Spaces.from_observation(Space((29,)), Actions(8)))
    with pytest.raises(FarstepError, match=r"float32 \(29,\): leave --crops at 0"):
        check_crops(0.5, Spaces.from_observation(Space((29,)), Actions(8)))
    with pytest.raises(FarstepError, match="probability"):
        check_crops(1.5, Spaces.from_observation(Space((64, 64, 3), "uint8", "image"), Actions(5)))
    with pytest.raises(ValueError, match="probability"):
        replace(SPEC, crops=1.5)


def seen_by_hand(image, view, row):
    """One image through the five changes of one row's view, pixel by pixel, clipped after each."""
    box, brightness, contrast, saturation, hue = (np.asarray(x)[row] for x in jax.tree.leaves(view))
    x, (height, width, _) = image / 255.0, image.shape
    crop = np.zeros_like(x)
    for i in range(height):
        for j in range(width):
            y, z = box[0] * (height - 1) + box[2] * i, box[1] * (width - 1) + box[3] * j
            top, left = int(y), int(z)
            below, right = min(top + 1, height - 1), min(left + 1, width - 1)
            upper = (1 - z + left) * x[top, left] + (z - left) * x[top, right]
            lower = (1 - z + left) * x[below, left] + (z - left) * x[below, right]
            crop[i, j] = (1 - y + top) * upper + (y - top) * lower
    x = np.clip(crop + brightness, 0, 1)
    mean = x.mean(axis=(0, 1))
    x = np.clip(mean + contrast * (x - mean), 0, 1)
    for pixel in x.reshape(-1, 3):
        h, s, v = colorsys.rgb_to_hsv(*map(float, pixel))
        pixel[:] = colorsys.hsv_to_rgb(float(h + hue) % 1, min(s * float(saturation), 1.0), v)
    return np.round(255 * x)


def test_a_view_is_a_resized_crop_then_brightness_contrast_saturation_and_hue():
    view = View.draw(KEY, len(IMAGES))
    beside = np.concatenate([IMAGES, IMAGES[::-1]], axis=-1)
    seen = np.asarray(jax.jit(View.apply)(view, jnp.asarray(beside)))
    for row in (0, 3, 7):
        np.testing.assert_allclose(seen[row, ..., :3], seen_by_hand(IMAGES[row], view, row), atol=1)
        other = seen_by_hand(IMAGES[::-1][row], view, row)
        np.testing.assert_allclose(seen[row, ..., 3:], other, atol=1)
    boxes = np.asarray(View.draw(KEY, 4000).box)
    np.testing.assert_allclose(boxes[:, 2:].min(axis=0), np.sqrt([0.8 / 1.1, 0.8 * 0.9]), atol=0.02)
    assert (boxes[:, :2] + boxes[:, 2:] <= 1 + 1e-6).all()


def test_a_row_is_seen_alike_and_rows_apart_in_training_alone():
    spec = replace(SPEC, crops=0.0, augmentation="bridge")
    twice = jnp.asarray(np.repeat(IMAGES[:1], 16, axis=0))
    states = jnp.ones((16, 4))
    columns = {
        "rows": {"observations": {"image": twice, "state": states}},
        "goal": {"goals": twice},
    }
    seen = jax.jit(lambda key: random_views(spec, columns, key))(KEY)
    image = np.asarray(seen["rows"]["observations"]["image"])
    np.testing.assert_array_equal(image, seen["goal"]["goals"])
    assert len(np.unique(image.reshape(16, -1), axis=0)) == 16
    np.testing.assert_array_equal(seen["rows"]["observations"]["state"], states)
    assert random_views(SPEC, columns, KEY) is columns
    with pytest.raises(FarstepError, match="red, green and blue"):
        check_augmentation(
            "bridge", Spaces.from_observation(Space((8, 8, 1), "uint8", "image"), Actions(5))
        )
    with pytest.raises(FarstepError, match="red, green and blue"):
        check_augmentation("bridge", Spaces.from_observation(Space((29,)), Actions(5)))
