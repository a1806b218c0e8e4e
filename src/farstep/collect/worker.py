"""What a collecting process does, without JAX: it makes episodes and packs them."""

from __future__ import annotations

import dataclasses
import importlib
import json
from collections.abc import Callable, Generator, Mapping
from typing import Any

import numpy as np

from farstep.collect.collector import Collector, Family, Layout, Recipe
from farstep.core.seeds import stream
from farstep.envs.processes import Worker, in_order

SERVICE = "farstep.collect.worker:service"


class Packing:
    """An episode as bytes and back.

    Args:
        layout: what an episode consists of.
        steps: rows of its arrays, at most.

    Attributes:
        size: bytes of the longest episode.
    """

    def __init__(self, layout: Layout, steps: int):
        self._steps = steps
        self._arrays = {
            name: (np.dtype(dtype).newbyteorder("<"), shape)
            for name, (shape, dtype) in layout.arrays.items()
        }
        self._counts = layout.counts
        self.size = 8 * (1 + len(self._counts)) + sum(
            steps * dtype.itemsize * int(np.prod(shape, dtype=int))
            for dtype, shape in self._arrays.values()
        )

    def pack(self, episode: Mapping[str, Any]) -> bytes:
        """An episode's bytes.

        Raises:
            RuntimeError: it is not what the layout says.
        """
        rows = len(episode["observations"])
        parts = [np.array([rows, *(episode[name] for name in self._counts)], "<i8").tobytes()]
        for name, (dtype, shape) in self._arrays.items():
            array = np.asarray(episode[name])
            fits = array.shape == (rows, *shape) and rows <= self._steps
            if not fits or array.dtype.newbyteorder("<") != dtype:
                raise RuntimeError(
                    f"the collector gives {name} as {array.dtype} {array.shape}, and declares "
                    f"{dtype} {(self._steps, *shape)} at most"
                )
            parts.append(np.ascontiguousarray(array, dtype).tobytes())
        return b"".join(parts)

    def unpack(self, content: bytes) -> dict[str, Any]:
        """What `pack` packed."""
        rows, *counts = np.frombuffer(content, "<i8", 1 + len(self._counts)).tolist()
        episode: dict[str, Any] = dict(zip(self._counts, counts, strict=True))
        start = 8 * (1 + len(counts))
        for name, (dtype, shape) in self._arrays.items():
            count = rows * int(np.prod(shape, dtype=int))
            array = np.frombuffer(content, dtype, count, start)
            episode[name] = array.reshape(rows, *shape)
            start += array.nbytes
        return episode


_DESCRIBE = b""
"""The request to a worker that asks what its collector makes."""


def service(config: Mapping[str, Any]) -> Callable[[bytes], bytes]:
    """What a worker process does: from stream indices, as JSON, to a packed episode."""
    recipe = _imported(config["recipe"])(**config["values"])
    collector: Collector = _imported(config["collector"])(config["environment"], recipe)
    layout = collector.layout
    packing = Packing(layout, recipe.steps)

    def answer(request: bytes) -> bytes:
        if request == _DESCRIBE:
            return json.dumps([dataclasses.asdict(layout), dict(collector.about)]).encode()
        return packing.pack(collector.episode(stream(*json.loads(request))))

    return answer


def described(family: Family, environment: str, recipe: Recipe) -> tuple[Layout, dict[str, Any]]:
    """What the collector makes, and what else the data depend on, as a process says.

    Raises:
        FarstepError: the collector cannot work: no walker, no simulator.
    """
    with Worker(SERVICE, _config(family, environment, recipe)) as worker:
        worker.send(_DESCRIBE)
        layout, about = json.loads(worker.receive())
    arrays = {name: (tuple(shape), dtype) for name, (shape, dtype) in layout["arrays"].items()}
    return Layout(**(layout | {"arrays": arrays, "counts": tuple(layout["counts"])})), about


def packed_episodes(
    family: Family,
    environment: str,
    recipe: Recipe,
    streams: list[tuple[int, str, int]],
    processes: int,
) -> Generator[bytes]:
    """An episode for each random stream, packed, in their order."""
    config = _config(family, environment, recipe)
    requests = [json.dumps(one).encode() for one in streams]
    return in_order(SERVICE, [config] * min(processes, max(1, len(requests))), requests)


def _config(family: Family, environment: str, recipe: Recipe) -> dict[str, Any]:
    return {
        "collector": f"{family.module}:{family.collector}",
        "environment": environment,
        "recipe": f"{type(recipe).__module__}:{type(recipe).__name__}",
        "values": dataclasses.asdict(recipe),
    }


def _imported(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)
