"""Two processes that are given the same command, and the same place, at once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ogbench")

from farstep.data.table import open_dataset
from farstep.evaluation.results import Evaluation
from farstep.serving.policy import load_policy

MAKE = ("data", "make", "pointmaze-medium-stitch", "--episodes", "40", "--processes", "1")
SMALL = ("--agent", "gcbc", "--hidden", "8", "8", "--batch-size", "4", "--evaluation-episodes", "0")


@pytest.mark.slow
def test_each_place_is_written_whole_by_one_of_them(tmp_path):
    """Of two that would share a place one is refused in a line, or each replaces the other's."""
    data, run = tmp_path / "data", tmp_path / "run"
    assert both(*MAKE, "--out", data) == [0, 2]
    dataset = open_dataset(data, verify=True)
    assert dataset.train.num_episodes == 40
    assert both("train", data, *SMALL, "--steps", 400, "--out", run) == [0, 2]
    lines = (run / "metrics.jsonl").read_text().splitlines()
    assert len({json.loads(line)["step"] for line in lines}) == len(lines)
    assert both("export", run, "--out", tmp_path / "policy") in ([0, 0], [0, 2])
    assert load_policy(tmp_path / "policy").step == 400
    result = tmp_path / "result.json"
    evaluate = ("eval", run, "--episodes", 1, "--max-steps", 20, "--workers", 0, "--out", result)
    assert both(*evaluate) == [0, 0]
    assert Evaluation.load(result).steps == 100
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"data", "run", "policy", "result.json"}


def both(*words: object) -> list[int]:
    """The exit codes of two processes, the lower first; what is refused is refused in a line."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "farstep", *map(str, words)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [process.communicate()[1] for process in processes]
    for process, error in zip(processes, said, strict=True):
        assert "Traceback" not in error, error
        assert process.returncode == 0 or Path(str(words[-1])).name in error, error
    return sorted(process.returncode for process in processes)
