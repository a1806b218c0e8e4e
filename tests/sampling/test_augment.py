"""Random crops: shifts by at most the padding, shared by a row's images, all or none of a batch."""

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
from farstep.sampling.augment import PADDING, check_crops, crop, random_crops
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
    check_crops(0.5, Spaces.of(Space((64, 64, 3), "uint8", "image"), Actions(5)))
    check_crops(0.0, Spaces.of(Space((29,)), Actions(8)))
    with pytest.raises(FarstepError, match=r"float32 \(29,\): leave --crops at 0"):
        check_crops(0.5, Spaces.of(Space((29,)), Actions(8)))
    with pytest.raises(FarstepError, match="probability"):
        check_crops(1.5, Spaces.of(Space((64, 64, 3), "uint8", "image"), Actions(5)))
    with pytest.raises(ValueError, match="probability"):
        replace(SPEC, crops=1.5)
