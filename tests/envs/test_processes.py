"""Worker processes that answer, fail, die, and end with their parent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from farstep.core.errors import FarstepError
from farstep.envs.processes import Worker, in_order

SERVICE = """
import json, os, signal, sys
from farstep.core.errors import FarstepError

kept = []

def service(config):
    if config.get("broken"):
        raise FarstepError("cannot be built")
    def answer(request):
        word = request.decode()
        if word == "modules":
            import farstep.envs.pool, farstep.collect.mazes
            return json.dumps(sorted(sys.modules)).encode()
        if word == "print":
            print("noise on the standard output", flush=True)
            os.write(1, b"and below it")
        if word == "bad":
            raise FarstepError("that is bad input")
        if word == "defect":
            raise ZeroDivisionError("a defect")
        if word == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if word == "child":
            from farstep.envs.processes import Worker
            kept.append(Worker("answering:service", {}))
            kept[0].send(b"a")
            kept[0].receive()
            return str(kept[0].pid).encode()
        if word == "random":
            import random
            return str(random.__file__).encode()
        if word == "path":
            return json.dumps(sys.path).encode()
        if word == "hang":
            import time
            time.sleep(600)
        if word == "exit":
            os._exit(3)
        return f"{config.get('name', '')}{word}".encode()
    return answer
"""


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A service that a child can import."""
    (tmp_path / "answering.py").write_text(SERVICE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "answering:service"


def test_answers_come_back_in_the_order_of_the_requests(service: str) -> None:
    with Worker(service, {"name": "n"}) as worker:
        for word in (b"a", b"print", b"", b"x" * 100_000):
            worker.send(word)
            assert worker.receive() == b"n" + word


def test_errors_keep_their_kind_and_the_worker_goes_on(service: str) -> None:
    with Worker(service, {}) as worker:
        worker.send(b"bad")
        with pytest.raises(FarstepError, match="that is bad input"):
            worker.receive()
        worker.send(b"defect")
        with pytest.raises(RuntimeError, match="ZeroDivisionError: a defect"):
            worker.receive()
        worker.send(b"fine")
        assert worker.receive() == b"fine"


def test_a_service_that_cannot_be_built_says_so(service: str) -> None:
    with Worker(service, {"broken": True}) as worker:
        worker.send(b"a")
        with pytest.raises(FarstepError, match="cannot be built"):
            worker.receive()


@pytest.mark.parametrize(
    ("last_word", "how"), [(b"die", "by signal SIGKILL"), (b"exit", "with status 3")]
)
def test_a_dead_worker_is_an_error_at_once(service: str, last_word: bytes, how: str) -> None:
    with Worker(service, {}) as worker:
        worker.send(last_word)
        with pytest.raises(FarstepError, match=how):
            worker.receive()
        with pytest.raises(FarstepError, match=how):
            ask(worker, b"a")


def test_a_worker_that_is_killed_while_idle_is_an_error_at_once(service: str) -> None:
    with Worker(service, {}) as worker:
        worker.send(b"a")
        worker.receive()
        os.kill(worker.pid, signal.SIGKILL)
        with pytest.raises(FarstepError, match="SIGKILL"):
            ask(worker, b"a")


def test_children_import_no_module_of_the_working_directory_in_place_of_pythons(
    service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "random.py").write_text("raise SystemExit('the wrong random')")
    monkeypatch.chdir(elsewhere)
    with Worker(service, {}) as worker:
        assert str(elsewhere).encode() not in ask(worker, b"random")


def test_children_find_what_their_parent_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After what they find themselves, and with the directory that was the working one."""
    (tmp_path / "answering.py").write_text(SERVICE)
    monkeypatch.syspath_prepend("")
    monkeypatch.chdir(tmp_path)
    with Worker("answering:service", {}) as worker:
        found = json.loads(ask(worker, b"path"))
    assert found.index(str(tmp_path)) > found.index(str(Path(os.__file__).parent))


def test_a_worker_that_hangs_is_named(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Worker(service, {}, name="the worker of slots 0, 2") as worker:
        assert ask(worker, b"a") == b"a"
        monkeypatch.setenv("FARSTEP_PATIENCE", "0.5")
        worker.send(b"hang")
        began = time.monotonic()
        with pytest.raises(FarstepError, match=r"the worker of slots 0, 2 \(process \d+\) has not"):
            worker.receive()
        assert time.monotonic() - began < 5


def test_ctrl_c_at_once_prints_nothing_of_the_workers(service: str, tmp_path: Path) -> None:
    """Ctrl-C reaches the whole process group, while children are still starting."""
    (tmp_path / "sitecustomize.py").write_text("import time; time.sleep(0.4)")
    program = f"""
import os, signal, time
from farstep.envs.processes import Worker
try:
    workers = [Worker({service!r}, {{}}) for _ in range(3)]
    time.sleep(0.2)
    os.killpg(0, signal.SIGINT)
except KeyboardInterrupt:
    pass
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, start_new_session=True
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_children_import_neither_jax_nor_a_simulator_by_themselves(service: str) -> None:
    with Worker(service, {}) as worker:
        worker.send(b"modules")
        loaded = set(json.loads(worker.receive()))
    assert "farstep.envs.pool" in loaded
    assert loaded.isdisjoint({"jax", "equinox", "mujoco", "gymnasium", "ogbench", "scipy"})


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_in_order_is_in_order(service: str, processes: int) -> None:
    words = [str(n).encode() for n in range(11)]
    assert list(in_order(service, [{}] * processes, words)) == words


def test_in_order_ends_its_processes_when_it_is_abandoned(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids = []

    class Noted(Worker):
        def __init__(self, *args: Any):
            super().__init__(*args)
            pids.append(self.pid)

    monkeypatch.setattr("farstep.envs.processes.Worker", Noted)
    answers = in_order(service, [{}] * 2, [b"a"] * 10)
    assert next(answers) == b"a"
    answers.close()
    assert len(pids) == 2
    assert not any(alive(pid) for pid in pids)


def test_children_end_when_their_parent_is_killed(service: str) -> None:
    with Worker(service, {}) as parent:
        child = int(ask(parent, b"child"))
        assert alive(child)
        os.kill(parent.pid, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while alive(child) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not alive(child)


def ask(worker: Worker, request: bytes) -> bytes:
    worker.send(request)
    return worker.receive()


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended but is not yet collected does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")
