"""The start of training: update 0, or a checkpoint that all its runs have."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import jax
import numpy as np

from farstep.agents.base import Agent
from farstep.core import hosts
from farstep.core.errors import FarstepError
from farstep.core.types import Spaces
from farstep.training import program
from farstep.training.checkpoint import Checkpoints
from farstep.training.program import TrainState
from farstep.training.run import Run


def begin(
    runs: Sequence[Run], checkpoints: Sequence[Checkpoints], *, resume: bool, from_step: int | None
) -> tuple[int, TrainState, float]:
    """The step to go on from, the state there, and the seconds of updates behind it.

    What the runs hold of later steps is removed. Of several processes, the first reads.

    Args:
        runs: runs that differ in their seed alone; the state has a seed axis in their order.
        checkpoints: checkpoints of each run.
        resume: from the last checkpoint that all runs have; else from the beginning.
        from_step: resume from this checkpoint; 0 is the beginning.

    Raises:
        FarstepError: there is no such checkpoint, it is damaged, or it lies beyond the last step.
    """
    found = hosts.by_first(lambda: _begin(runs, checkpoints, resume=resume, from_step=from_step))
    if found is None:
        shapes = jax.eval_shape(lambda: program.stack(_fresh(runs, program.start)))
        found = 0, jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes), 0.0
    step, state, seconds = hosts.broadcast(found)
    return int(step), state, float(seconds)


def _begin(
    runs: Sequence[Run], checkpoints: Sequence[Checkpoints], *, resume: bool, from_step: int | None
) -> tuple[int, TrainState, float]:
    config = runs[0].config
    step = _last_common(runs, checkpoints, from_step) if resume else 0
    if step > config.training.steps:
        raise FarstepError(
            f"{runs[0].path} has done {step} updates already, more than --steps "
            f"{config.training.steps}."
        )
    seconds = 0.0
    if step:
        restored = _restore(runs, checkpoints, step)
        seconds = float(restored[0]["clock"]["seconds"])
        states = [TrainState.from_items(items) for items in restored]
    else:
        states = _fresh(runs, program.fresh)
    if resume:
        for run, saved in zip(runs, checkpoints, strict=True):
            run.proceed(step)
            saved.forget(later for later in saved.steps if later > step)
    return step, program.stack(states), seconds


def _fresh(
    runs: Sequence[Run], start: Callable[[Agent, Spaces, int], TrainState]
) -> list[TrainState]:
    return [start(run.config.agent, run.config.spaces, run.config.training.seed) for run in runs]


def items_of(state: TrainState, seconds: float) -> dict[str, Any]:
    """The parts of one seed's checkpoint, after `seconds` of updates."""
    return state.items() | {"clock": {"seconds": np.asarray(seconds, np.float32)}}


def _last_common(
    runs: Sequence[Run], checkpoints: Sequence[Checkpoints], from_step: int | None
) -> int:
    """The step to resume from, 0 if nothing was saved.

    Seeds saved together can be one checkpoint apart if the process died while saving.
    """
    common = _common(checkpoints)
    if from_step == 0 or not any(saved.steps for saved in checkpoints):
        return 0
    if from_step in common:
        return from_step
    if from_step is None and common:
        return max(common)
    there = "\n  ".join(
        f"{run.path}: {', '.join(map(str, saved.steps)) or 'none'}"
        for run, saved in zip(runs, checkpoints, strict=True)
    )
    wanted = "the same step" if from_step is None else f"step {from_step}"
    raise FarstepError(
        f"There is no checkpoint of {wanted} to go on from. There are:\n  {there}\n"
        "Continue runs that differ each by itself, with a --resume of its own."
    )


def _restore(
    runs: Sequence[Run], checkpoints: Sequence[Checkpoints], step: int
) -> list[dict[str, Any]]:
    """What each run saved at `step`.

    Raises:
        FarstepError: a checkpoint is damaged; says from which earlier step to go on.
    """
    config = runs[0].config
    skeleton = jax.eval_shape(
        lambda: items_of(program.start(config.agent, config.spaces, seed=0), seconds=0.0)
    )
    try:
        return [saved.restore(step, skeleton) for saved in checkpoints]
    except FarstepError as error:
        for other in sorted((s for s in _common(checkpoints) if s < step), reverse=True):
            if all(_is_sound(saved, other, skeleton) for saved in checkpoints):
                remedy = f"The checkpoint before it, of step {other}, is sound"
                break
        else:
            other, remedy = 0, "There is no sound one before it"
        raise FarstepError(
            f"{error}\n{remedy}: add --from-step {other} to go on from there."
        ) from error


def _common(checkpoints: Sequence[Checkpoints]) -> set[int]:
    return set[int].intersection(*(set(saved.steps) for saved in checkpoints))


def _is_sound(saved: Checkpoints, step: int, skeleton: Mapping[str, Any]) -> bool:
    with suppress(FarstepError):
        saved.restore(step, skeleton)
        return True
    return False
