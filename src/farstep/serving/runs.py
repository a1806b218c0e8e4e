"""Policies out of run directories."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import jax

from farstep.core.errors import FarstepError
from farstep.core.rng import root_key
from farstep.core.types import Params
from farstep.serving.policy import Policy
from farstep.training.checkpoint import Checkpoints, Which
from farstep.training.program import PARAMS
from farstep.training.run import Run


def policy_of_run(path: Path, checkpoint: int | str = "last") -> Policy:
    """The policy in a checkpoint of the run directory `path`.

    Raises:
        FarstepError: no run, no such checkpoint, or a damaged one.
    """
    run = Run.open(path)
    config = run.config
    skeleton = jax.eval_shape(partial(config.agent.encoded_networks, config.spaces), root_key(0))
    with Checkpoints(path / "checkpoints") as checkpoints:
        step, trees = checkpoints.load(_which(checkpoint), {PARAMS: skeleton})
    return assemble(run, trees[PARAMS], step)


def assemble(run: Run, params: Params, step: int) -> Policy:
    """The policy that a run's networks make after `step` updates."""
    config = run.config
    return Policy(
        agent=config.agent,
        params=params,
        spaces=config.spaces,
        normalization=config.normalization,
        dataset=config.dataset.name,
        environment=config.dataset.environment,
        step=step,
        source={"digest": config.dataset.digest, "seed": config.training.seed},
        data=Path(config.dataset.path),
    )


def _which(checkpoint: int | str) -> Which:
    if checkpoint == "last" or checkpoint == "best":
        return checkpoint
    try:
        return int(checkpoint)
    except ValueError:
        raise FarstepError(
            f"A checkpoint is 'last', 'best' or a number of updates, not '{checkpoint}'."
        ) from None
