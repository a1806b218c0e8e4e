"""Evaluation in the environment while training."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console

from farstep.core.rng import stream_generator
from farstep.core.types import Params
from farstep.serving.runs import assemble
from farstep.training.checkpoint import SUCCESS
from farstep.training.config import RunConfig
from farstep.training.loop import Evaluator
from farstep.training.run import Run


def environment_evaluator(config: RunConfig, console: Console) -> Evaluator | None:
    """Measures success in the dataset's environment; None, said aloud, where it has none.

    Raises:
        FarstepError: the environment cannot be made here, or its spaces are not the data's.
    """
    environment = config.dataset.environment
    episodes = config.training.evaluation_episodes
    if episodes == 0:
        return None
    if environment is None:
        console.print("The data name no environment: training without evaluation.")
        return None

    # Training on data alone must work where no simulator is installed.
    from farstep.evaluation.rollout import check_environment, evaluate
    from farstep.evaluation.temperature import AtTemperature, protocol_temperature

    check_environment(environment, config.spaces)
    temperature = protocol_temperature(config.spaces)

    def evaluator(run: Run, params: Params, step: int) -> Mapping[str, float]:
        policy = assemble(run, params, step)
        # Episodes of this run and step alone. Those of `farstep eval` would be a test on which
        # the best checkpoint had been chosen.
        drawn = stream_generator(run.config.training.seed, "evaluation while training", step)
        seed = int(drawn.integers(2**31))
        result = evaluate(
            AtTemperature(policy, temperature, seed),
            environment,
            episodes_per_task=episodes,
            seed=seed,
            spaces=policy.spaces,
        )
        per_task = {f"task{task.task}/success": task.success_rate for task in result.tasks}
        return {
            SUCCESS: result.mean_success,
            "seconds": result.seconds,
            "temperature": temperature,
            "max_steps": result.protocol["max_steps"],
        } | per_task

    return evaluator
