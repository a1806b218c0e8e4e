"""Scripted manipulation and drawing: what an episode holds, and what it follows from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from farstep.cli.main import main
from farstep.core.errors import FarstepError
from farstep.data.table import open_dataset

pytest.importorskip("ogbench")

from farstep.collect import manipulation, powderworld
from farstep.collect.manipulation import EpisodeCollector as Manipulation
from farstep.collect.manipulation import ManipulationRecipe
from farstep.collect.powderworld import EpisodeCollector as Powderworld
from farstep.collect.powderworld import PowderworldRecipe

ENVIRONMENTS = ("cube-double-v0", "scene-v0", "puzzle-3x3-v0")


def generator(number: int) -> np.random.Generator:
    return np.random.default_rng([7, number])


@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize("behaviour", ["play", "noisy"])
def test_an_episode_follows_from_its_generator_alone(environment: str, behaviour: str) -> None:
    recipe = ManipulationRecipe(behaviour, episodes=1, steps=120, random_actions=0.1)
    outside = np.random.get_state(legacy=False)["state"]["key"].copy()  # noqa: NPY002
    used = Manipulation(environment, recipe)
    used.episode(generator(0))
    second = used.episode(generator(1))
    alone = Manipulation(environment, recipe).episode(generator(1))
    assert all(np.array_equal(second[name], alone[name]) for name in second)
    assert np.array_equal(outside, np.random.get_state(legacy=False)["state"]["key"])  # noqa: NPY002


def test_actions_lead_from_each_state_to_the_next() -> None:
    import mujoco

    recipe = ManipulationRecipe("play", episodes=1, steps=60)
    arm = Manipulation("cube-single-v0", recipe)
    stored = arm.episode(generator(2))
    env: Any = arm._env.unwrapped
    env.reset(seed=0)
    env._data.qpos[:], env._data.qvel[:] = stored["qpos"][20], stored["qvel"][20]
    mujoco.mj_forward(env._model, env._data)  # type: ignore[attr-defined]
    env.step(stored["actions"][20])
    # The stored state is single precision and has no solver's warm start.
    assert np.abs(env._data.qpos - stored["qpos"][21]).max() < 5e-3


@pytest.mark.slow
@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_most_primitives_of_play_succeed(environment: str) -> None:
    arm = Manipulation(environment, manipulation.published_recipe(environment, "play"))
    episodes = [arm.episode(generator(n)) for n in range(3)]
    ended = sum(episode["primitives"] for episode in episodes)
    succeeded = sum(episode["primitives_succeeded"] for episode in episodes)
    assert ended > 20
    assert succeeded > 0.8 * ended


@pytest.mark.parametrize(
    ("environment", "behaviour", "episodes", "random_actions"),
    [
        ("cube-triple-v0", "noisy", 3000, 0.1),
        ("cube-double-v0", "play", 1000, 0.0),
        ("puzzle-4x6-v0", "noisy", 5000, 0.2),
        ("scene-v0", "noisy", 1000, 0.1),
    ],
)
def test_published_recipes(
    environment: str, behaviour: str, episodes: int, random_actions: float
) -> None:
    recipe = manipulation.published_recipe(environment, behaviour)
    assert (recipe.episodes, recipe.steps) == (episodes, 1001)
    assert recipe.random_actions == random_actions


def test_published_sizes_of_drawings() -> None:
    sizes = [
        powderworld.published_recipe(f"powderworld-{elements}-v0", "play").episodes
        for elements in ("easy", "medium", "hard")
    ]
    assert sizes == [1000, 3000, 5000]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"episodes": 0}, "at least 1 episode"),
        ({"noise": float("nan")}, "noise"),
        ({"random_actions": 1.5}, "random actions"),
    ],
)
def test_recipes_say_what_is_out_of_range(changes: dict, message: str) -> None:
    with pytest.raises(FarstepError, match=message):
        replace(ManipulationRecipe("play", episodes=1, steps=10), **changes)


def test_a_drawing_follows_from_its_generator_alone() -> None:
    recipe = PowderworldRecipe("play", episodes=1, steps=61)
    used = Powderworld("powderworld-easy-v0", recipe)
    used.episode(generator(0))
    second = used.episode(generator(1))
    alone = Powderworld("powderworld-easy-v0", recipe).episode(generator(1))
    assert np.array_equal(second["observations"], alone["observations"])
    assert np.array_equal(second["actions"], alone["actions"])
    assert second["observations"].shape == (61, 32, 32, 6)


def test_elements_and_places_are_in_range() -> None:
    recipe = PowderworldRecipe("play", episodes=1, steps=90)
    actions = Powderworld("powderworld-easy-v0", recipe).episode(generator(3))["actions"]
    assert set(actions[::3]) <= {0, 1}
    assert actions.min() >= 0
    assert actions.max() < 8


@pytest.mark.parametrize(
    ("name", "observation", "extras"),
    [
        pytest.param("cube-single-play", (28,), {"qpos", "qvel"}, marks=pytest.mark.slow),
        ("puzzle-3x3-noisy", (55,), {"qpos", "qvel", "button_states"}),
        ("powderworld-easy-play", (32, 32, 6), set()),
    ],
)
def test_made_from_the_command_line(name: str, observation: tuple, extras: set) -> None:
    main(["data", "make", name, "--episodes", "2", "--steps", "12", "--processes", "1"])
    dataset = open_dataset(name)
    assert list(dataset.train.episode_lengths) == [12, 12]
    assert dataset.train.observations.shape[1:] == observation
    assert set(dataset.train.extras) == extras
    assert dataset.environment == name.rsplit("-", 1)[0] + "-v0"
    counts = dataset.train.manifest.provenance.get("counts", {})
    assert set(counts) == ({"primitives", "primitives_succeeded"} if extras else set())
