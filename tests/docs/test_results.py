"""Every table of results in the documentation is what the data give, and results can be added."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import results
from farstep.evaluation.results import Episode, Evaluation


@pytest.mark.parametrize("page", results.PAGES, ids=lambda page: page.stem)
def test_the_tables_of_a_page_are_what_the_data_give(page):
    marked = results.MARK.findall(page.read_text(encoding="utf-8"))
    assert marked
    for name, table in marked:
        assert table == results.markdown(name), f"{name}: python benchmarks/results.py --write"


def test_the_results_page_holds_every_table_and_no_other():
    text = (results.ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    names = {name for name, _ in results.MARK.findall(text)}
    assert names == results.TABLES.keys() - {"quickstart-short", "planners", "former-planners"}
    assert not re.search(r"^\|", results.MARK.sub("", text), re.MULTILINE)


@pytest.fixture
def data(tmp_path, monkeypatch) -> Iterator[Path]:
    """A copy of the data, to be changed."""
    copy = tmp_path / "results"
    shutil.copytree(results.DATA, copy)
    monkeypatch.setattr(results, "DATA", copy)
    results.rows.cache_clear()
    results.task_counts.cache_clear()
    yield copy
    results.rows.cache_clear()
    results.task_counts.cache_clear()


def evaluation(successes: int) -> Evaluation:
    """Ten episodes of task 1 by a policy of seed 4."""
    episodes = tuple(Episode(1, i, 100 + i, i < successes, 20, 0.5) for i in range(10))
    policy = {
        **{"agent": "mqe", "dataset": "pointmaze-medium-stitch-v0", "step": 12_000},
        **{"source": {"seed": 4}, "hyperparameters": {"alpha": 0.03}},
    }
    protocol = {"episodes_per_task": 10, "max_steps": 1000, "seed": 0, "policy": policy}
    return Evaluation(episodes, protocol, 1.0)


def test_added_results_stand_in_the_data_once(data, tmp_path):
    before = len(results.rows("episodes.csv.gz"))
    for successes in (3, 7):
        evaluation(successes).save(tmp_path / "flat.json")
        results.add("trial", [tmp_path / "flat.json"])
        (row,) = results.where("evaluations.csv", experiment="trial")
        assert (row["success"], row["acting"], row["seed"]) == (f"{10 * successes}.0", "flat", "4")
        key = tuple(row[name] for name in results.KEY)
        assert results.task_rates(key).tolist() == [10 * successes]
        assert len(results.rows("episodes.csv.gz")) == before + 10
    assert '"alpha": 0.03' in (data / "configs.json").read_text()


def test_added_curves_stand_in_the_data(data, tmp_path):
    (tmp_path / "config.json").write_text(
        '{"agent": {"name": "mqe"}, "dataset": {"name": "pointmaze-giant-stitch-v0"},'
        ' "training": {"seed": 1}}'
    )
    (tmp_path / "eval.jsonl").write_text('{"step": 500, "success": 0.25}\n')
    results.add("trial", [tmp_path / "eval.jsonl"])
    (row,) = results.where("curves.csv", study="trial")
    assert (row["updates"], row["success"], row["seed"]) == ("500", "0.25", "1")
