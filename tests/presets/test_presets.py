"""Presets: values fit the agents, the last entry wins, and what is not known is said."""

from __future__ import annotations

from dataclasses import fields
from fnmatch import fnmatch

import pytest

from farstep.agents.registry import AGENTS
from farstep.envs.catalog import DATASETS
from farstep.presets import PRESETS, Entry, Preset

OGBENCH_DATASETS = [
    name
    for name in DATASETS
    if "colossal" not in name and not name.startswith("pointmaze-arena") and "octuple" not in name
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
        # As OGBench's repository lists them, one of each family.
        ("gciql", "pointmaze-giant-navigate-v0", {"alpha": 0.003, "discount": 0.995}),
        ("qrl", "pointmaze-medium-stitch-v0", {"alpha": 0.0003, "policy_random": 0.5}),
        (
            "crl",
            "visual-antmaze-giant-stitch-v0",
            {"alpha": 0.1, "discount": 0.995, "batch_size": 256, "policy_random": 0.5},
        ),
        ("crl", "antmaze-large-explore-v0", {"alpha": 0.003, "policy_random": 1.0}),
        (
            "gciql",
            "visual-antmaze-teleport-explore-v0",
            {"alpha": 0.01, "batch_size": 256, "policy_random": 1.0},
        ),
        (
            "gcivl",
            "humanoidmaze-medium-navigate-v0",
            {"inverse_temperature": 10.0, "discount": 0.995},
        ),
        ("qrl", "antsoccer-arena-stitch-v0", {"alpha": 0.003, "policy_random": 0.5}),
        ("gciql", "cube-double-play-v0", {"alpha": 1.0}),
        ("qrl", "visual-scene-play-v0", {"alpha": 0.3, "batch_size": 256, "crops": 0.5}),
        ("crl", "puzzle-4x6-noisy-v0", {"alpha": 0.1}),
        (
            "crl",
            "powderworld-easy-play-v0",
            {"inverse_temperature": 3.0, "policy_loss": "awr", "batch_size": 256},
        ),
        (
            "hiql",
            "visual-humanoidmaze-large-stitch-v0",
            {
                "discount": 0.995,
                "subgoal_steps": 100,
                "batch_size": 256,
                "low_representation_gradient": True,
                "policy_random": 0.5,
            },
        ),
        (
            "hiql",
            "antmaze-medium-explore-v0",
            {
                "high_inverse_temperature": 10.0,
                "low_inverse_temperature": 10.0,
                "policy_random": 1.0,
            },
        ),
        ("hiql", "puzzle-3x3-play-v0", {"subgoal_steps": 10}),
        ("gcbc", "antmaze-large-navigate-v0", {"batch_size": 1024}),
        # As MQE's paper gives them.
        ("mqe", "pointmaze-giant-stitch-v0", {"policy_goals": "paired", "diagonal_weight": 0.3}),
        ("mqe", "scene-noisy-v0", {"policy_goals": "paired", "discount": 0.99}),
        ("nsacbc", "antmaze-giant-stitch-v0", {"backup_steps": 50}),
        ("nsacbc", "cube-double-play-v0", {}),
    ],
)
def test_the_paper_preset_is_what_was_published(agent, dataset, expected):
    assert PRESETS["paper"].values(agent, dataset) == expected


@pytest.mark.parametrize("agent", ["gcivl", "gciql", "qrl", "crl"])
def test_every_dataset_of_the_benchmark_has_its_own_alpha(agent):
    for dataset in OGBENCH_DATASETS:
        values = PRESETS["paper"].values(agent, dataset)
        cloned = agent == "gcivl" or values.get("policy_loss") == "awr"
        assert ("inverse_temperature" in values, "alpha" in values) == (cloned, not cloned), dataset
        assert PRESETS["paper"].fallback(agent, dataset) is None


def test_the_small_preset_keeps_sizes_equal():
    for dataset in ("pointmaze-medium-stitch-v0", "visual-cube-single-play-v0"):
        sizes = {
            (values["hidden"], values["batch_size"], values["learning_rate"])
            for values in (PRESETS["small"].values(agent, dataset) for agent in AGENTS)
        }
        assert len(sizes) == 1


PRESET = Preset(
    "mine",
    "",
    (
        Entry("mqe", "*", {"alpha": 1.0, "discount": 0.9}, "here"),
        Entry("mqe", "cube-*", {"alpha": 2.0}, "there"),
    ),
)


def test_settings_tell_where_each_value_comes_from():
    settings = {s.name: s for s in PRESET.settings("mqe", "cube-double-play-v0")}
    assert (settings["alpha"].value, settings["alpha"].source) == (2.0, "there")
    assert (settings["discount"].value, settings["discount"].datasets) == (0.9, "*")
    assert (settings["latent"].value, settings["latent"].source) == (512, None)
    assert list(settings) == [field.name for field in fields(AGENTS["mqe"])]


def test_an_unknown_combination_says_what_it_falls_back_to():
    assert PRESET.fallback("mqe", "cube-double-play-v0") is None
    assert "its values for all datasets stand" in str(PRESET.fallback("mqe", "my-data"))
    assert "own defaults stand" in str(PRESET.fallback("crl", "cube-double-play-v0"))
