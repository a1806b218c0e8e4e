"""How fast batches come: from device memory, cropped, and from a file, against NumPy on the host.

    python benchmarks/sampling.py --table vectors
    python benchmarks/sampling.py --table pixels
    python benchmarks/sampling.py --table file --gigabytes 4 [--cold]

Plain: NumPy draws a batch of MQE on the host, reads its rows, crops the images one by one and sends
all to the device. farstep: the sampler of the training program, many batches per dispatch; for a
file, the reader ahead of it as well. Both take turns in one process; the table has medians. The
floor is the time to copy the bytes of a batch once in device memory, at the rate measured in the
same rounds. Private memory is that of the process after all rounds, without pages of files. It
includes Python, JAX and what the plain sampler left.
"""

from __future__ import annotations

import mmap
import os
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jaxtyping import Array, Int

from farstep.agents.mqe import MQE
from farstep.core.rng import root_key, stream_key
from farstep.core.types import Actions, Batch, BatchSpec, Space, Spaces
from farstep.data.normalize import Normalization
from farstep.sampling.augment import PADDING
from farstep.sampling.batches import DeviceTable, batch_shape
from farstep.sampling.episodes import Episodes
from farstep.sampling.stream import Chunk, HostTable, Prefetcher, Reader
from measuring import LENGTH, alternate, timed
from plain import HostSampler

Sampler = Callable[[int], object]
"""Draws a number of batches, and waits for them."""

COPIED_BYTES = 1 << 26
"""What is copied to see how fast device memory is."""

ACTION = 8
IMAGES = ("states", "goals", "waypoints", "policy_goals")
"""What a plain batch holds of observations."""


@dataclass(frozen=True)
class Options:
    """What to measure.

    Attributes:
        table: `vectors` of 29 numbers in device memory, `pixels` 64 × 64 × 3 in device memory, or
            the same pixels in a `file`; pixels are cropped.
        batch_size: rows of a batch.
        episodes: of 201 steps, of a table in device memory.
        gigabytes: size of the file, which is written first.
        directory: where the file is written, and removed from.
        cold: drop the file from the page cache before each round.
        rounds: how many times to alternate.
        seconds: about how long each sampler runs in each round.
    """

    table: Literal["vectors", "pixels", "file"] = "vectors"
    batch_size: int = 256
    episodes: int = 100
    gigabytes: float = 4.0
    directory: Path = Path(tempfile.gettempdir())
    cold: bool = False
    rounds: int = 5
    seconds: float = 3.0


def main(options: Options) -> None:
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        measure(options, Path(directory) / "observations.npy")


def measure(options: Options, path: Path) -> None:
    if options.cold and options.table != "file":
        raise SystemExit("--cold is about a file: add --table file")
    agent = MQE(batch_size=options.batch_size)
    pixels = options.table != "vectors"
    spaces = (
        Spaces.from_observation(Space((64, 64, 3), "uint8", "image"), Actions(ACTION))
        if pixels
        else Spaces.from_observation(Space((29,)), Actions(ACTION))
    )
    spec = replace(agent.spec(), crops=float(pixels))
    rows = options.episodes * LENGTH
    mappings: list[np.ndarray] = []
    if options.table == "file":
        rows = int(options.gigabytes * 1e9 / (64 * 64 * 3)) // LENGTH * LENGTH
        observations = written(path, rows)
        mappings.append(observations)
    else:
        observations = random_observations(rows, spaces)
    actions = np.random.default_rng(1).uniform(-1, 1, (rows, ACTION)).astype(np.float32)
    episodes = Episodes.from_ends(np.arange(LENGTH - 1, rows, LENGTH))

    theirs = plain(HostSampler(observations, actions, LENGTH, agent), pixels)
    if options.table == "file":
        # A mapping of its own: the reader tells the kernel how it is read.
        mappings.append(np.load(path, mmap_mode="r"))
        ours = streamed(mappings[-1], actions, episodes, spec, spaces)
    else:
        table = DeviceTable(jnp.asarray(observations), jnp.asarray(actions), episodes)
        ours = resident(table, spec, spaces)

    nbytes = sum(
        leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(batch_shape(spec, spaces))
    )
    batches = {"plain": batches_in(options.seconds, theirs)}
    batches["farstep"] = batches_in(options.seconds, ours)
    works: dict[str, Callable[[], object]] = {"copy": copy()}
    for name, sampler in (("plain", theirs), ("farstep", ours)):
        if options.cold:
            works[f"before {name}"] = partial(drop_from_memory, path, mappings)
        works[name] = partial(sampler, batches[name])
    seconds = alternate(works, options.rounds)
    private = private_bytes()
    them, us = (seconds[name] / batches[name] for name in ("plain", "farstep"))
    floor = nbytes * seconds["copy"] / COPIED_BYTES
    name = options.table + (", cold" if options.cold else "")
    print("| table | plain batches/s | farstep batches/s | ratio | MB/s | of floor | private MB |")
    print("|---|---|---|---|---|---|---|")
    print(
        f"| {name}, B = {options.batch_size} | {1 / them:.1f} | {1 / us:.1f} | {them / us:.1f} "
        f"| {nbytes / us / 1e6:.0f} | {us / floor:.1f} | {private / 1e6:.0f} |"
    )


def resident(table: DeviceTable, spec: BatchSpec, spaces: Spaces) -> Sampler:
    """farstep's sampler on a table in device memory: all batches in one program."""

    @jax.jit
    def sample(table: DeviceTable, batches: Int[Array, ""]) -> Batch:
        # Carried, so that every batch is written out as it is for an update.
        return jax.lax.fori_loop(
            0,
            batches,
            lambda index, _: table.sample(spec, stream_key(root_key(0), "batch", index)),
            empty(spec, spaces),
        )

    return lambda batches: jax.block_until_ready(sample(table, jnp.asarray(batches)))


def streamed(
    observations: np.ndarray,
    actions: np.ndarray,
    episodes: Episodes,
    spec: BatchSpec,
    spaces: Spaces,
) -> Sampler:
    """farstep's reader on a file; crops on the device."""
    identity = Normalization(np.zeros(0, np.float32), np.ones(0, np.float32))
    table = HostTable(observations, actions, episodes, identity)
    reader = Reader(table, spec, root_key(0), "batch")

    @jax.jit
    def sample(
        chunk: Chunk, first: Int[Array, ""], skip: Int[Array, ""], count: Int[Array, ""]
    ) -> Batch:
        def one(index: Int[Array, ""], _: Batch) -> Batch:
            key = stream_key(root_key(0), "batch", first + index)
            return chunk.sample(spec, key, skip + index)

        return jax.lax.fori_loop(0, count, one, empty(spec, spaces))

    def sampler(batches: int) -> None:
        done = 0
        with Prefetcher(reader, range(batches)) as prefetcher:
            while done < batches:
                chunk, skip, count = prefetcher.take(batches - done)
                jax.block_until_ready(sample(chunk, *map(jnp.asarray, (done, skip, count))))
                done += count

    return sampler


def plain(draw: HostSampler, crops: bool) -> Sampler:
    """One batch after another: drawn, read and cropped by NumPy, then sent to the device."""
    rng = np.random.default_rng(2)

    def sampler(batches: int) -> None:
        for _ in range(batches):
            batch = dict(draw())
            if crops:
                corners = rng.integers(2 * PADDING + 1, size=(len(batch["states"]), 2))
                for name in IMAGES:
                    batch[name] = plain_crops(batch[name], corners)
            jax.block_until_ready(jax.device_put(batch))

    return sampler


def plain_crops(images: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """`farstep.sampling.augment.crop`, one image after another."""
    _, height, width, _ = images.shape
    border = (PADDING, PADDING)
    extended = np.pad(images, ((0, 0), border, border, (0, 0)), mode="edge")
    return np.stack(
        [
            image[top : top + height, left : left + width]
            for image, (top, left) in zip(extended, corners, strict=True)
        ]
    )


def empty(spec: BatchSpec, spaces: Spaces) -> Batch:
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), batch_shape(spec, spaces))


def random_observations(rows: int, spaces: Spaces) -> np.ndarray:
    rng, shape = np.random.default_rng(0), (rows, *spaces.observation.shape)
    if spaces.observation.dtype == "uint8":
        return rng.integers(256, size=shape, dtype=np.uint8)
    return rng.normal(size=shape).astype(np.float32)


def written(path: Path, rows: int) -> np.ndarray:
    """A file of `rows` random images, memory-mapped."""
    block = np.random.default_rng(0).integers(256, size=(LENGTH, 64, 64, 3), dtype=np.uint8)
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|u1", "fortran_order": False, "shape": (rows, 64, 64, 3)}
        )
        for _ in range(rows // LENGTH):
            file.write(block.tobytes())
        file.flush()
        os.fsync(file.fileno())
    return np.load(path, mmap_mode="r")


def drop_from_memory(path: Path, mappings: Sequence[np.ndarray]) -> None:
    """Have the next reads of a file come from the disk."""
    for array in mappings:
        assert isinstance(array.base, mmap.mmap)
        # Pages that a process has mapped are not dropped.
        array.base.madvise(mmap.MADV_DONTNEED)
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def batches_in(seconds: float, sampler: Sampler) -> int:
    """How many batches to draw so that it takes about `seconds`."""
    probe = 16
    sampler(probe)  # Compiles.
    return max(probe, round(seconds * probe / timed(partial(sampler, probe))))


def copy() -> Callable[[], object]:
    """Work of copying `COPIED_BYTES` within device memory."""
    array = jnp.zeros(COPIED_BYTES, jnp.uint8)
    copied = jax.jit(lambda x: x + jnp.uint8(1))
    return lambda: copied(array)


def private_bytes() -> int:
    """Memory of this process that no file backs (Linux)."""
    status = Path("/proc/self/status").read_text()
    found = re.search(r"RssAnon:\s+(\d+) kB", status)
    assert found is not None
    return 1024 * int(found[1])


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
