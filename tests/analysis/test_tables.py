import io
from dataclasses import replace

import pytest
from rich.console import Console

from farstep.analysis.tables import (
    comparison_cells,
    evaluation_cells,
    markdown_table,
    protocol_line,
    rich_table,
)
from farstep.core.errors import FarstepError
from farstep.evaluation.results import Episode, Evaluation


def evaluation(wins: int, metres: bool = True, environment: str = "antmaze-giant-v0"):
    episodes = tuple(
        Episode(task, index, index, index < wins, 80, 1.5 if metres else None)
        for task in (1, 2)
        for index in range(10)
    )
    protocol = {
        "environment": environment,
        "tasks": [1, 2],
        "episodes_per_task": 10,
        "seed": 3,
        "max_steps": 1000,
        "slots": 50,
        "versions": {"farstep": "0.1.0", "mujoco": "4.0.0"},
    }
    return Evaluation(episodes, protocol, 1.0)


def test_one_evaluation():
    cells = evaluation_cells(evaluation(4))
    assert cells[0] == [
        "task",
        "success %",
        "95 %",
        "episodes",
        "steps",
        "to success",
        "metres left",
    ]
    assert cells[1] == ["1", "40.0", "16.8–68.7", "10", "80", "80", "1.50"]
    assert cells[-1][0] == "mean"
    assert cells[-1][1] == "40.0"
    assert cells[-1][3] == "20"


def test_what_is_not_known_is_a_dash_or_no_column():
    cells = evaluation_cells(evaluation(0, metres=False))
    assert [len(row) for row in cells] == [6] * 4
    assert cells[1][-1] == cells[-1][-1] == "–"


def test_markdown_is_aligned_and_escapes_bars():
    text = markdown_table([["task", "a|b"], ["1", "40.0"], ["mean", "5.0"]])
    assert text.splitlines() == [
        r"| task | a\|b |",
        "| ---- | ---: |",
        "| 1    | 40.0 |",
        "| mean |  5.0 |",
    ]


def test_side_by_side():
    cells = comparison_cells({"flat": evaluation(2), "planned": evaluation(10)})
    assert cells[0] == ["task", "flat", "planned"]
    assert cells[1][1].startswith("20.0 (")
    assert cells[-2][2].startswith("100.0 (")


def test_a_difference_is_that_of_the_same_episodes():
    one, other = evaluation(4), evaluation(9)
    cells = comparison_cells({"one": one, "other": other, "same": one})
    assert cells[-1][:2] == ["difference", "–"]
    # 1.96 √((5.5/12 + 0.5/12 − (5/12)²) / 20): five of each ten are won by the other alone.
    assert cells[-1][2] == "+50.0 (+25.0 to +75.0)"
    assert cells[-1][3].startswith("+0.0 (-")
    episodes = tuple(replace(e, seed=e.seed + 1) for e in other.episodes)
    cells = comparison_cells({"one": one, "elsewhere": replace(other, episodes=episodes)})
    assert cells[-1][0] == "mean"


def test_terminal_table_shows_every_cell():
    cells = evaluation_cells(evaluation(4))
    stream = io.StringIO()
    Console(file=stream, width=80).print(rich_table(cells))
    shown = stream.getvalue()
    assert all(text in shown for row in cells for text in row)


def test_only_like_is_compared():
    with pytest.raises(FarstepError, match="different environments do not compare"):
        comparison_cells({"a": evaluation(1), "b": evaluation(1, environment="cube-single-v0")})
    other = evaluation(1)
    other = replace(other, protocol={**other.protocol, "tasks": [1]})
    with pytest.raises(FarstepError, match="different tasks do not compare"):
        comparison_cells({"a": evaluation(1), "b": other})
    with pytest.raises(FarstepError, match="no evaluation"):
        comparison_cells({})


def test_protocol_in_one_line():
    assert protocol_line(evaluation(1)) == (
        "antmaze-giant-v0: 10 episodes a task, seed 3, at most 1000 steps, 50 slots; "
        "farstep 0.1.0 mujoco 4.0.0"
    )
