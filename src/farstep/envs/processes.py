"""Child Python processes that simulate, talking in frames over their standard streams.

Plain `multiprocessing` does not fit here. A fork of a process that runs JAX's threads can deadlock,
and `spawn` imports the caller's main module again in every child, which starts a second JAX and
breaks scripts without a main guard. A child here imports the one module that it serves. It ends
when its parent does, however that dies, because its standard input ends; and a parent notices a
dead child, because the child's standard output ends.

A frame is one byte for its kind, four for its length, and the content.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import select
import signal
import struct
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Self

from farstep.core.errors import FarstepError

_HEADER = struct.Struct("<cI")
_ANSWER, _BAD_INPUT, _DEFECT = b"a", b"i", b"d"

# A child simulates one environment after the other, and its numerical libraries gain nothing from
# threads of their own but would take the cores of its siblings.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

# The package's front door imports JAX, whose start takes longer than a simulator's; a child gets a
# package of the same modules without it.
#
# What the parent can import, a child can; but its own places come first, so that a file of the
# working directory that is called random.py takes no module's place.
_BOOT = """
import sys, types
package = types.ModuleType("farstep")
package.__path__ = [sys.argv[1]]
sys.modules["farstep"] = package
sys.path += [place for place in sys.argv[2:] if place not in sys.path]
from farstep.envs.processes import run
run()
"""
_PACKAGE = Path(__file__).parents[1]

ALERT = 2e-3
"""Seconds that a child looks for its next request before it sleeps. The few tenths of a millisecond
of a policy call are enough for a core to go idle, and it simulates more slowly after that."""


class Worker:
    """A child process that serves requests.

    Args:
        service: `module:function`; the function takes the configuration and returns a handler of
            requests, from bytes to bytes.
        config: JSON values for it.
        name: purpose of the process, for messages.

    Use as a context manager, or call `close`.
    """

    def __init__(self, service: str, config: Mapping[str, Any], name: str = "a worker"):
        self._name = name
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _BOOT, str(_PACKAGE), *map(os.path.abspath, sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | _ONE_THREAD,
            # Ctrl-C reaches the terminal's whole process group, from the first moment on. The
            # parent alone decides what it means.
            process_group=0,
        )
        assert self._process.stdout is not None
        self._answers = select.poll()
        self._answers.register(self._process.stdout, select.POLLIN)
        self.send(json.dumps({"service": service, "config": config}).encode())

    @property
    def pid(self) -> int:
        """The child's process number."""
        return self._process.pid

    def send(self, request: bytes) -> None:
        """Ask for something; `receive` waits for the answer.

        Raises:
            FarstepError: the process has died.
        """
        assert self._process.stdin is not None
        try:
            _write(self._process.stdin, _ANSWER, request)
        except (BrokenPipeError, ValueError) as error:
            raise self._died() from error

    def receive(self) -> bytes:
        """The next answer, in the order of the requests.

        Raises:
            FarstepError: the request was wrong, or the process has died or hangs.
            RuntimeError: the service has failed; holds its traceback.
        """
        try:
            kind, content = _read(self._read_some)
        except (EOFError, ValueError) as error:
            raise self._died() from error
        if kind == _BAD_INPUT:
            raise FarstepError(content.decode())
        if kind == _DEFECT:
            raise RuntimeError(f"{self._name} failed:\n{content.decode()}")
        return content

    def close(self) -> None:
        """End the process. Does nothing the second time."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None and not stream.closed:
                # The process may have died, so that nothing can be flushed.
                with suppress(BrokenPipeError):
                    stream.close()
        self._process.kill()  # a simulation has nothing to save
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read_some(self, size: int) -> bytes:
        assert self._process.stdout is not None
        patience = _patience()
        if not self._answers.poll(1000 * patience):
            raise FarstepError(
                f"{self._name} (process {self.pid}) has not answered for {patience:g} seconds, and "
                "seems to hang. If its work takes longer than that, set FARSTEP_PATIENCE to more "
                "seconds."
            )
        return os.read(self._process.stdout.fileno(), size)

    def _died(self) -> FarstepError:
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return FarstepError(f"{self._name} (process {self.pid}) closed its connection")
        how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with status {code}"
        return FarstepError(
            f"{self._name} (process {self.pid}) ended {how} before it had answered; its own "
            "messages are above. SIGKILL is often the system's answer to too little memory: use "
            "fewer processes or slots"
        )


def run() -> None:
    """The child's side: serve until the parent closes the connection."""
    requests = os.fdopen(os.dup(0), "rb", buffering=0)  # so that `select` sees all there is
    answers = os.fdopen(os.dup(1), "wb")
    # Output of libraries must not end up among the frames.
    os.dup2(2, 1)
    # Either means that the parent has closed the connection or died.
    with suppress(EOFError, BrokenPipeError):
        _serve(requests, answers)
    # Skips the flush of `answers`, which fails if the parent has died.
    os._exit(0)


def _serve(requests: BinaryIO, answers: BinaryIO) -> None:
    _, start = _read(requests.read)
    described = json.loads(start)
    module, _, function = described["service"].partition(":")

    @functools.cache
    def handler() -> Callable[[bytes], bytes]:
        return getattr(importlib.import_module(module), function)(described["config"])

    while True:
        _look(requests)
        _, request = _read(requests.read)
        try:
            answer = handler()(request)
        except FarstepError as error:
            _write(answers, _BAD_INPUT, str(error).encode())
        except Exception:
            _write(answers, _DEFECT, traceback.format_exc().encode())
        else:
            _write(answers, _ANSWER, answer)


def _look(stream: Any) -> None:
    """Return when there is something to read, or after a while; give way to others meanwhile."""
    until = time.monotonic() + ALERT
    while time.monotonic() < until and not select.select([stream], [], [], 0)[0]:
        os.sched_yield()


def _write(stream: Any, kind: bytes, content: bytes) -> None:
    stream.write(_HEADER.pack(kind, len(content)) + content)
    stream.flush()


def _read(read: Callable[[int], bytes]) -> tuple[bytes, bytes]:
    kind, length = _HEADER.unpack(_exactly(read, _HEADER.size))
    return kind, _exactly(read, length)


def _exactly(read: Callable[[int], bytes], size: int) -> bytes:
    content = b""
    while len(content) < size:
        part = read(size - len(content))
        if not part:
            raise EOFError
        content += part
    return content


def _patience() -> float:
    text = os.environ.get("FARSTEP_PATIENCE", "600")
    try:
        return float(text)
    except ValueError:
        raise FarstepError(f"FARSTEP_PATIENCE must be a number of seconds, not '{text}'") from None


def in_order(
    service: str, configs: list[Mapping[str, Any]], requests: list[bytes]
) -> Generator[bytes]:
    """The answers to `requests`, in their order, computed by one process for each of `configs`.

    Request n goes to process n modulo their number. Each process has two requests outstanding, so
    that it works while its last answer is used.

    Raises:
        FarstepError, RuntimeError: as `Worker.receive`.
    """
    workers: list[Worker] = []
    try:
        workers.extend(Worker(service, config) for config in configs)
        ahead = 2 * len(workers)
        for number, request in enumerate(requests[:ahead]):
            workers[number % len(workers)].send(request)
        for number in range(len(requests)):
            worker = workers[number % len(workers)]
            answer = worker.receive()
            if number + ahead < len(requests):
                worker.send(requests[number + ahead])
            yield answer
    finally:
        for worker in workers:
            worker.close()
