"""Train a walker: rounds of simulator steps and updates, with checkpoints and exact resume."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from farstep.collect.walkers import sac
from farstep.collect.walkers.bodies import walker_body
from farstep.collect.walkers.fitness import fitness
from farstep.collect.walkers.ground import Ground
from farstep.collect.walkers.policy import Walker
from farstep.collect.walkers.sac import WalkerRecipe
from farstep.core.errors import FarstepError
from farstep.core.fields import dataclass_from_dict
from farstep.core.rng import root_key
from farstep.core.seeds import stream
from farstep.core.trees import from_named, named_leaves

CHECKPOINT = "checkpoint.safetensors"
WALKER = "walker.safetensors"
METRICS = "metrics.jsonl"

Reporter = Callable[[Mapping[str, float]], None]
"""Called with each line of the metrics log."""


def train(
    path: Path,
    recipe: WalkerRecipe,
    *,
    resume: bool = False,
    log_every: int = 5_000,
    checkpoint_seconds: float = 60.0,
    test_every: int = 50_000,
    test_steps: int = 4_000,
    reporter: Reporter | None = None,
    stop_after: int | None = None,
) -> None:
    """Train in the directory `path`, which holds `metrics.jsonl`, the last checkpoint and, after
    each test, the walker.

    A run that was cut off and resumed gives the same numbers as one that was not.

    Args:
        resume: go on from the checkpoint at `path`, by the recipe stored there.
        log_every: simulator steps between lines of the metrics log.
        checkpoint_seconds: time between checkpoints.
        test_every: simulator steps between fitness tests.
        test_steps: simulator steps of such a test, rounded down to whole episodes.
        reporter: told of every line.
        stop_after: simulator steps after which to save and return.

    Raises:
        FarstepError: `path` holds a run and `resume` is off, or there is nothing to resume.
    """
    file = path / CHECKPOINT
    if resume:
        recipe = stored_recipe(path)
    elif path.exists() and any(path.iterdir()):
        raise FarstepError(f"{path} already exists. Choose another directory, or add --resume.")
    path.mkdir(parents=True, exist_ok=True)
    run = _Run(recipe)
    if resume:
        run.restore(file)
        _rewind(path / METRICS, run.round * recipe.bodies)
    else:
        run.save(file)
    saved = time.monotonic()
    rounds = -(-recipe.steps // recipe.bodies)
    last = rounds if stop_after is None else min(rounds, -(-stop_after // recipe.bodies))
    began, begun_at = time.monotonic(), run.round
    with (path / METRICS).open("a", encoding="utf-8") as log:
        while run.round < last:
            metrics = run.advance()
            before, steps = ((run.round - n) * recipe.bodies for n in (1, 0))
            tests = steps // test_every > before // test_every or run.round == rounds
            if steps // log_every > before // log_every or tests:
                elapsed = time.monotonic() - began
                line = {"step": steps, **run.summary(metrics)}
                line["steps_per_second"] = (run.round - begun_at) * recipe.bodies / elapsed
                if tests:
                    line |= _tested(run, path / WALKER, steps, test_steps)
                log.write(json.dumps(line) + "\n")
                log.flush()
                if reporter is not None:
                    reporter(line)
            if time.monotonic() - saved > checkpoint_seconds or run.round == last:
                run.save(file)
                saved = time.monotonic()


def stored_recipe(path: Path) -> WalkerRecipe:
    """The recipe of the run at `path`.

    Raises:
        FarstepError: there is no checkpoint, or it is damaged.
    """
    file = path / CHECKPOINT
    if not file.is_file():
        raise FarstepError(f"{path} holds no checkpoint to resume from.")
    try:
        with safe_open(file, framework="numpy") as opened:
            values = json.loads((opened.metadata() or {})["recipe"])
    except (SafetensorError, KeyError) as error:
        raise FarstepError(f"{file} is damaged: {error}") from error
    return dataclass_from_dict(WalkerRecipe, values, where=str(file))


class _Run:
    """Everything that training carries from round to round."""

    def __init__(self, recipe: WalkerRecipe) -> None:
        self.recipe = recipe
        self.body = walker_body(recipe.body)
        self.grounds = [Ground(self.body.name) for _ in range(recipe.bodies)]
        self.root = root_key(recipe.seed)
        self.learner = sac.start(recipe, self.root)
        self.replay = jnp.zeros((recipe.rows, sum(sac.Step.sizes(recipe))))
        self.round = 0
        self.episodes = np.zeros(recipe.bodies, np.int64)
        self.ages = np.zeros(recipe.bodies, np.int64)
        self.observations = np.zeros((recipe.bodies, self.body.observation_size))
        self.commands = np.zeros((recipe.bodies, 2))
        # Since the last line of the metrics log: metres of progress, steps, falls.
        self.tally = np.zeros(3)
        for index in range(recipe.bodies):
            self._begin(index)

    def advance(self) -> dict[str, Any]:
        """One step of every body, and the updates that are due."""
        recipe, number = self.recipe, jnp.asarray(self.round)
        observations = self.observations.astype(np.float32)
        commands = self.commands.astype(np.float32)
        actions = np.asarray(
            sac.explore(recipe, self.learner.actor, observations, commands, self.root, number)
        )
        rows = []
        for index, ground in enumerate(self.grounds):
            following, displacement, poise, fell = ground.step(actions[index])
            command = self.commands[index].copy()
            self.ages[index] += 1
            over = fell or self.ages[index] >= self.body.episode
            rows.append(
                np.concatenate(
                    [
                        self.observations[index],
                        actions[index],
                        following,
                        displacement,
                        command,
                        [poise, not (over if recipe.terminate_at_end else fell)],
                    ]
                )
            )
            self.tally += self.body.progress(np, command, displacement), 1, fell
            self.observations[index] = following
            self.commands[index] = self.body.following(command, displacement)
            if over:
                self.episodes[index] += 1
                self.ages[index] = 0
                self._begin(index)
            elif self.ages[index] % self.body.redraw == 0:
                self._command(index)
        fresh = np.asarray(rows, np.float32)
        self.learner, self.replay, metrics = sac.advance(
            recipe, self.learner, self.replay, fresh, number, self.root
        )
        self.round += 1
        return metrics

    def summary(self, metrics: Mapping[str, Any]) -> dict[str, float]:
        """What the metrics log says, and the tally begins anew."""
        metres, steps, falls = self.tally
        self.tally[:] = 0
        return {
            **{name: float(value) for name, value in metrics.items()},
            "train/speed": metres / steps / self.body.seconds,
            "train/falls_per_1000_steps": 1000 * falls / steps,
            "updates": int(self.learner.updates),
        }

    def walker(self, about: Mapping[str, Any]) -> Walker:
        """The policy's mean as it is now."""
        layers = [
            (np.asarray(layer.kernel), np.asarray(layer.bias))
            for layer in self.learner.actor.layers
        ]
        kernel, bias = layers[-1]
        layers[-1] = kernel[:, : self.body.action_size], bias[: self.body.action_size]
        return Walker(self.body, layers, about)

    def save(self, file: Path) -> None:
        """Write everything, in place of what was there."""
        filled = min(self.round * self.recipe.bodies, self.recipe.rows)
        arrays = {f"learner.{k}": np.asarray(v) for k, v in named_leaves(self.learner).items()}
        arrays |= {f"host.{name}": getattr(self, name) for name in self._HOST}
        arrays["host.replay"] = np.asarray(self.replay[:filled])
        arrays["host.grounds"] = np.stack([ground.state for ground in self.grounds])
        partial = file.with_name(f".{file.name}.partial")
        metadata = {
            "recipe": json.dumps(dataclasses.asdict(self.recipe)),
            "round": str(self.round),
        }
        try:
            save_file(arrays, partial, metadata)
            with partial.open("rb") as written:
                os.fsync(written.fileno())
            partial.replace(file)
        except OSError as error:
            raise FarstepError(f"Could not save {file}: {error.strerror}.") from error

    def restore(self, file: Path) -> None:
        """Go back to what `save` wrote."""
        arrays = load_file(file)
        with safe_open(file, framework="numpy") as opened:
            self.round = int(opened.metadata()["round"])
        learner = {
            name.removeprefix("learner."): jnp.asarray(array)
            for name, array in arrays.items()
            if name.startswith("learner.")
        }
        self.learner = from_named(self.learner, learner, where=str(file))
        for name in self._HOST:
            getattr(self, name)[...] = arrays[f"host.{name}"]
        stored = arrays["host.replay"]
        self.replay = self.replay.at[: len(stored)].set(stored)
        for ground, state in zip(self.grounds, arrays["host.grounds"], strict=True):
            ground.restore(state)

    _HOST = ("episodes", "ages", "observations", "commands", "tally")

    def _begin(self, index: int) -> None:
        where = index, int(self.episodes[index])
        seed = int(stream(self.recipe.seed, "walker/reset", *where).integers(2**31))
        self.observations[index] = self.grounds[index].reset(seed)
        self._command(index)

    def _command(self, index: int) -> None:
        where = index, int(self.episodes[index]), int(self.ages[index])
        self.commands[index] = self.grounds[index].command(self.recipe.seed, *where)


def _tested(run: _Run, file: Path, steps: int, test_steps: int) -> dict[str, float]:
    """Test the walker as it is, and write it with the result."""
    episodes = max(1, test_steps // run.body.episode)
    found = dataclasses.asdict(fitness(run.walker({}), episodes=episodes))
    about = {"recipe": dataclasses.asdict(run.recipe), "steps": steps, "test": found}
    run.walker(about).save(file)
    return {f"test/{name}": value for name, value in found.items()}


def _rewind(log: Path, step: int) -> None:
    """Drop the lines after `step`: they will be written again."""
    if not log.is_file():
        return
    lines = log.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
    partial = log.with_name(f".{log.name}.partial")
    partial.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    partial.replace(log)
