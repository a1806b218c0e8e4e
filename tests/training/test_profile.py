"""Where the time of a run goes."""

import time

import pytest

from farstep.cli.main import main
from farstep.training.profile import Profiler


def test_a_phase_does_not_count_the_phases_within():
    profiler = Profiler()
    with profiler.phase("outer"):
        time.sleep(0.01)
        with profiler.phase("inner"):
            time.sleep(0.1)
    assert profiler.seconds["inner"] >= 0.1
    assert 0.01 <= profiler.seconds["outer"] < 0.1


@pytest.mark.slow
def test_profile_writes_a_trace_and_says_where_the_time_went(toy, tmp_path, capsys):
    run = tmp_path / "run"
    tiny = ["--hidden", "16", "--latent", "32", "--batch-size", "16"]
    main(["train", str(toy), "--out", str(run), "--steps", "30", *tiny, "--profile"])
    out = capsys.readouterr().out
    for part in ("compiling", "updates", "checkpoints"):
        assert part in out
    assert list(run.glob("profile/**/*.xplane.pb"))
    assert "updates for Perfetto" in out


@pytest.mark.slow
def test_too_short_a_run_says_that_there_is_nothing_to_trace(toy, tmp_path, capsys):
    tiny = ["--hidden", "16", "--batch-size", "16", "--agent", "gcbc"]
    main(["train", str(toy), "--out", str(tmp_path / "run"), "--steps", "1", *tiny, "--profile"])
    assert "Training ended before" in capsys.readouterr().out
