"""`make gpu-check`, where there is no GPU."""

from __future__ import annotations

import jax
import pytest

from gpu_check import NO_GPU, Options, distances, main


def test_without_a_gpu_it_says_so(capsys):
    assert main(Options()) == NO_GPU
    printed = capsys.readouterr().out
    assert "no GPU here" in printed
    assert "passed" in printed  # the translation for one


@pytest.mark.slow
def test_the_same_table_of_the_cpu(tmp_path, capsys, monkeypatch):
    small = Options(
        platform="cpu",
        points=16,
        width=32,
        agents=("mqe",),
        seconds=0.01,
        out=tmp_path / "table.md",
    )
    assert main(small) == 0
    assert (tmp_path / "table.md").read_text() in capsys.readouterr().out
    monkeypatch.setattr("gpu_check.pairwise_mrn", lambda x, y: 0.1 * x @ y.mT)
    assert not all(row.passed for row in distances(jax.devices("cpu")[0], small))
