import json
import subprocess
import sys

import numpy as np
import pytest

from farstep.agents.mqe import MQE
from farstep.cli.main import main
from farstep.core.errors import FarstepError
from farstep.core.types import Actions, Space, Spaces
from farstep.data.normalize import Normalization
from farstep.data.table import TableWriter
from farstep.serving.policy import load_policy
from farstep.training.checkpoint import Checkpoints
from farstep.training.config import VERSION, DatasetReference, RunConfig, TrainConfig
from farstep.training.run import Run

SPACES = Spaces.from_observation(Space((2,)), Actions(2))
TINY = [
    *("--hidden", "16", "16", "--latent", "32", "--batch-size", "16"),
    *("--log-every", "5", "--steps", "20"),
]


@pytest.fixture
def config():
    return RunConfig(
        agent=MQE(hidden=(8,)),
        training=TrainConfig(steps=10),
        dataset=DatasetReference(name="toy", path="/toy", digest="abc", environment=None),
        spaces=SPACES,
        normalization=Normalization(np.array([0.1, 0.2], "f4"), np.array([1, 1 / 3], "f4")),
    )


def test_a_configuration_survives_its_file(config, tmp_path):
    Run.create(tmp_path / "run", config)
    read = Run.open(tmp_path / "run").config
    assert read.to_json() == config.to_json()
    assert read.agent == config.agent
    np.testing.assert_array_equal(read.normalization.std, config.normalization.std)
    environment = json.loads((tmp_path / "run" / "env.json").read_text())
    assert environment["versions"]["jax"]
    assert environment["devices"]
    assert environment["matmul_precision"] is None


def test_what_a_killed_start_leaves_is_in_nobodys_way(config, tmp_path):
    path = tmp_path / "run"
    path.mkdir()
    Run.check_free(path, overwrite=False)
    for name in (".lock", "env.json", ".config.1234abcd.partial.json"):
        (path / name).touch()
    Run.check_free(path, overwrite=False)
    assert Run.create(path, config).config == config
    assert not list(path.glob("*.partial*"))
    with pytest.raises(FarstepError, match="exists already"):
        Run.check_free(path, overwrite=False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a run's configuration"),
        ('{"format": "farstep-run", "version": 9}', "version 9"),
        (f'{{"format": "farstep-run", "version": {VERSION}}}', "not a run's configuration"),
        ('{"architectures": ["Bert"]}', "not a run's configuration"),
    ],
)
def test_a_damaged_configuration_is_named(text, message, config, tmp_path):
    Run.create(tmp_path / "run", config)
    (tmp_path / "run" / "config.json").write_text(text)
    with pytest.raises(FarstepError, match=message):
        Run.open(tmp_path / "run")


def test_what_is_no_run_is_never_replaced(config, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(FarstepError, match="exists already"):
        Run.create(tmp_path, config)
    with pytest.raises(FarstepError, match="not a run directory"):
        Run.create(tmp_path, config, overwrite=True)
    assert (tmp_path / "thesis.tex").exists()


def test_logs_forget_what_a_crash_cut_short_and_what_comes_after_a_checkpoint(config, tmp_path):
    run = Run.create(tmp_path / "run", config)
    for step in (1, 2, 3):
        run.append("metrics", {"step": step})
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    assert [record["step"] for record in run.records("metrics")] == [1, 2, 3]
    run.proceed(2)
    assert (run.path / "metrics.jsonl").read_text() == '{"step": 1}\n{"step": 2}\n'


def test_the_latest_and_the_best_checkpoints_are_kept(tmp_path):
    scores = {1: 0.2, 2: 0.9, 3: None, 4: 0.5, 5: None}
    with Checkpoints(tmp_path, keep=2, writable=True) as checkpoints:
        with pytest.raises(FarstepError, match="no checkpoint yet"):
            checkpoints.find("last")
        for step, success in scores.items():
            tree = {"kernel": np.full(3, step, np.float32)}
            checkpoints.save(step, {"params": tree}, success=success)
        assert checkpoints.steps == [2, 4, 5]
        assert checkpoints.find("best") == 2
        assert checkpoints.find("last") == 5
        with pytest.raises(FarstepError, match="step 3; it has 2, 4, 5"):
            checkpoints.find(3)
    with Checkpoints(tmp_path, keep=2) as reopened:
        skeleton = {"kernel": np.zeros(3, np.float32)}
        restored = reopened.restore(2, {"params": skeleton})
        np.testing.assert_array_equal(restored["params"]["kernel"], [2, 2, 2])
        assert reopened.find("best") == 2


FILL_THE_DISK = """
import resource, sys
from pathlib import Path
import numpy as np
from farstep.core.errors import FarstepError
from farstep.training.checkpoint import Checkpoints
weights = np.random.default_rng(0).normal(size=1_000_000).astype(np.float32)
with Checkpoints(Path(sys.argv[1]), keep=2, writable=True) as checkpoints:
    checkpoints.save(1, {"params": {"kernel": weights[:3]}})
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    try:
        checkpoints.save(2, {"params": {"kernel": weights}})
    except FarstepError as error:
        print(error)
"""


def test_a_disk_that_fills_while_a_checkpoint_is_saved_costs_that_one_alone(tmp_path):
    """A limit on file sizes fails the write system call just as a full disk does."""
    done = subprocess.run(
        [sys.executable, "-c", FILL_THE_DISK, str(tmp_path)],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert "Could not save a checkpoint of step 2" in done.stdout
    assert "Free some space and continue with --resume" in done.stdout
    assert "Traceback" not in done.stderr
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        assert checkpoints.find("last") == 1
        restored = checkpoints.restore(1, {"params": {"kernel": np.zeros(3, np.float32)}})
        expected = np.random.default_rng(0).normal(size=3)
        np.testing.assert_array_equal(restored["params"]["kernel"], expected.astype(np.float32))


def test_a_checkpoint_of_other_networks_is_refused(tmp_path):
    with Checkpoints(tmp_path, writable=True) as checkpoints:
        checkpoints.save(1, {"params": {"kernel": np.zeros(3, np.float32)}})
        with pytest.raises(FarstepError, match=r"kernel|checkpoint"):
            checkpoints.restore(1, {"params": {"bias": np.zeros(3, np.float32)}})


def test_training_stops_where_a_metric_is_lost_and_names_it(tmp_path, capsys):
    with TableWriter(tmp_path / "huge", (2,), "float32", 2) as writer:
        states = np.full((40, 2), 1e38, np.float32)
        states[::2] *= -1
        writer.append(states, np.zeros((40, 2), np.float32))
    with pytest.raises(SystemExit) as caught:
        main(["train", str(tmp_path / "huge"), "--out", str(tmp_path / "run"), *TINY])
    assert caught.value.code == 2
    message = capsys.readouterr().err
    assert "became infinite or NaN by update" in message
    assert "/" in message.split(":")[2]
    with pytest.raises(FarstepError, match="no checkpoint"):
        load_policy(tmp_path / "run")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere"),
        (["TOY", "--agent", "mqee"], "Did you mean 'mqe'"),
        (["TOY", "--preset", "smal"], "Did you mean 'small'"),
        (["TOY", "--steps", "0"], "steps must be at least 1"),
        (["TOY", "--seed", "4294967296"], "seed must be at least 0 and below 2³²"),
        (["TOY", "--seed", "4294967295", "--seeds", "2"], "not 4294967296"),
        (["TOY", "--seeds", "0"], "--seeds must be at least 1"),
        (["TOY", "--out", "EXISTING"], "exists already"),
        (["--resume", "MISSING"], "not a run directory"),
        (["TOY", "--resume"], "--resume"),
        ([], "give a DATASET"),
        (["TOY", "--from-step", "3"], "--from-step needs --resume"),
        (["TOY", "--max-minutes", "-1"], "--max-minutes must be positive"),
        (["TOY", "--wandb", "mine"], "--wandb needs what is not installed"),
        (["TOY", "--alfa", "1"], "--alfa"),
    ],
)
def test_bad_input_is_one_clear_error_before_any_work(
    arguments, message, toy, tmp_path, monkeypatch, capsys
):
    (tmp_path / "existing").mkdir()
    (tmp_path / "existing" / "mine").touch()
    places: dict[str, str] = {
        "TOY": str(toy),
        "EXISTING": str(tmp_path / "existing"),
        "MISSING": "missing",
    }
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "wandb", None)
    words = list(arguments)
    for place, path in places.items():
        words = [path if word == place else word for word in words]
    if not {"--out", "--resume"} & set(words):
        words += ["--out", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as caught:
        main(["train", *words])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["existing"]


def test_a_run_can_be_followed_in_tensorboard(toy, tmp_path):
    main(["train", str(toy), "--out", str(tmp_path / "run"), "--tensorboard", *TINY])
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))


def test_training_ends_when_its_time_is_up(toy, tmp_path):
    limits = ["--steps", "100000000", "--max-minutes", "0.005"]
    main(["train", str(toy), "--out", str(tmp_path / "run"), *TINY, *limits])
    run = Run.open(tmp_path / "run")
    step = run.records("metrics")[-1]["step"]
    with Checkpoints(run.path / "checkpoints") as checkpoints:
        assert checkpoints.steps[-1] == step


def test_an_export_of_a_run_acts_like_the_run(toy, tmp_path, capsys):
    run = str(tmp_path / "run")
    main(["train", str(toy), "--out", run, "--normalize", *TINY])
    assert "its values for all datasets stand" in " ".join(capsys.readouterr().out.split())
    main(["export", run])
    exported, original = load_policy(f"{run}/policy"), load_policy(run)
    states, goals = np.random.default_rng(0).normal(size=(2, 4, 2)).astype(np.float32)
    np.testing.assert_array_equal(exported.act(states, goals), original.act(states, goals))
    assert np.any(exported.normalization.std != 1)
    with pytest.raises(SystemExit) as caught:
        main(["export", run])
    assert caught.value.code == 2
    assert "already exists" in capsys.readouterr().err
