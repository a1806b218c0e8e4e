"""`farstep train`, as it is typed: which values it takes, what it refuses, what it leaves alone."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from farstep.agents.crl import CRL
from farstep.cli.main import main
from farstep.cli.train import Train
from farstep.data.table import TableWriter
from farstep.serving.policy import load_policy
from farstep.training.run import Run

SMALL = [
    *("--agent", "gcbc", "--hidden", "8", "8", "--batch-size", "4"),
    *("--log-every", "2", "--checkpoint-every", "2"),
]


def write(path: Path, *, size: int = 2, **about: Any) -> Path:
    rng = np.random.default_rng(0)
    with TableWriter(path / "train", (size,), "float32", 2, **about) as writer:
        for _ in range(3):
            writer.append(rng.normal(size=(9, size)), rng.uniform(-1, 1, (9, 2)))
    return path


@pytest.fixture(scope="module")
def renamed(tmp_path_factory) -> Path:
    """A published dataset in a directory that does not say so."""
    return write(tmp_path_factory.mktemp("data") / "mine", name="pointmaze-large-stitch-v0")


def train(*words: str | Path) -> None:
    main(["train", *map(str, words)])


def fails(capsys, *words: str | Path) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        train(*words)
    assert stopped.value.code == 2
    return " ".join(capsys.readouterr().err.split())


def files(path: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()
    }


WORDS = (["DATASET"], ["--agent", "crl"], ["--preset", "paper"])
ORDERS = [list(itertools.chain(*order)) for order in itertools.permutations(WORDS)]
ORDERS += [
    ["--agent=crl", "DATASET"],
    ["--out", "./small", "--agent", "crl", "DATASET"],
    ["--steps", "3", "DATASET", "--agent", "crl"],
    ["--agent", "crl", "--hidden", "8", "8", "--alpha=0.03", "DATASET/"],
    ["--agent", "crl", "."],
]


@pytest.mark.parametrize("words", ORDERS, ids=" ".join)
def test_hyperparameters_do_not_depend_on_the_order_of_words(words, renamed, monkeypatch):
    monkeypatch.chdir(renamed)
    parsed = Train.parse("farstep train", [w.replace("DATASET", str(renamed)) for w in words])
    agent = cast(CRL, parsed.hyperparameters)
    assert (agent.alpha, agent.policy_random) == (0.03, 0.5)


def test_a_run_says_which_entries_of_the_preset_it_took(renamed, tmp_path, capsys):
    size = ["--hidden", "8", "--latent", "8", "--batch-size", "4", "--steps", "1"]
    train("--agent", "crl", *size, "--out", tmp_path / "run", renamed)
    printed = capsys.readouterr().out
    assert "Preset 'paper', crl on pointmaze-*: alpha = 0.03" in printed
    assert "Preset 'paper', crl on *-stitch*: policy_random = 0.5" in printed
    assert Run.open(tmp_path / "run").config.dataset.name == "pointmaze-large-stitch-v0"


def test_resume_needs_nothing_but_the_run(toy, tmp_path, capsys):
    run = tmp_path / "run"
    train(toy, "--out", run, "--steps", "4", *SMALL)
    before = [line["seconds"] for line in Run.open(run).records("metrics")]
    train("--resume", run, "--steps", "8", "--log-every", "4", "--checkpoint-every", "8")
    records = Run.open(run).records("metrics")
    assert [line["step"] for line in records] == [2, 4, 8]
    assert [line["seconds"] for line in records[:2]] == before
    assert records[2]["seconds"] > before[1]
    assert load_policy(run).step == 8
    again = ["--validation-batches", "3", "--evaluation-episodes", "1", "--keep-checkpoints", "1"]
    train("--resume", run, "--steps", "9", *again)
    assert Run.open(run).config.training.validation_batches == 3
    was = files(run)
    assert "has done 9 updates already" in fails(capsys, "--resume", run, "--steps", "8")
    assert "agent.hidden" in fails(capsys, "--resume", run, "--hidden", "9")
    assert "is a run of gcbc, not of mqe" in fails(capsys, "--resume", run, "--agent", "mqe")
    assert "training.seed: 0 before, 1 now" in fails(capsys, "--resume", run, "--seed", "1")
    for option in (["--preset", "small"], ["--out", "x"], ["--overwrite"], ["--seeds", "2"]):
        assert f"{option[0]} is for new runs" in fails(capsys, "--resume", run, *option)
    assert {**files(run), ".lock": b""} == {**was, ".lock": b""}


def test_moved_data_are_named_when_a_run_goes_on(toy, tmp_path, capsys):
    data = write(tmp_path / "data")
    train(data, "--out", tmp_path / "run", "--steps", "2", *SMALL)
    data.rename(tmp_path / "elsewhere")
    assert "farstep train DATASET --resume" in fails(capsys, "--resume", tmp_path / "run")
    train(tmp_path / "elsewhere", "--resume", tmp_path / "run", "--steps", "4")
    assert load_policy(tmp_path / "run").step == 4


@pytest.mark.parametrize(
    ("agent", "options"),
    [
        ("mqe", ["--latent", "7", "--hidden", "8"]),
        ("mqe", ["--hidden", "-3"]),
        ("gcbc", ["--batch-size", "0"]),
    ],
)
def test_what_cannot_be_built_leaves_no_directory_behind(agent, options, toy, tmp_path, capsys):
    assert fails(capsys, toy, "--agent", agent, *options, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_environment_of_other_spaces_is_refused_before_training(tmp_path, capsys):
    pytest.importorskip("ogbench")
    data = write(tmp_path / "data", size=3, environment="pointmaze-medium-v0")
    message = fails(capsys, data, "--out", tmp_path / "run", *SMALL)
    assert "pointmaze-medium-v0 has observations" in message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("content", [{"architectures": ["Bert"]}, {"format": "farstep-run"}])
def test_overwriting_removes_what_a_run_owns_or_nothing(content, toy, tmp_path, capsys):
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(content))
    (model / "model.safetensors").write_bytes(b"weights")
    was = files(model)
    message = fails(capsys, toy, "--out", model, "--overwrite", "--steps", "2", *SMALL)
    assert "not a run directory" in message or "holds 'model.safetensors'" in message
    assert {name: was[name] for name in was} == {name: files(model)[name] for name in was}


def test_a_run_with_notes_inside_is_not_overwritten(toy, tmp_path, capsys):
    run = tmp_path / "run"
    train(toy, "--out", run, "--steps", "2", *SMALL)
    (run / "notes.txt").write_text("years of work")
    message = fails(capsys, toy, "--out", run, "--overwrite", "--steps", "4", *SMALL)
    assert "holds 'notes.txt'" in message
    assert load_policy(run).step == 2
    (run / "notes.txt").unlink()
    train(toy, "--out", run, "--overwrite", "--steps", "4", *SMALL)
    assert [line["step"] for line in Run.open(run).records("metrics")] == [2, 4]


def test_overwriting_through_a_link_replaces_the_run_that_it_names(toy, tmp_path):
    link, target = tmp_path / "link", tmp_path / "disk" / "run"
    target.parent.mkdir()
    link.symlink_to(target)
    train(toy, "--out", target, "--steps", "2", *SMALL)
    train(toy, "--out", link, "--overwrite", "--steps", "4", *SMALL)
    assert link.is_symlink()
    assert load_policy(target).step == 4


def test_a_second_process_is_told_who_trains(toy, tmp_path, capsys):
    run = tmp_path / "run"
    train(toy, "--out", run, "--steps", "2", *SMALL)
    was = files(run)
    with (run / ".lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for words in (["--resume", run], [toy, "--out", run, "--overwrite", *SMALL]):
            message = fails(capsys, *words)
            assert f"is being trained by process {os.getpid()} on " in message
            assert " since 20" in message
        assert load_policy(run).step == 2
    assert files(run) == was


def test_a_damaged_line_of_a_log_is_named(toy, tmp_path, capsys):
    run = tmp_path / "run"
    train(toy, "--out", run, "--steps", "6", *SMALL)
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text(lines[0] + '{"step": 4, "act\n' + lines[2])
    message = fails(capsys, "--resume", run, "--steps", "8")
    assert f"{run / 'metrics.jsonl'}, line 2 is damaged" in message
    assert Run.open(run).config.training.steps == 6


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


# TensorStore tells every damaged array, the later ones of them when nobody listens any more.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_damaged_checkpoint_is_named_and_the_sound_one_before_it(toy, tmp_path, capsys):
    run = tmp_path / "run"
    train(toy, "--out", run, "--steps", "4", *SMALL)
    train(toy, "--out", tmp_path / "whole", "--steps", "6", *SMALL)
    for file in (run / "checkpoints" / "4" / "params").rglob("d/*"):
        flip(file)
    message = fails(capsys, "--resume", run, "--steps", "6")
    assert str(run / "checkpoints" / "4") in message
    assert "of step 2, is sound: add --from-step 2" in message
    assert [line["step"] for line in Run.open(run).records("metrics")] == [2, 4]
    train("--resume", run, "--steps", "6", "--from-step", "2")
    assert [line["step"] for line in Run.open(run).records("metrics")] == [2, 4, 6]
    state = np.zeros(2, np.float32)
    np.testing.assert_array_equal(
        load_policy(run).act(state, state), load_policy(tmp_path / "whole").act(state, state)
    )
    for file in (run / "checkpoints").rglob("d/*"):
        flip(file)
    message = fails(capsys, "--resume", run, "--steps", "8")
    assert "no sound one before it: add --from-step 0" in message
    train("--resume", run, "--steps", "2", "--from-step", "0")
    assert load_policy(run).step == 2


def test_one_seed_that_is_lost_is_frozen_and_the_others_go_on(toy, tmp_path, capsys, monkeypatch):
    from farstep.agents.gcbc import GCBC

    init = GCBC.init

    def spoiled(self, spaces, key):
        """Networks of seed 1 that overflow after some updates."""
        import jax
        import jax.numpy as jnp

        state = init(self, spaces, key)
        other = jax.random.key_data(key)[1] == jax.random.key_data(lost)[1]
        factor = jnp.where(other, jnp.float32(np.nan), 1.0)
        return jax.tree.map(
            lambda leaf: leaf * factor if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, state
        )

    from farstep.core.rng import root_key, stream_key

    lost = stream_key(root_key(1), "init", 0)
    monkeypatch.setattr(GCBC, "init", spoiled)
    base = tmp_path / "runs"
    message = fails(capsys, toy, "--out", base, "--steps", "4", "--seeds", "3", *SMALL)
    assert f"{base / 's1'}: " in message
    assert "became infinite or NaN by update 2" in message
    assert [load_policy(base / seed).step for seed in ("s0", "s2")] == [4, 4]
    assert not Run.open(base / "s1").records("metrics")
    train("--resume", base, "--steps", "6")
    assert f"{base / 's1'} was frozen and is left out" in capsys.readouterr().out
    assert [load_policy(base / seed).step for seed in ("s0", "s2")] == [6, 6]
