"""Evaluation while training: which episodes it measures, and what its log says of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import jax
import pytest

from farstep.agents.mqe import MQE
from farstep.analysis.scores import run_score
from farstep.api import environment_evaluator
from farstep.core.rng import root_key
from farstep.core.types import Actions, Space, Spaces
from farstep.data.normalize import Normalization
from farstep.evaluation.results import Episode, Evaluation
from farstep.evaluation.rollout import episode_seed
from farstep.training.config import DatasetReference, RunConfig, TrainConfig
from farstep.training.loop import Reporter
from farstep.training.run import Run

pytest.importorskip("ogbench")

SPACES = Spaces.from_observation(Space((2,)), Actions(2))
AGENT = MQE(latent=8, groups=2, hidden=(8,))


def config(environment: str, seed: int) -> RunConfig:
    return RunConfig(
        agent=AGENT,
        training=TrainConfig(steps=300, seed=seed, evaluation_episodes=1),
        dataset=DatasetReference(
            name="d", path="somewhere", digest="a" * 64, environment=environment
        ),
        spaces=SPACES,
        normalization=Normalization.identity(SPACES),
    )


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Evaluation]:
    """Every evaluation that is made, its episodes cut after two steps."""
    from farstep.evaluation import rollout

    found: list[Evaluation] = []
    evaluate = rollout.evaluate

    def short(*args, **kwargs):
        found.append(evaluate(*args, **kwargs, max_steps=2, workers=0))
        return found[-1]

    monkeypatch.setattr("farstep.api.roll_out", short)
    return found


def test_each_seed_and_each_evaluation_has_episodes_of_its_own(
    tmp_path: Path, measured: list[Evaluation]
) -> None:
    """None of them is an episode that `farstep eval` reports: `best` is not chosen on the test."""
    configs = [config("pointmaze-medium-v0", seed) for seed in (0, 1)]
    evaluator = environment_evaluator(configs[0], Reporter())
    assert evaluator is not None
    params = jax.jit(lambda: AGENT.networks(SPACES, root_key(0)))()
    for one in configs:
        run = Run.create(tmp_path / f"s{one.training.seed}", one)
        for step in (100, 200, 300):
            evaluator(run, params, step)
    seeds = [episode.seed for result in measured for episode in result.episodes]
    assert len(set(seeds)) == len(seeds) == 2 * 3 * 5
    reported = {episode_seed(s, t, i) for s in (0, 1) for t in range(1, 6) for i in range(50)}
    assert reported.isdisjoint(seeds)
    evaluator(Run(tmp_path / "s1", configs[1]), params, 300)
    assert measured[-1].episodes == measured[-2].episodes


def test_a_run_says_how_it_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Discrete actions are drawn at 0.3 by default, in training and in `farstep eval` alike."""

    found = Evaluation((Episode(1, 0, 0, True, 5),), {"max_steps": 500}, 1.0)
    monkeypatch.setattr("farstep.api.roll_out", lambda *_, **__: found)
    # Spaces are made up here.
    monkeypatch.setattr("farstep.api.check_environment", lambda *_: None)
    one = config("powderworld-easy-v0", 0)
    one = replace(one, spaces=replace(SPACES, action=Actions(3, discrete=True)))
    run = Run.create(tmp_path / "run", one)
    evaluator = environment_evaluator(one, Reporter())
    assert evaluator is not None
    params = jax.eval_shape(lambda: AGENT.networks(SPACES, root_key(0)))
    run.append("eval", {"step": 300, **evaluator(run, params, 300)})
    protocol = run_score(run.path).protocol
    assert (protocol["temperature"], protocol["step limit"]) == (0.3, 500)
