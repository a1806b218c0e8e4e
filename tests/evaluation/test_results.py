import json
import random

import pytest

from farstep.core.errors import FarstepError
from farstep.evaluation.results import Episode, Evaluation

PROTOCOL = {
    "environment": "pointmaze-medium-v0",
    "tasks": [1, 2],
    "episodes_per_task": 4,
    "seed": 0,
    "max_steps": 1000,
    "slots": 50,
    "versions": {"farstep": "0.1.0"},
}


def evaluation(wins: dict[int, list[bool]], seconds: float = 2.0) -> Evaluation:
    episodes = tuple(
        Episode(task, index, 7 * task + index, won, 100 if won else 1000, 0.25 if won else 9.0)
        for task, flags in wins.items()
        for index, won in enumerate(flags)
    )
    return Evaluation(episodes, PROTOCOL, seconds)


def test_tasks_are_summed_up_each_and_weigh_alike():
    result = evaluation({1: [True, True, True, False], 2: [False, False, True, False]})
    one, two = result.tasks
    assert (one.task, one.episodes, one.successes, one.success_rate) == (1, 4, 3, 0.75)
    assert one.mean_steps == (3 * 100 + 1000) / 4
    assert one.mean_success_steps == 100
    assert two.mean_final_distance == (3 * 9 + 0.25) / 4
    assert result.mean_success == 0.5
    assert result.interval.low < 0.5 < result.interval.high
    assert result.steps == 4 * 100 + 4 * 1000
    assert result.steps_per_second == result.steps / 2.0


def test_the_mean_is_over_tasks_not_episodes():
    assert evaluation({1: [True] * 9, 2: [False]}).mean_success == 0.5


def test_no_success_has_no_length():
    (task,) = evaluation({3: [False, False]}).tasks
    assert task.mean_success_steps is None
    assert task.interval.low == 0


def test_json_gives_back_the_same_evaluation():
    result = evaluation({1: [True, False], 2: [True, True]})
    text = result.to_json()
    assert Evaluation.from_json(text) == result
    assert json.loads(text)["mean_success"] == result.mean_success


def test_file_gives_back_the_same_evaluation_and_leaves_nothing_else(tmp_path):
    result = evaluation({1: [True, False]})
    path = tmp_path / "new" / "result.json"
    result.save(path)
    result.save(path)
    assert Evaluation.load(path) == result
    assert [entry.name for entry in path.parent.iterdir()] == ["result.json"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-20],
        lambda text: "[]",
        lambda text: text.replace('"episodes"', '"episods"'),
        lambda text: text.replace('"index"', '"indx"'),
        lambda text: text.replace('"seconds"', '"secnds"'),
    ],
)
def test_what_is_no_evaluation_is_named(damage, tmp_path):
    path = tmp_path / "result.json"
    path.write_text(damage(evaluation({1: [True]}).to_json()))
    with pytest.raises(FarstepError, match=r"result\.json is not a result of `farstep eval`"):
        Evaluation.load(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FarstepError, match=r"cannot read the evaluation .*none\.json"):
        Evaluation.load(tmp_path / "none.json")


def test_order_of_episodes_does_not_change_the_figures():
    result = evaluation({1: [True, False, True], 2: [False, True, True], 3: [False] * 3})
    shuffled = list(result.episodes)
    random.Random(5).shuffle(shuffled)
    assert Evaluation(tuple(shuffled), PROTOCOL, 2.0).tasks == result.tasks
