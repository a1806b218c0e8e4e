"""Where the jobs of a sweep run: processes of this machine, SLURM by submitit, or Ray.

An engine starts jobs and knows whether they are over. How a job ended is read from its files, so
that a worker that vanishes needs no word of farewell.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, Protocol

from farstep.core.errors import FarstepError, install_command
from farstep.sweeps.job import Job, attempt

EngineName = Literal["local", "slurm", "ray"]

STOP_SECONDS = 60
"""How long a job that is asked to stop has to save before it is killed."""


class Handle(Protocol):
    """A job that was started."""

    def over(self) -> bool: ...

    def cancel(self) -> None: ...


class Engine(Protocol):
    """Starts jobs; `slots` is how many it is given at once."""

    slots: int

    def submit(self, job: Job) -> Handle: ...

    def close(self) -> None: ...


def make_engine(
    name: EngineName, *, workers: int, place: Path, address: str | None, options: Mapping[str, Any]
) -> Engine:
    """The engine of this name.

    Args:
        workers: jobs at once.
        place: a directory for its files.
        address: of a Ray cluster; one is started on this machine by default.
        options: as submitit's `update_parameters` or Ray's `remote` take them.

    Raises:
        FarstepError: its package is missing, or an argument is not for this engine.
    """
    if workers < 1:
        raise FarstepError(f"--workers must be at least 1, not {workers}.")
    if address is not None and name != "ray":
        raise FarstepError("--address is that of a Ray cluster; add --engine ray.")
    if name == "local":
        return LocalEngine(workers)
    try:
        if name == "slurm":
            return SlurmEngine(workers, place, options)
        return RayEngine(workers, address, options)
    except ImportError as error:
        raise FarstepError(
            f"--engine {name} needs a package that is missing ({error}): {install_command(name)}"
        ) from error


class LocalEngine:
    """A process a job on this machine; all end with the process that started them."""

    def __init__(self, workers: int):
        self.slots = workers

    def submit(self, job: Job) -> Handle:
        job.log.parent.mkdir(parents=True, exist_ok=True)
        # Beside what the job itself logs, what ends a process without Python's knowledge.
        with job.log.open("a", encoding="utf-8") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "farstep.sweeps.worker"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                text=True,
                # Ctrl-C is for the sweep, which then asks its workers once to save and stop.
                start_new_session=True,
            )
        return _Process(process, job.to_json())

    def close(self) -> None:
        pass


class _Process:
    def __init__(self, process: subprocess.Popen[str], document: str):
        assert process.stdin is not None
        self._process, self._input = process, process.stdin
        with suppress(BrokenPipeError):
            self._input.write(document + "\n")
            self._input.flush()

    def over(self) -> bool:
        if self._process.poll() is None:
            return False
        self._input.close()
        return True

    def cancel(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._input.close()


def serve_one() -> None:
    """A local worker: read a job from standard input, do it, and stop when the input ends."""
    document = sys.stdin.readline()

    def watch() -> None:
        sys.stdin.read()  # Returns when the process that started this one is gone.
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(STOP_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    attempt(document)


class SlurmEngine:
    """Jobs of SLURM by submitit, which also runs them on this machine with `cluster = "local"`."""

    def __init__(self, workers: int, place: Path, options: Mapping[str, Any]):
        submitit = importlib.import_module("submitit")
        self.slots = workers
        parameters = {"timeout_min": 24 * 60, "name": "farstep"} | dict(options)
        cluster = parameters.pop("cluster", "slurm")
        try:
            self._executor = submitit.AutoExecutor(folder=place / "submitit", cluster=cluster)
            self._executor.update_parameters(**parameters)
        except (ValueError, TypeError, NameError, RuntimeError) as error:
            raise FarstepError(f"submitit refuses [slurm]: {error}") from error

    def submit(self, job: Job) -> Handle:
        return _Submitted(self._executor.submit(attempt, job.to_json()))

    def close(self) -> None:
        pass


class _Submitted:
    def __init__(self, job: Any):
        self._job = job

    def over(self) -> bool:
        return self._job.done()

    def cancel(self) -> None:
        self._job.cancel(check=False)


class RayEngine:
    """Tasks of Ray, on a cluster of this machine unless an address is given."""

    def __init__(self, workers: int, address: str | None, options: Mapping[str, Any]):
        ray = importlib.import_module("ray")
        self.slots = workers
        self._ray = ray
        own = {"num_cpus": workers, "include_dashboard": False} if address is None else {}
        try:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR", **own)
            # Lost jobs are started again by the sweep, which counts them.
            settings = {"num_cpus": 1, "max_retries": 0} | dict(options)
            self._attempt = ray.remote(**settings)(attempt)
        except (ConnectionError, ValueError, TypeError, RuntimeError) as error:
            raise FarstepError(f"Ray does not start with these settings: {error}") from error

    def submit(self, job: Job) -> Handle:
        return _Task(self._ray, self._attempt.remote(job.to_json()))

    def close(self) -> None:
        self._ray.shutdown()


class _Task:
    def __init__(self, ray: Any, reference: Any):
        self._ray, self._reference = ray, reference

    def over(self) -> bool:
        return bool(self._ray.wait([self._reference], timeout=0)[0])

    def cancel(self) -> None:
        self._ray.cancel(self._reference)
        self._ray.wait([self._reference], timeout=STOP_SECONDS)
