"""What each published data set takes to make: a row of the documentation's tables for each.

    python benchmarks/families.py
    python benchmarks/families.py cube scene

One short episode of each is made in this process. Rates are of processor time, which other
programs on the machine disturb little; minutes are those of two cores. MB are those of the tables,
computed from an episode's arrays.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import time

import numpy as np

from farstep.collect.collector import FAMILIES
from farstep.core.errors import FarstepError
from farstep.envs.catalog import DATASETS, environment_of

STEPS = 600
"""Steps of the episode that is measured, after another that is not."""


def row(name: str, walker: str | None, dribbler: str | None) -> str | None:
    """The table's row of a data set; `None` of those that are not made by a recipe."""
    spec = environment_of(name)
    if spec.states is not None:
        return None
    family = FAMILIES[spec.family]
    files = {"dribbler": dribbler} if spec.ball else {}
    if spec.body == "humanoid":
        files = {"walker": walker}
    recipe = family.published(spec.name, name.split("-")[-2], **files)
    short = dataclasses.replace(recipe, steps=min(STEPS, recipe.steps))
    try:
        collector = getattr(importlib.import_module(family.module), family.collector)(
            spec.name, short
        )
    except FarstepError as error:
        return f"| {name} | {error} |"
    collector.episode(np.random.default_rng(0))
    began = time.process_time()
    episode = collector.episode(np.random.default_rng(1))
    rate = len(episode["actions"]) / (time.process_time() - began)
    steps = (recipe.episodes + recipe.validation_episodes) * recipe.steps
    size = sum(
        np.dtype(dtype).itemsize * int(np.prod(shape, dtype=int))
        for shape, dtype in collector.layout.arrays.values()
    )
    ended, succeeded = (episode.get(f"primitives{end}") for end in ("", "_succeeded"))
    told = f" {succeeded} of {ended} |" if ended is not None else ""
    return (
        f"| {name.removesuffix('-v0')} | {steps:,} | {rate:,.0f} | {steps / rate / 120:,.0f} |"
        f" {steps * size / 1e6:,.0f} |{told}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("families", nargs="*", help="first words of names; all by default")
    parser.add_argument("--walker", help="file of a humanoid's walker")
    parser.add_argument("--dribbler", help="file of a dribbler of antsoccer's ball")
    options = parser.parse_args()
    print("| data set | steps | steps/s of a core | minutes on two cores | MB |")
    for name in DATASETS:
        if not options.families or name.split("-")[0] in options.families:
            line = row(name, options.walker, options.dribbler)
            if line is not None:
                print(line, flush=True)


if __name__ == "__main__":
    main()
