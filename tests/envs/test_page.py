"""The code in docs/environments.md runs as it stands and prints what the page says."""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path

import pytest

from farstep.cli.data import DataImport
from farstep.cli.evaluate import Evaluate
from farstep.cli.make import DataMake
from farstep.cli.train import Train
from farstep.collect.collector import FAMILIES
from farstep.envs.catalog import ENVIRONMENTS

for _module in ("gymnasium", "mujoco", "ogbench"):
    pytest.importorskip(_module)

PAGE = (Path(__file__).parents[2] / "docs" / "environments.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("example", re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
def test_the_example_prints_what_it_promises(
    example: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    # The example adds to both.
    monkeypatch.setattr("sys.path", list(sys.path))
    monkeypatch.setitem(FAMILIES, "drifting", FAMILIES["pointmaze"])
    promised = re.findall(r"print\(.*\)\s+# (.*)", example)
    assert promised
    exec(compile(example, "docs/environments.md", "exec"), {"__name__": "example"})
    assert capsys.readouterr().out.splitlines() == promised


def test_the_table_of_environments_is_the_catalogue() -> None:
    table = PAGE.partition("## By name")[2].partition("Each has five tasks")[0]
    listed = {}
    for families, variants, caps in re.findall(r"^\| (`.*?) \| (.*?)\| (.*?) \|$", table, re.M):
        for group, cap in zip(variants.split(";"), caps.split(";"), strict=True):
            for family in re.findall(r"`(.*?)`", families):
                for variant in group.split(","):
                    name = "-".join(filter(None, (family, variant.strip(), "v0")))
                    listed[name] = int(cap)
    assert listed == {name: spec.max_episode_steps for name, spec in ENVIRONMENTS.items()}
    others = {name for name, spec in ENVIRONMENTS.items() if spec.num_tasks != 5}
    assert others == {name for name in ENVIRONMENTS if "widowx-tabletop" in name}


def test_every_option_named_exists() -> None:
    commands = (DataMake, DataImport, Evaluate, Train)
    known = {field.name for command in commands for field in dataclasses.fields(command)}
    own = re.sub(r"^    python benchmarks/.*$", "", PAGE, flags=re.M)
    named = set(re.findall(r"--([a-z]+)", own))
    assert "maze" in named
    assert named <= known
