"""Agents of one's own: by a name or by their place, on the command line and in files."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import pytest

import farstep
from farstep.agents.registry import AGENTS, agent_class, agent_name, register_agent
from farstep.cli.main import main
from farstep.core.errors import FarstepError

OWN = """
from dataclasses import dataclass
import farstep

@dataclass(frozen=True, kw_only=True)
class Tuned(farstep.GCBC):
    strength: float = 1.0

class Half(farstep.Agent):
    pass
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of one's own."""
    (tmp_path / "own_agents.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_agents", raising=False)
    monkeypatch.setattr("farstep.agents.registry.AGENTS", dict(AGENTS))
    return "own_agents:Tuned"


@pytest.mark.slow
def test_an_agent_is_trained_by_its_place_and_its_run_remembers(own, toy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sizes = ["--hidden", "8", "--batch-size", "4", "--steps", "2", "--strength", "3"]
    main(["train", str(toy), "--agent", own, *sizes])
    (run,) = (tmp_path / "runs").iterdir()
    policy = farstep.load_policy(run)
    assert (agent_name(policy.agent), asdict(policy.agent)["strength"]) == (own, 3)
    policy.save(tmp_path / "policy")
    assert farstep.load_policy(tmp_path / "policy").agent == policy.agent
    main(["train", "--resume", str(run), "--steps", "4"])
    assert farstep.load_policy(run).step == 4


def test_a_registered_name_stands_for_the_class(own):
    kind = agent_class(own)
    register_agent("tuned", kind)
    register_agent("tuned", kind)
    assert agent_class("tuned") is kind
    assert agent_name(farstep.make_agent("tuned", hidden=(8,))) == "tuned"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tuned", "Known: cmd"),
        ("absent_module:Tuned", "No module named 'absent_module'"),
        ("own_agents:Tunde", "no attribute 'Tunde'"),
        ("own_agents:", "no attribute ''"),
        (":Tuned", "There is no agent ':Tuned'"),
        ("own_agents:dataclass", "is no agent"),
        ("own_agents:Half", "is no agent"),
    ],
)
def test_what_is_no_agent_is_refused(own, name, message, toy, capsys):
    with pytest.raises(SystemExit):
        main(["train", str(toy), "--agent", name])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", ["mqe", "My Agent", "", "a/b"])
def test_names_that_cannot_be_registered(own, name):
    with pytest.raises(FarstepError, match="name"):
        register_agent(name, agent_class(own))
