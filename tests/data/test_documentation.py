"""The code in docs/data.md runs as it stands, and its commands' data go where the page says."""

from __future__ import annotations

import re
from pathlib import Path

from farstep.data.sources import registry
from farstep.data.sources.registry import import_source
from farstep.data.table import open_dataset

PAGE = Path(__file__).parents[2] / "docs" / "data.md"


def test_the_examples_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FARSTEP_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(examples) == 3
    monkeypatch.setattr(registry, "FORMATS", dict(registry.FORMATS))
    for example in examples:
        exec(compile(example, str(PAGE), "exec"), {"__name__": "example"})
    promised = re.findall(r"print\(.*?\)\s+# (.*)", "".join(examples[1:]))
    assert capsys.readouterr().out.splitlines() == promised
    import_source(Path("my.npz"), "my-robot")
    assert open_dataset("my-robot").train.episode_lengths.tolist() == [50] * 20
