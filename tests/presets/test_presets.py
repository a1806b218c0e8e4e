"""Presets: values fit the agents, the last entry wins, and what is not known is said."""

from __future__ import annotations

import csv
from dataclasses import fields
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from farstep.agents.registry import AGENTS
from farstep.envs.catalog import DATASETS
from farstep.presets import PRESETS, Entry, Preset

OGBENCH_DATASETS = [
    name
    for name in DATASETS
    if not any(word in name for word in ("colossal", "pointmaze-arena", "octuple", "widowx"))
]


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
def test_every_value_is_a_hyperparameter_of_its_agent(preset):
    for entry in preset.entries:
        known = {field.name for field in fields(AGENTS[entry.agent])}
        assert set(entry.values) <= known, entry
        assert entry.source
        assert any(fnmatch(dataset, entry.datasets) for dataset in DATASETS), entry


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
@pytest.mark.parametrize("agent", AGENTS)
def test_every_published_dataset_gives_an_agent_that_can_be_built(preset, agent):
    for dataset in DATASETS:
        AGENTS[agent](**preset.values(agent, dataset)).spec()


@pytest.mark.parametrize(
    ("agent", "dataset", "expected"),
    [
        ("mqe", "pointmaze-giant-stitch-v0", {"policy_goals": "paired", "diagonal_weight": 0.3}),
        ("mqe", "scene-noisy-v0", {"policy_goals": "paired", "discount": 0.99}),
        ("nsacbc", "antmaze-giant-stitch-v0", {"backup_steps": 50}),
        ("nsacbc", "cube-double-play-v0", {}),
    ],
)
def test_the_paper_preset_is_what_mqes_paper_publishes(agent, dataset, expected):
    assert PRESETS["paper"].values(agent, dataset) == expected


with (Path(__file__).parent / "facts" / "ogbench.csv").open() as file:
    FACTS = list(csv.DictReader(file))


@pytest.mark.parametrize("agent", ["gcbc", "gcivl", "gciql", "qrl", "crl", "hiql"])
def test_every_command_of_ogbench_is_what_the_paper_preset_gives(agent):
    """85 datasets by six agents, as its `impls/hyperparameters.sh` and the agents' defaults say."""
    assert len(FACTS) == 85
    for row in FACTS:
        made = AGENTS[agent](**PRESETS["paper"].values(agent, row["dataset"]))
        expected: dict[str, Any] = {
            "batch_size": int(row["batch_size"]), "crops": float(row["crops"])
        }  # fmt: skip
        if agent != "gcbc":
            expected |= {name: float(row[name]) for name in ("discount", "policy_random")}
        if agent in ("gciql", "qrl", "crl"):
            expected["extraction"] = row["extraction"]
        if agent == "hiql":
            expected |= {
                "high_inverse_temperature": float(row["hiql_high"]),
                "low_inverse_temperature": float(row["hiql_low"]),
                "subgoal_steps": int(row["subgoal_steps"]),
                "low_representation_gradient": row["low_representation_gradient"] == "True",
            }
        elif agent != "gcbc":
            weighted = agent == "gcivl" or row["extraction"] == "awr"
            expected["inverse_temperature" if weighted else "alpha"] = float(row[agent])
        found = {name: getattr(made, name) for name in expected}
        assert found == expected, row["dataset"]


@pytest.mark.parametrize("agent", ["gcivl", "gciql", "qrl", "crl"])
def test_every_dataset_of_the_benchmark_has_its_own_alpha(agent):
    for dataset in OGBENCH_DATASETS:
        values = PRESETS["paper"].values(agent, dataset)
        cloned = agent == "gcivl" or values.get("extraction") == "awr"
        assert ("inverse_temperature" in values, "alpha" in values) == (cloned, not cloned), dataset
        assert PRESETS["paper"].fallback(agent, dataset) is None


def test_the_small_preset_keeps_sizes_equal():
    for dataset in ("pointmaze-medium-stitch-v0", "visual-cube-single-play-v0"):
        sizes = {
            (values["hidden"], values["batch_size"], values["learning_rate"])
            for values in (PRESETS["small"].values(agent, dataset) for agent in AGENTS)
        }
        assert len(sizes) == 1


def test_the_bridge_preset_is_the_robots_recipe():
    made: dict[str, Any] = {
        name: AGENTS[name](**PRESETS["bridge"].values(name, "bridge")) for name in AGENTS
    }
    for name in ("mqe", "gcbc", "gciql", "tra"):
        agent = made[name]
        shared = agent.encoder, agent.augmentation, agent.batch_size, agent.hidden
        assert shared == (("resnet34",), "bridge", 128, (256, 256, 256)), name
        assert getattr(agent, "discount", 0.98) == 0.98
        assert getattr(agent, "latent", 256) == 256
    mqe, gcbc, gciql = (made[name] for name in ("mqe", "gcbc", "gciql"))
    assert (mqe.groups, mqe.waypoint_lambda, mqe.waypoint_one_step) == (8, 0.95, 0.2)
    assert made["tra"].film
    assert (gcbc.warmup_steps, gcbc.decay_steps, gciql.expectile) == (2000, 500_000, 0.7)


PRESET = Preset(
    "mine",
    "",
    (
        Entry("mqe", "*", {"alpha": 1.0, "discount": 0.9}, "here"),
        Entry("mqe", "cube-*", {"alpha": 2.0}, "there"),
    ),
)


def test_settings_tell_where_each_value_comes_from():
    settings = PRESET.settings("mqe", "cube-double-play-v0")
    assert settings["alpha"] == (2.0, PRESET.entries[1])
    assert settings["discount"] == (0.9, PRESET.entries[0])
    assert settings["latent"] == (512, None)
    assert list(settings) == [field.name for field in fields(AGENTS["mqe"])]


def test_an_unknown_combination_says_what_it_falls_back_to():
    assert PRESET.fallback("mqe", "cube-double-play-v0") is None
    assert "its values for all datasets stand" in str(PRESET.fallback("mqe", "my-data"))
    assert "own defaults stand" in str(PRESET.fallback("crl", "cube-double-play-v0"))
