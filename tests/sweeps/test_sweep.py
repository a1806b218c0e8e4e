"""`farstep sweep`: its file, what it does and leaves out; workers and drivers that are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from farstep.cli.main import main
from farstep.data.table import TableWriter
from farstep.serving.policy import load_policy
from farstep.sweeps.engines import make_engine
from farstep.sweeps.job import Job, attempt
from farstep.sweeps.sweep import Sweep, carry_out
from farstep.training.run import Run

MEDIUM = "pointmaze-medium-v0"


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "walk"
    rng = np.random.default_rng(0)
    with TableWriter(path / "train", (2,), "float32", 2) as writer:
        for _ in range(4):
            actions = rng.uniform(-1, 1, (20, 2)).astype(np.float32)
            writer.append(np.cumsum(actions, axis=0), actions)
    return path


def written(place: Path, data: Path, text: str = "", **training: int) -> Path:
    """A sweep's file."""
    options = {"steps": 4, "checkpoint_every": 2, "log_every": 2} | training
    lines = [f"{name} = {value}" for name, value in options.items()]
    path = place / "sweep.toml"
    path.write_text(
        f'out = "{place / "out"}"\ndatasets = "{data}"\npresets = "small"\n{text}\n'
        "[hyperparameters]\nhidden = [8, 8]\nbatch_size = 4\n"
        "[training]\n" + "\n".join(lines)
    )
    return path


@dataclass
class Here:
    """An engine that does each job at once, in this process."""

    slots: int = 1
    jobs: list[str] = field(default_factory=list)

    def submit(self, job: Job) -> Here:
        self.jobs.append(job.name)
        attempt(job.to_json())
        return self

    def over(self) -> bool:
        return True

    def cancel(self) -> None: ...

    def close(self) -> None: ...


def test_what_is_done_is_left_out_and_what_failed_is_tried_again(data, tmp_path, capsys):
    file = written(tmp_path, data, 'agents = "gcbc"\nseeds = [3, 5]')
    away = tmp_path / "away"
    sweep, told = Sweep.read(file), []
    (tmp_path / "out").mkdir()
    data.rename(away)
    try:
        outcomes = carry_out(
            sweep.jobs, Here(), retries=2, told=lambda job, what: told.append(what)
        )
    finally:
        away.rename(data)
    assert set(outcomes.values()) == {"failed"}
    assert any(what.startswith("failed: ") and str(data) in what for what in told)

    main(["sweep", str(file), "--dry-run"])
    assert capsys.readouterr().out.count("failed") == 2
    first, again = Here(), Here()
    outcomes = carry_out(Sweep.read(file).jobs, first, retries=2, told=lambda *_: None)
    assert outcomes == {"walk/gcbc-small/s3": "done", "walk/gcbc-small/s5": "done"}
    assert first.jobs == list(outcomes)
    assert [job.failure for job in sweep.jobs] == [None, None]
    assert Run.open(tmp_path / "out/walk/gcbc-small/s5").records("metrics")[-1]["step"] == 4
    carry_out(sweep.jobs, again, retries=2, told=lambda *_: None)
    assert again.jobs == []

    # More steps extend what is there; anything else is another run.
    longer = Sweep.read(written(tmp_path, data, 'agents = "gcbc"\nseeds = [3, 5]', steps=6))
    assert [job.done for job in longer.jobs] == [False, False]
    carry_out(longer.jobs[:1], again, retries=0, told=lambda *_: None)
    assert Run.open(tmp_path / "out/walk/gcbc-small/s3").records("metrics")[-1]["step"] == 6
    with pytest.raises(SystemExit):
        main(["sweep", str(written(tmp_path, data, 'agents = "gcbc"\nseeds = [3]'))])
    assert "made with other settings" in capsys.readouterr().err


def test_a_grid_and_a_list(data, tmp_path):
    text = (
        'agents = ["gcbc", "crl"]\nseeds = 2\ntogether = true\n'
        "[[runs]]\n[[runs]]\nagents = 'crl'\nlabel = 'warm'\nhyperparameters = {alpha = 0.5}\n"
        "goal = '0'\nframes = 2\n[execution]\ndata_location = 'stream'\n"
    )
    jobs = {job.name: job for job in Sweep.read(written(tmp_path, data, text)).jobs}
    assert list(jobs) == [
        "walk/gcbc-small/s0-1",
        "walk/crl-small/s0-1",
        "walk/crl-small-warm/s0-1",
    ]
    warm = jobs["walk/crl-small-warm/s0-1"]
    assert list(warm.paths) == [0, 1]
    assert warm.agent == json_round_trip(warm).agent
    assert (vars(warm.agent)["alpha"], warm.agent.batch_size) == (0.5, 4)
    assert {job.execution.data_location for job in jobs.values()} == {"stream"}
    assert (jobs["walk/crl-small/s0-1"].goal, jobs["walk/crl-small/s0-1"].frames) == (
        "observation",
        1,
    )
    attempt(warm.to_json())
    for path in warm.paths.values():
        spaces = Run.open(path).config.spaces
        assert (spaces.goal.shape, spaces.observation.shape, spaces.frames) == ((1,), (4,), 2)


def json_round_trip(job: Job) -> Job:
    return Job.from_json(job.to_json())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "'agents' says nothing"),
        ('agents = "gcbcc"', "Did you mean 'gcbc'"),
        ('agents = "gcbc"\nseed = 3', "Did you mean 'seeds'"),
        ('agents = "gcbc"\nseeds = "three"', "'seeds' must be how many"),
        ('agents = "gcbc"\nseeds = [0, 2]\ntogether = true', "must follow each other"),
        ('agents = "gcbc"\n[evaluation]\nepisode = 3', "Did you mean 'episodes'"),
        ('agents = "gcbc"\n[evaluation]\nexecute = 2', "gcbc gives 1 actions at once"),
        ('agents = "gcbc"\ngoal = "0,7"', "without column 7"),
        ('agents = "gcbc"\nframes = "two"', "'frames' must be a whole number"),
        ('agents = "gcbc"\nframes = 0', "--frames must be at least 1"),
        ('agents = "gcbc"\n[execution]\ndevices = "all"', "devices must be a whole number"),
        ('agents = "gcbc"\n[[runs]]\n[[runs]]', "is there twice"),
        ("agents = ", "not a TOML file"),
    ],
)
def test_a_file_that_asks_for_what_there_is_not(data, tmp_path, capsys, text, says):
    with pytest.raises(SystemExit) as stopped:
        main(["sweep", str(written(tmp_path, data, text))])
    assert stopped.value.code == 2
    assert says in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_an_engine_whose_package_is_missing_is_named(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SystemExit):
        main(["sweep", str(written(tmp_path, data, 'agents = "gcbc"')), "--engine", "ray"])
    assert "EXTRAS=" in capsys.readouterr().err


RAY = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
"""Ray leaves sockets and processes of its cluster to the garbage collector."""

LONG = {"steps": 3000, "checkpoint_every": 100, "log_every": 1000}
ONE = 'agents = "gcbc"\nseeds = [7]'


@pytest.mark.slow
@pytest.mark.parametrize("name", ["local", "slurm", pytest.param("ray", marks=RAY)])
def test_a_killed_worker_loses_nothing(name, data, tmp_path):
    """Its job goes on elsewhere from its checkpoint, and ends where an undisturbed one ends."""
    if name != "local":
        pytest.importorskip({"slurm": "submitit", "ray": "ray"}[name])
    (tmp_path / "calm").mkdir()
    (calm,) = Sweep.read(written(tmp_path / "calm", data, ONE, **LONG)).jobs
    attempt(calm.to_json())
    (job,) = Sweep.read(written(tmp_path, data, ONE, **LONG)).jobs
    options = {"cluster": "local"} if name == "slurm" else {}
    engine = make_engine(name, workers=1, place=tmp_path, address=None, options=options)
    told: list[str] = []
    killer = threading.Thread(target=kill_trainer, args=(job,))
    killer.start()
    try:
        outcomes = carry_out([job], engine, retries=2, told=lambda _, what: told.append(what))
    finally:
        engine.close()
    killer.join()
    assert outcomes == {job.name: "done"}, job.log.read_text()
    assert any("lost its worker" in what for what in told)
    for path in (*calm.paths.values(), *job.paths.values()):
        load_policy(path).save(path / "policy")
    weights = [(one.paths[7] / "policy" / "policy.safetensors").read_bytes() for one in (calm, job)]
    assert weights[0] == weights[1]


@pytest.mark.slow
def test_a_killed_driver_leaves_no_worker_and_its_sweep_goes_on(data, tmp_path):
    file = written(tmp_path, data, ONE, **LONG)
    (job,) = Sweep.read(file).jobs
    command = [sys.executable, "-c", DRIVE, "sweep", str(file)]
    driver = subprocess.Popen(command)
    wait_until(lambda: job.updates > 0)
    driver.kill()
    driver.wait()
    wait_until(lambda: not job.busy)
    stopped = job.updates
    assert 0 < stopped < LONG["steps"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"started, {stopped:,} of 3,000" in done.stdout
    assert job.done


DRIVE = "import sys; from farstep.cli.main import main; main(sys.argv[1:])"


def kill_trainer(job: Job) -> None:
    """SIGKILL to whichever process trains, as soon as it has saved a checkpoint."""
    wait_until(lambda: job.updates > 0)
    lock = job.paths[7] / ".lock"
    os.kill(json.loads(lock.read_text())["pid"], signal.SIGKILL)


def wait_until(condition, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
