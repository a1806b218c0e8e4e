"""Every hyperparameter of every agent is refused out of its range, before anything is computed."""

from dataclasses import fields
from math import inf, nan

import pytest

from farstep.agents.gcbc import GCBC
from farstep.agents.mqe import MQE
from farstep.agents.qrl import QRL
from farstep.agents.registry import AGENTS, agent_from_dict
from farstep.cli.main import main
from farstep.core.errors import FarstepError

PROBABILITY = "at least 0 and at most 1", (-0.1, 1.1, nan)
INSIDE = "above 0 and below 1", (0.0, 1.0, -1.0, nan)
COUNT = "at least 1", (0, -3)
WEIGHT = "at least 0", (-0.1, inf, nan)
POSITIVE = "above 0", (0.0, -1.0, inf, nan)
NUMBER = "a finite number", (inf, nan)
CHOICE = FLAG = "", ()

OUT_OF_RANGE = {
    "action_chunk": COUNT,
    "alignment": WEIGHT,
    "alpha": WEIGHT,
    "augmentation": CHOICE,
    "backup_steps": COUNT,
    "backup_weight": WEIGHT,
    "batch_size": ("at least", (0, -3)),
    "candidates": COUNT,
    "clip": POSITIVE,
    "crops": PROBABILITY,
    "decay_steps": ("at least 0", (-1,)),
    "diagonal_weight": PROBABILITY,
    "discount": INSIDE,
    "encoder": CHOICE,
    "encoder_weights": CHOICE,
    "expectile": INSIDE,
    "extraction": CHOICE,
    "film": FLAG,
    "groups": COUNT,
    "hidden": ("at least 1", ((8, 0), (-1,))),
    "high_inverse_temperature": WEIGHT,
    "invariance": CHOICE,
    "inverse_temperature": WEIGHT,
    "latent": COUNT,
    "learning_rate": POSITIVE,
    "low_inverse_temperature": WEIGHT,
    "low_representation_gradient": FLAG,
    "margin": WEIGHT,
    "ensemble_size": COUNT,
    "policy": CHOICE,
    "policy_average": ("at least 0 and below 1", (-0.1, 1.0, nan)),
    "policy_goals": CHOICE,
    "policy_random": PROBABILITY,
    "precision": CHOICE,
    "quasimetric": CHOICE,
    "representation": COUNT,
    "subgoal_steps": COUNT,
    "target_entropy_per_action": NUMBER,
    "target_rate": ("above 0 and at most 1", (0.0, 1.5, nan)),
    "warmup_steps": ("at least 0", (-1,)),
    "waypoint_lambda": ("at least 0 and below 1", (-0.1, 1.0, nan)),
    "waypoint_law": CHOICE,
    "waypoint_one_step": PROBABILITY,
}
"""By field: what its range is called, and values outside it. Choices are the types' own affair."""

CASES = [
    (name, field.name, value, allowed)
    for name, kind in AGENTS.items()
    for field in fields(kind)
    for allowed, values in [OUT_OF_RANGE[field.name]]
    for value in values
]


@pytest.mark.parametrize(("name", "field", "value", "allowed"), CASES)
def test_a_value_out_of_range_is_refused_by_name(name, field, value, allowed):
    with pytest.raises(FarstepError) as refused:
        AGENTS[name](**{field: value})
    culprit = min(value) if isinstance(value, tuple) else value
    for part in (f"{AGENTS[name].__name__}: {field} ", allowed, f"not {culprit!r}"):
        assert part in str(refused.value)
    with pytest.raises(FarstepError, match=field):
        agent_from_dict({"name": name, field: value}, where="config.json")


@pytest.mark.parametrize("name", AGENTS)
def test_the_command_line_refuses_before_it_creates_anything(name, toy, tmp_path, capsys):
    out = str(tmp_path / "run")
    for field, value, allowed in (case[1:] for case in CASES if case[0] == name):
        words = [str(word) for word in (value if isinstance(value, tuple) else (value,))]
        option = f"--{field.replace('_', '-')}"
        with pytest.raises(SystemExit) as left:
            main(["train", str(toy), "--agent", name, "--out", out, option, *words])
        assert left.value.code == 2
        said = " ".join(capsys.readouterr().err.split())
        assert f"{field} " in said
        assert allowed in said
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        *(
            (name, {"latent": 24, "groups": 8}, "a multiple of 16")
            for name in ("cmd", "mqe", "tmd")
        ),
        ("qrl", {"latent": 24, "groups": 16}, "a multiple of 16"),
        ("qrl", {"latent": 25, "quasimetric": "mrn"}, "a multiple of 2"),
        *((name, {"batch_size": 1}, "at least 2") for name in ("cmd", "crl", "tmd", "tra")),
        ("mqe", {"batch_size": 1}, "at least 2"),
        ("mqe", {"batch_size": 1, "policy_goals": "paired", "invariance": "cross"}, "at least 2"),
        ("gciql", {"batch_size": 1, "policy_goals": "cross"}, "at least 2"),
        ("mqe", {"hidden": ()}, "at least one"),
    ],
)
def test_values_that_do_not_go_together_are_refused(name, options, said):
    with pytest.raises(FarstepError, match=said):
        AGENTS[name](**options)


def test_what_needs_no_other_row_takes_one():
    MQE(batch_size=1, policy_goals="paired")
    GCBC(batch_size=1)
    QRL(latent=26, quasimetric="mrn")
