"""Whether farstep is right and fast on this GPU: one table, to be sent to its developers.

    make gpu-check

Numbers are compared with the same computation on the CPU, distances with double precision there.
Exit code 0: there is a GPU, and every check passed. 1: a check failed. 2: there is no GPU, so that
only the translation of the kernels was checked.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from farstep.agents.base import Agent
from farstep.agents.mqe import MQE
from farstep.agents.registry import AGENTS
from farstep.core.errors import install_command
from farstep.core.types import Actions, Space, Spaces
from farstep.quasimetrics import pairwise_mrn, pallas
from measuring import Training, alternate, synthetic_table, temporary_mebibytes
from plain import plain_pairwise_mrn

NO_GPU = 2
"""Exit code."""

REPORT = "gpu-check.md"

SPACES = Spaces.from_observation(Space((29,)), Actions(8))


@dataclass(frozen=True)
class Options:
    """What to check.

    Attributes:
        platform: where; `cpu` prints the same table of the CPU, which needs no GPU.
        points: points of each of the two sets whose distances are measured.
        width: units of each of three hidden layers, and size of the latents.
        agents: whose updates are compared with the CPU's.
        seconds: about how long each timed form runs in a round.
        out: the file that the table is written to as well.
    """

    platform: Literal["gpu", "cpu"] = "gpu"
    points: int = 256
    width: int = 512
    agents: tuple[str, ...] = tuple(AGENTS)
    seconds: float = 1.0
    out: Path = Path(REPORT)


@dataclass(frozen=True)
class Row:
    """A line of the table; `passed` is None where a number only informs."""

    check: str
    measured: str
    bound: str = ""
    passed: bool | None = None

    @classmethod
    def at_most(cls, check: str, measured: float, bound: float) -> Row:
        return cls(check, f"{measured:.1e}", f"≤ {bound:.0e}", bool(measured <= bound))

    def __str__(self) -> str:
        verdict = {None: "", True: "passed", False: "FAILED"}[self.passed]
        return f"| {self.check} | {self.measured} | {self.bound} | {verdict} |"


def main(options: Options) -> int:
    try:
        device = jax.devices(options.platform)[0]
    except RuntimeError:
        row = translation()
        print(row)
        print(
            "\nJAX sees no GPU here, so nothing was computed on one. If this machine has an NVIDIA "
            f"GPU: {install_command('cuda')}"
        )
        return NO_GPU if row.passed else 1
    lines = [
        f"jax {jax.__version__}, {device.device_kind}, Python {sys.version.split()[0]}",
        "",
        "| check | measured | bound | verdict |",
        "|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    failed = False
    with jax.default_device(device):
        for row in checks(device, options):
            print(row, flush=True)
            lines.append(str(row))
            failed |= row.passed is False
    options.out.write_text("\n".join(lines) + "\n")
    print(
        f"\n{'A check failed. ' if failed else ''}Please send {options.out}, with the output of "
        "'farstep doctor' and of 'nvidia-smi', to farstep's developers, whatever it says."
    )
    return int(failed)


def checks(device: Any, options: Options) -> Iterator[Row]:
    yield translation()
    yield from products(options)
    yield from distances(device, options)
    yield from updates(device, options)
    yield from speeds(device, options)


def translation() -> Row:
    """Whether the kernels translate to a program for a GPU, which need not be here."""
    points = jax.ShapeDtypeStruct((40, 32), jnp.float32)
    step = jax.jit(jax.value_and_grad(lambda x, y: pairwise_mrn(x, y).sum(), (0, 1)))
    text = step.trace(points, points).lower(lowering_platforms=("cuda",)).as_text()
    kernels = text.count("triton")
    return Row("kernels in a program for CUDA", str(kernels), "≥ 4", kernels >= 4)


def products(options: Options) -> Iterator[Row]:
    """How exact a float32 product is: 1e-3 tells TF32."""
    x = np.asarray(jax.random.normal(jax.random.key(0), (options.width, options.width)))
    exact = x.astype(np.float64) @ x
    for precision, bound in (("default", None), ("highest", 1e-5)):
        error = relative(jnp.matmul(x, x, precision=precision), exact)
        name = f"float32 product, precision {precision}: error"
        yield Row(name, f"{error:.1e}") if bound is None else Row.at_most(name, error, bound)


def distances(device: Any, options: Options) -> Iterator[Row]:
    """Each form against double precision, at points apart and at points close to each other."""
    forms = {"chosen": pairwise_mrn, "portable": portable}
    if device.platform != "cpu":
        lowers = pallas.lowers(device)
        yield Row("kernels compile for this device", str(lowers), "True", lowers)
    keys = jax.random.split(jax.random.key(1), 3)
    shape = (2, options.points, options.width)
    x, apart = (jax.random.normal(key, shape) for key in keys[:2])
    for where, y in (("apart", apart), ("close", x + 1e-3 * apart)):
        weight = jax.random.normal(keys[2], (2, options.points, options.points))
        expected = in_double(both_sides(plain_pairwise_mrn), x, y, weight)
        for name, form in forms.items():
            measured = jax.jit(both_sides(form))(x, y, weight)
            for what, ours, theirs in zip(("values", "gradients"), measured, expected, strict=True):
                # What a difference of close points has lost in rounding x and y is gone.
                bound = 1e-5 if where == "apart" or what == "values" else 1e-3
                yield Row.at_most(
                    f"distances, {name} form, points {where}: error of {what}",
                    relative(ours, theirs),
                    bound,
                )


def updates(device: Any, options: Options) -> Iterator[Row]:
    """Ten updates of each agent on the device and on the CPU, products in full precision."""
    table = synthetic_table(SPACES)
    for name in options.agents:
        agent = sized(AGENTS[name], hidden=(64, 64), latent=32, batch_size=64)
        found: list[Any] = []
        for place in (device, jax.devices("cpu")[0]):
            with jax.default_device(place), jax.default_matmul_precision("highest"):
                training = Training(agent, SPACES, jax.device_put(table, place))
                state: Any = training.run(10)
                found.append(jax.device_get(state.means()))
        errors = {term: relative(found[0][term], found[1][term], 1e-3) for term in found[1]}
        worst = max(errors, key=lambda term: errors[term])
        yield Row.at_most(f"{name}: ten updates against the CPU's, {worst}", errors[worst], 1e-2)


def speeds(device: Any, options: Options) -> Iterator[Row]:
    """Times that take turns: forms of the distance, then updates by precision and by seeds."""
    shape = (2, options.points, options.width)
    x, y = (jax.random.normal(key, shape) for key in jax.random.split(jax.random.key(2)))
    weight = jnp.ones((2, options.points, options.points))
    forms = {"chosen": pairwise_mrn, "portable": portable, "plain": plain_pairwise_mrn}
    steps = {
        name: jax.jit(both_sides(form)).lower(x, y, weight).compile()
        for name, form in forms.items()
    }
    works = {
        name: lambda step=step: [step(x, y, weight) for _ in range(10)]
        for name, step in steps.items()
    }
    seconds = alternate(works, rounds=5)
    for name, step in steps.items():
        memory = temporary_mebibytes(step)
        yield Row(f"distances, {name} form", f"{100 * seconds[name]:.2f} ms, {memory:.0f} MiB")
    if device.platform != "cpu":
        ratio = seconds["portable"] / seconds["chosen"]
        yield Row("distances: portable time by kernels'", f"{ratio:.2f}", "≥ 1", ratio >= 1)

    table = synthetic_table(SPACES)
    base = MQE(hidden=(options.width,) * 3, latent=options.width, batch_size=options.points)
    for title, agent, precision, seeds in (
        ("float32", base, "default", 1),
        ("float32, precision highest", base, "highest", 1),
        ("bfloat16", replace(base, precision="bfloat16"), "default", 1),
        ("float32, 8 seeds", base, "default", 8),
    ):
        with jax.default_matmul_precision(precision):
            training = Training(agent, SPACES, table, seeds)
        count = training.updates_in(options.seconds)
        works = {title: functools.partial(training.run, count)}
        rate = count / alternate(works, rounds=3)[title]
        yield Row(
            f"mqe update, {title}",
            f"{rate:.1f}/s, {temporary_mebibytes(training.compiled):.0f} MiB",
        )


def portable(x: jax.Array, y: jax.Array) -> jax.Array:
    """`pairwise_mrn` as it is traced where the kernels do not compile."""
    with mock.patch.object(pallas, "usable", return_value=False):
        return pairwise_mrn(x, y)


def both_sides(form: Callable[[jax.Array, jax.Array], jax.Array]) -> Callable[..., Any]:
    """The distances, and the gradients of their weighted sum by either set of points."""

    def both(x: jax.Array, y: jax.Array, weight: jax.Array) -> Any:
        def loss(x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
            values = form(x, y)
            return (weight * values).sum(), values

        gradients, values = jax.grad(loss, (0, 1), has_aux=True)(x, y)
        return values, jnp.stack(gradients)

    return both


def in_double(function: Callable[..., Any], *arrays: jax.Array) -> Any:
    """What the function gives on the CPU in double precision."""
    host = [np.asarray(array, np.float64) for array in arrays]
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        return jax.device_get(jax.jit(function)(*host))


def relative(ours: Any, exact: Any, floor: float = 0.0) -> float:
    """The largest difference, by the largest exact number or `floor` if that is larger."""
    largest = max(float(np.abs(exact).max()), floor)
    return float(np.abs(np.asarray(ours, np.float64) - exact).max() / largest)


def sized(kind: type[Agent], **sizes: Any) -> Agent:
    """An agent with those of these sizes that it has."""
    known = {field.name for field in fields(kind)}
    return kind(**{name: value for name, value in sizes.items() if name in known})


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options, description=__doc__)))
