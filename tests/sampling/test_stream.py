"""Batches read from disk are the batches sampled in memory, in order, without a trace left."""

import subprocess
import sys
import threading
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from farstep.core.errors import FarstepError
from farstep.core.goals import GoalRule
from farstep.core.laws import Ahead, AnyState, Current, Geometric, Window, mixture
from farstep.core.rng import root_key, stream_key
from farstep.core.types import GOALS, BatchSpec, Sample, Space
from farstep.data.normalize import Normalization
from farstep.data.table import Table, TableWriter, spaces_of
from farstep.sampling import data_location, stream
from farstep.sampling.batches import DeviceTable, batch_shape
from farstep.sampling.data_location import DataLocation, place, table_bytes
from farstep.sampling.stream import HostTable, Prefetcher, Reader

SPECS = {
    "vectors": BatchSpec(
        7,
        {
            "goal/value": Sample(Geometric(0.99), GOALS),
            "waypoint": Sample(Geometric(0.95), cap="goal/value"),
            "chunk": Sample(Window(ahead=3), ("actions",)),
        },
    ),
    "pixels": BatchSpec(
        7,
        {
            "goal/mixed": Sample(
                mixture((0.2, Current()), (0.3, Geometric(0.99)), (0.5, AnyState())), GOALS
            ),
            "next": Sample(Ahead(1)),
            "next/frames": Sample(Window(back=2), around="next"),
            "subgoal": Sample(Ahead(5), ("observations", "goals"), cap="goal/mixed"),
        },
    ),
}


def write_table(path, pixels):
    rng = np.random.default_rng(0)
    shape, dtype = ((4, 4, 3), "uint8") if pixels else ((3,), "float32")
    with TableWriter(path, shape, dtype, 5, discrete=pixels) as writer:
        for length in (5, 2, 30, 9):
            observations = (
                rng.integers(256, size=(length, *shape), dtype=np.uint8)
                if pixels
                else rng.normal(3, 2, (length, *shape))
            )
            actions = rng.integers(5, size=length) if pixels else rng.uniform(-1, 1, (length, 5))
            writer.append(observations, actions)
    return Table.open(path)


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    return write_table(tmp_path_factory.mktemp("tables") / "vectors", pixels=False)


@pytest.fixture(scope="module")
def pixels(tmp_path_factory):
    """With discrete actions."""
    return write_table(tmp_path_factory.mktemp("tables") / "pixels", pixels=True)


def assert_equal(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for mine, theirs in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert mine.dtype == theirs.dtype
        np.testing.assert_array_equal(mine, theirs)


def reading_threads():
    return [thread for thread in threading.enumerate() if "farstep-reader" in thread.name]


@pytest.mark.parametrize(("name", "seeds"), [("vectors", 3), ("pixels", None)])
def test_what_is_read_is_what_memory_holds(name, seeds, request):
    table, spec = request.getfixturevalue(name), SPECS[name]
    normalization = Normalization.from_table(table)
    resident = DeviceTable.from_table(table, normalization)
    roots = root_key(1) if seeds is None else jax.vmap(root_key)(jnp.arange(seeds))
    chunk = Reader(HostTable.from_table(table, normalization), spec, roots, "batch").read(10, 4)
    sample = jax.jit(lambda key: resident.sample(spec, key))
    for seed in range(seeds or 1):
        one, root = chunk, roots
        if seeds is not None:
            one, root = jax.tree.map(lambda leaf, seed=seed: leaf[seed], chunk), roots[seed]
        for index in range(4):
            key = stream_key(root, "batch", 10 + index)
            assert_equal(one.sample(spec, key, jnp.asarray(index)), sample(key))


def test_updates_come_in_order_however_they_are_taken(vectors, monkeypatch):
    monkeypatch.setattr(stream, "CHUNK_UPDATES", 4)
    spec = BatchSpec(7)
    reader = Reader(
        HostTable.from_table(vectors, Normalization.from_table(vectors)), spec, root_key(0), "batch"
    )
    whole = reader.read(3, 11)
    position = 0
    with Prefetcher(reader, range(3, 14)) as prefetcher:
        for most in (1, 2, 9, 1, 4, 1):
            chunk, skip, count = prefetcher.take(most)
            assert 1 <= count <= most
            for index in range(count):
                mine = chunk.sample(spec, root_key(0), jnp.asarray(skip + index))
                assert_equal(mine, whole.sample(spec, root_key(0), jnp.asarray(position)))
                position += 1
    assert position == 1 + 2 + 1 + 1 + 3 + 1
    assert not reading_threads()


def test_chunks_hold_no_more_than_their_share_of_memory(vectors):
    host = HostTable.from_table(vectors, Normalization.from_table(vectors))
    image = np.lib.stride_tricks.as_strided(
        np.zeros(1, np.uint8), (vectors.num_steps, 64, 64, 3), (0, 0, 0, 0)
    )
    rows = BatchSpec(256, {"goal/policy": Sample(Geometric(0.99), GOALS)})
    pixels = Reader(replace(host, observations=image), rows, root_key(0), "batch")
    assert pixels.chunk_updates == stream.CHUNK_BYTES // (2 * 256 * 64 * 64 * 3)
    seeds = Reader(
        replace(host, observations=image), rows, jax.vmap(root_key)(jnp.arange(64)), "batch"
    )
    assert seeds.chunk_updates == 1
    assert Reader(host, BatchSpec(1), root_key(0), "batch").chunk_updates == stream.CHUNK_UPDATES


def test_what_fails_in_the_reading_thread_fails_in_the_caller(vectors):
    class Unplugged(Normalization):
        def apply(self, observations):
            raise OSError("the disk was unplugged")

    unplugged = Unplugged(np.zeros(0), np.ones(0))
    reader = Reader(HostTable.from_table(vectors, unplugged), BatchSpec(7), root_key(0), "batch")
    with Prefetcher(reader, range(100)) as prefetcher, pytest.raises(OSError, match="unplugged"):
        prefetcher.take(1)
    assert not reading_threads()


def test_tables_lie_in_memory_while_they_fit(vectors, monkeypatch):
    def kinds(budget, choice: DataLocation = "auto"):
        monkeypatch.setattr(data_location, "free_memory", lambda: budget / data_location.share())
        placed = place([vectors, vectors], Normalization.from_table(vectors), choice)
        return [type(table) for table in placed]

    one = table_bytes(vectors)
    assert kinds(2 * one) == [DeviceTable, DeviceTable]
    assert kinds(2 * one - 1) == [DeviceTable, HostTable]
    assert kinds(one - 1) == [HostTable, HostTable]
    assert kinds(2 * one, "stream") == [HostTable, HostTable]
    assert kinds(one - 1, "device") == [DeviceTable, DeviceTable]
    with pytest.raises(FarstepError, match="use --data-location stream"):
        kinds(0, "device")


def test_a_table_beyond_what_the_device_can_number_stays_on_disk(vectors, monkeypatch):
    monkeypatch.setattr(data_location, "DEVICE_ROWS", vectors.num_steps - 1)
    (table,) = place([vectors], Normalization.from_table(vectors), "auto")
    assert isinstance(table, HostTable)
    with pytest.raises(FarstepError, match="2³¹ steps or more"):
        place([vectors], Normalization.from_table(vectors), "device")


CHILD = """
import re, sys
import jax, numpy as np
from pathlib import Path
from farstep.core.rng import root_key
from farstep.core.laws import Geometric, UniformFuture
from farstep.core.types import GOALS, BatchSpec, Sample
from farstep.data.normalize import Normalization
from farstep.sampling.episodes import Episodes
from farstep.sampling.stream import HostTable, Prefetcher, Reader

rows = {rows}
table = HostTable(
    np.load({path!r}, mmap_mode="r"),
    np.zeros((rows, 5), np.float32),
    Episodes.from_ends(np.arange(999, rows, 1000)),
    Normalization(np.zeros(0), np.ones(0)),
)
samples = {{
    "goal/value": Sample(Geometric(0.99), GOALS),
    "goal/policy": Sample(UniformFuture(), GOALS),
    "waypoint": Sample(Geometric(0.95), cap="goal/value"),
}}
spec = BatchSpec(64, samples)
with Prefetcher(Reader(table, spec, root_key(0), "batch"), range(200)) as prefetcher:
    taken = 0
    while taken < 200:
        chunk, skip, count = prefetcher.take(200 - taken)
        jax.block_until_ready(chunk)
        taken += count
status = Path("/proc/self/status").read_text()
print(*(re.search(name + r":\\s+(\\d+) kB", status)[1] for name in ("RssAnon", "VmSize")))
"""


def test_a_table_of_20_gigabytes_takes_less_than_one_of_memory(tmp_path):
    if not sys.platform.startswith("linux"):
        pytest.skip("private memory is told apart by Linux only")
    rows, path = 1_700_000, tmp_path / "observations.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|u1", "fortran_order": False, "shape": (rows, 64, 64, 3)}
        )
        size = file.tell() + rows * 64 * 64 * 3
        try:
            file.truncate(size)
        except OSError as error:
            pytest.skip(f"no sparse files here: {error}")
    if path.stat().st_blocks * 512 > 1 << 20:
        pytest.skip("no sparse files here: the file takes space on the disk")
    assert size > 20e9
    code = CHILD.format(rows=rows, path=str(path))
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    private, mapped = (1024 * int(word) for word in child.stdout.split())
    assert mapped > size
    assert private < 1e9


def test_stacked_frames_of_several_arrays_are_the_last_of_their_episode(tmp_path):
    rng, lengths = np.random.default_rng(0), (5, 2, 9)
    both = Space.several({"image": Space((4, 4, 3), "uint8", "image"), "state": Space((2,))})
    with TableWriter(tmp_path / "both", both, "", 1) as writer:
        for length in lengths:
            images = rng.integers(256, size=(length, 4, 4, 3), dtype=np.uint8)
            # A state is its number in the table and how many steps come before it.
            steps = np.arange(length, dtype=np.float32)
            states = np.stack([writer.num_steps + steps, steps], axis=1)
            writer.append({"state": states, "image": images}, rng.uniform(-1, 1, (length, 1)))
    table = Table.open(tmp_path / "both", verify=True)
    spec = BatchSpec(32, {"goal/value": Sample(AnyState(), GOALS), "next": Sample(Ahead(1))})
    scaled = Normalization.from_table(table, observations=False)
    resident = DeviceTable.from_table(table, scaled, frames=3)
    chunk = Reader(HostTable.from_table(table, scaled, frames=3), spec, root_key(1), "batch").read(
        4, 1
    )
    key = stream_key(root_key(1), "batch", 4)
    batch, streamed = jax.jit(
        lambda key: (resident.sample(spec, key), chunk.sample(spec, key, jnp.asarray(0)))
    )(key)
    assert_equal(streamed, batch)
    for sample in ("current", "next", "goal/value"):
        stacks = np.asarray(batch[sample].goals["state"]).reshape(32, 3, 2)
        rows, before = stacks[:, -1].T
        backs = np.minimum([[2.0], [1.0], [0.0]], before)
        np.testing.assert_array_equal(stacks[..., 0], (rows - backs).T)
    # A goal that is one of the arrays is a single frame of it.
    for rule in (GoalRule(), GoalRule(key="image")):
        spaces = spaces_of(table, rule, 3)
        assert spaces.goal == (spaces.observation if rule.whole else both.keys["image"])
        made = DeviceTable.from_table(table, scaled, rule, 3)
        shapes = jax.eval_shape(lambda key, made=made: made.sample(spec, key), key)
        assert jax.tree.map(jnp.shape, shapes) == jax.tree.map(jnp.shape, batch_shape(spec, spaces))
