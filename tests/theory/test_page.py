"""docs/theory.md holds what its command prints, as far as that is quick, and its code runs."""

from __future__ import annotations

import re
from pathlib import Path

from theory.report import counterexamples_table, stitching_table

PAGE = (Path(__file__).parents[2] / "docs" / "theory.md").read_text(encoding="utf-8")


def test_the_page_holds_the_tables_as_they_are_printed():
    assert counterexamples_table() in PAGE
    assert stitching_table() in PAGE


def test_the_code_of_the_page_runs():
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(code, "docs/theory.md", "exec"), {})
