import pytest

from farstep.cli.main import main


@pytest.mark.slow
def test_the_quickstart_runs_every_command_and_shows_its_findings(tmp_path, capsys):
    out = tmp_path / "quick start"
    sizes = ["--updates", "20", "--episodes", "12", "--evaluation-episodes", "1"]
    main(["quickstart", "--out", str(out), *sizes])
    printed = capsys.readouterr().out
    for command in ("data make", "train", "eval", "plot distance", "plot plan"):
        assert f"$ farstep {command}" in printed
    table = printed[printed.index("Success on tasks") :]
    assert "MQE" in table
    assert "GCBC" in table
    assert "planning" in table
    for picture in ("distance.png", "plan.png"):
        assert (out / picture).stat().st_size > 10_000
