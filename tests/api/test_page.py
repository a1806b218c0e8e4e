"""The code in docs/api.md runs as it stands."""

import re
from pathlib import Path

import pytest

import farstep
from farstep.agents.registry import AGENTS

PAGE = Path(__file__).parents[2] / "docs" / "api.md"


@pytest.mark.slow
def test_the_examples_run(tmp_path, monkeypatch, capsys):
    pytest.importorskip("ogbench")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("farstep.agents.registry.AGENTS", dict(AGENTS))
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(examples) == 6
    names = {"__name__": "example"}
    for example in examples:
        exec(compile(example, str(PAGE), "exec"), names)
    flat, planned, alone, own = capsys.readouterr().out.splitlines()
    assert flat.endswith(" 400")
    assert planned.endswith(" 400")
    assert alone.endswith("(2, 2) (2,)")
    assert own == "0.001"
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["decayed", "drift"]


def test_every_public_name_is_there():
    assert dir(farstep) == sorted(farstep.__all__)
    for name in farstep.__all__:
        assert getattr(farstep, name).__name__ == name
