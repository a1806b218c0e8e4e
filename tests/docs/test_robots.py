"""The script of the page for roboticists runs as it is printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "robots.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_script_of_the_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FARSTEP_DATA", str(tmp_path / "data"))
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(code, "docs/robots.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "Trusted up to" in printed
    assert "30 were logged" in printed
    assert (tmp_path / "my-run" / "plots" / "calibration.png").exists()
