"""What the benchmarks share: clocks, the rates of the machine, and a table to train on."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from farstep.agents.base import Agent
from farstep.core.rng import root_key
from farstep.core.types import Spaces
from farstep.sampling.batches import DeviceTable
from farstep.sampling.episodes import Episodes
from farstep.training import program

EPISODES, LENGTH = 1_000, 201


def timed(work: Callable[[], object]) -> float:
    """Seconds that `work` takes, to the end of what it started on the device."""
    began = time.perf_counter()
    jax.block_until_ready(work())
    return time.perf_counter() - began


def alternate(works: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The median seconds of each over rounds in which all take their turn, after one untimed."""
    samples: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name, work in works.items():
            seconds = timed(work)
            if number > 0:
                samples[name].append(seconds)
    return {name: statistics.median(taken) for name, taken in samples.items()}


def matmul_rate(rows: int, width: int) -> Callable[[], object]:
    """Work of `MATMULS` products (rows, width) × (width, width)."""
    x, y = jnp.ones((rows, width)), jnp.ones((width, width))
    products = jax.jit(lambda a, b: jax.lax.fori_loop(0, MATMULS, lambda _, c: 0.5 * (c @ b), a))
    return lambda: products(x, y)


MATMULS = 100


def matmul_flops(rows: int, width: int) -> float:
    """Floating-point operations of `matmul_rate`'s work."""
    return MATMULS * 2.0 * rows * width**2


def product_flops(function: Callable[..., object], *arguments: Any) -> float:
    """Floating-point operations of all matrix products and convolutions in `function`."""
    return _flops(jax.make_jaxpr(function)(*arguments).jaxpr)


def _flops(jaxpr: Any) -> float:
    total = 0.0
    for equation in jaxpr.eqns:
        kind, parameters = equation.primitive.name, equation.params
        if kind == "dot_general":
            (contracted, _), _ = parameters["dimension_numbers"]
            summed = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
            total += 2.0 * summed * math.prod(equation.outvars[0].aval.shape)
        elif kind == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            outputs = kernel[parameters["dimension_numbers"].rhs_spec[0]]
            pixels = math.prod(equation.outvars[0].aval.shape)
            total += 2.0 * pixels * math.prod(kernel) / outputs
        elif kind == "cond":
            total += max(_flops(branch.jaxpr) for branch in parameters["branches"])
        else:
            repeats = parameters.get("length", 1) if kind == "scan" else 1
            total += repeats * sum(_flops(inner) for inner in _inner(parameters))
    return total


def _inner(parameters: Mapping[str, Any]) -> list[Any]:
    """The programs that an equation calls."""
    found = []
    for name, value in parameters.items():
        # What a custom derivative would run is in the program already where it runs.
        if name in ("jvp_jaxpr_fun", "fwd_jaxpr_thunk", "bwd"):
            continue
        inner = getattr(value, "jaxpr", value)
        if hasattr(inner, "eqns"):
            found.append(inner)
    return found


def temporary_mebibytes(compiled: jax.stages.Compiled) -> float:
    """Memory that a compiled program asks for beside its arguments, in MiB."""
    usage = compiled.memory_analysis()
    if usage is None:
        return float("nan")
    kept = usage.output_size_in_bytes - usage.alias_size_in_bytes
    return (usage.temp_size_in_bytes + kept) / 2**20


def synthetic_table(spaces: Spaces) -> DeviceTable:
    """Random steps in 1,000 episodes of 200."""
    rng = np.random.default_rng(0)
    rows = EPISODES * LENGTH
    observations = rng.normal(size=(rows, *spaces.observation.shape)).astype(np.float32)
    actions = rng.uniform(-1, 1, (rows, spaces.action.size)).astype(np.float32)
    return DeviceTable(
        jnp.asarray(observations),
        jnp.asarray(actions),
        Episodes.from_ends(np.arange(LENGTH - 1, rows, LENGTH)),
    )


class Training:
    """farstep's own training program for an agent, to be timed.

    Attributes:
        compiled: the program.
        compile_seconds: what compiling took.
        flops: of the matrix products of one update.
    """

    def __init__(self, agent: Agent, spaces: Spaces, table: DeviceTable, seeds: int = 1):
        self._agent, self._table = agent, table
        each = [program.start(agent, spaces, seed) for seed in range(seeds)]
        self._state = program.stack(each)
        self._place = (jnp.asarray(0), jnp.stack([root_key(seed) for seed in range(seeds)]))
        arguments = (self._state, table, *self._place, jnp.asarray(1))
        began = time.perf_counter()
        self.compiled = program.advance.lower(agent, *arguments).compile()
        self.compile_seconds = time.perf_counter() - began
        batch = table.sample(agent.spec(), root_key(0))
        self.flops = product_flops(agent.update, each[0].state, batch, root_key(0))

    def run(self, updates: int) -> object:
        """Do so many updates, each call from the same start."""
        # The program takes its argument's memory over.
        start = jax.block_until_ready(jax.tree.map(jnp.copy, self._state))
        return self.compiled(start, self._table, *self._place, jnp.asarray(updates))

    def updates_in(self, seconds: float) -> int:
        """About how many updates fit into so many seconds; at least one."""
        self.run(1)
        return max(1, round(seconds / timed(lambda: self.run(3)) * 3))
