"""The code in docs/evaluation.md runs as it stands."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "evaluation.md"


def test_the_example_runs(capsys):
    pytest.importorskip("ogbench")
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(example, str(PAGE), "exec"), {"__name__": "example"})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[:-1]] == ["task 1", "task 2"]
    assert 0 < float(lines[-1].removeprefix("mean ")) < 1


def test_every_option_named_exists():
    from farstep.cli.evaluate import Evaluate
    from farstep.cli.plot import PlotDistance

    known = {f.name.replace("_", "-") for kind in (Evaluate, PlotDistance) for f in fields(kind)}
    named = set(re.findall(r"--([a-z][a-z-]+)", PAGE.read_text(encoding="utf-8")))
    assert named - {"help"} <= known
