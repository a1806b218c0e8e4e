"""`farstep presets`, as it is typed."""

from __future__ import annotations

import pytest

from farstep.cli.main import main


@pytest.fixture(autouse=True)
def wide_output(monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")


def printed(capsys, *words: str) -> str:
    main(["presets", *words])
    return capsys.readouterr().out


def row(text: str, name: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(f"│ {name} ")]
    return [cell.strip() for cell in line.strip("│").split("│")]


def test_all_are_listed_with_the_agents_they_know(capsys):
    text = printed(capsys)
    assert "paper: the published settings" in text
    assert "leaves at their own defaults: tra" in text


def test_one_is_explained_with_its_sources(capsys):
    text = printed(capsys, "paper", "--agent", "qrl")
    assert "│ qrl │ pointmaze-* │ alpha = 0.0003 │ (1) │" in " ".join(text.split())
    assert "(1) OGBench (arXiv 2410.20092)" in text
    assert "gciql" not in text.split("Not set")[0]
    assert "Not set, for gcbc, gcivl, gciql, qrl, crl, hiql on visual-*:" in text
    assert "Nothing for tra: its own defaults stand." in printed(capsys, "paper", "--agent", "tra")


def test_all_of_an_agents_values_on_a_dataset(capsys):
    text = printed(capsys, "paper", "--agent", "crl", "--dataset", "pointmaze-giant-stitch")
    assert row(text, "alpha") == ["alpha", "0.03", "pointmaze-*", "(1)"]
    assert row(text, "discount") == ["discount", "0.995", "*maze-giant-*", "(1)"]
    assert row(text, "ensemble_size")[-1] == "default"
    assert "in particular" not in text


def test_what_is_not_known_is_said(capsys):
    text = printed(capsys, "small", "--agent", "mqe", "--dataset", "cube-triple-plays")
    assert "'cube-triple-plays' is no published dataset" in text
    assert "Did you mean 'cube-triple-play-v0'?" in text
    assert "its values for all datasets stand" in " ".join(text.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["papre"], "Did you mean 'paper'?"),
        (["paper", "--agent", "hiqq"], "Did you mean 'hiql'"),
        (["--dataset", "cube-triple-play"], "--dataset needs --agent"),
    ],
)
def test_bad_input_is_one_line_and_exit_status_2(capsys, words, message):
    with pytest.raises(SystemExit) as stopped:
        main(["presets", *words])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
