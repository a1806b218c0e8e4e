"""A served policy: what clients get, and what hostile or clumsy ones do not."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

pytest.importorskip("websockets", reason="needs the extra 'serve'")

import websockets.sync.client

from farstep.agents.mqe import MQE
from farstep.core.errors import FarstepError
from farstep.core.types import Actions, Space, Spaces
from farstep.data.normalize import Normalization
from farstep.serving.policy import Policy
from farstep.serving.server import PolicyServer, ServerOptions
from farstep.serving.session import SessionOptions
from farstep_client import AsyncClient, Client, ConnectionLost, Refused, pack, unpack

TOKEN = "correct horse battery staple".replace(" ", "-")
GOAL, HERE = np.ones(2, np.float32), np.zeros(2, np.float32)


@pytest.fixture(scope="module")
def policy() -> Policy:
    spaces = Spaces.from_observation(Space((2,)), Actions(3))
    agent = MQE(hidden=(8, 8), latent=16, groups=2, batch_size=4)
    return Policy(
        agent=agent,
        params=agent.networks(spaces, jax.random.key(0)),
        spaces=spaces,
        normalization=Normalization.identity(spaces),
        dataset="toy",
        environment=None,
        step=7,
    )


class Slow:
    """A policy that takes its time."""

    def __init__(self, policy: Policy, seconds: float):
        self._policy, self._seconds = policy, seconds
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)

    def chunk(self, *arguments: Any, **options: Any) -> np.ndarray:
        self.calls += 1
        if self.calls > 1:  # The first is the server's own.
            time.sleep(self._seconds)
        return self._policy.chunk(*arguments, **options)


@contextmanager
def served(policy: Any, *, log: list[str] | None = None, **options: Any) -> Iterator[PolicyServer]:
    """A server on a thread of its own, at a free port."""
    session = options.pop("session", SessionOptions())
    load: Any = policy if callable(policy) else lambda: policy
    lines: list[str] = [] if log is None else log
    server = PolicyServer(load, ServerOptions(port=0, **options), session, log=lines.append)
    ready = threading.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def run() -> None:
        loops.append(asyncio.get_running_loop())
        running = asyncio.create_task(server.run())
        await server.started()
        ready.set()
        await running

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    assert ready.wait(20)
    try:
        yield server
    finally:
        loops[0].call_soon_threadsafe(server.stop)
        thread.join(20)
        assert not thread.is_alive()


def page(server: PolicyServer, path: str, token: str | None = None) -> tuple[int, str]:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(
        server.address.replace("ws", "http", 1) + path, headers=headers
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_client_gets_the_policys_actions_and_distance(policy: Policy) -> None:
    with served(policy) as server, Client(server.address) as client:
        client.reset(GOAL)
        reply = client.act(HERE)
        assert np.allclose(reply.actions, policy.act(HERE, GOAL)[None])
        assert reply.steps_to_go == pytest.approx(float(policy.distance(HERE, GOAL)), rel=1e-5)
        assert client.metadata["observation"]["shape"] == [2]
        there = client.act(GOAL)
        assert there.steps_to_go == pytest.approx(0, abs=1e-3)
        assert there.reached


def test_the_asynchronous_client_does_too(policy: Policy) -> None:
    async def ask(address: str) -> Any:
        async with AsyncClient(address) as client:
            client.reset(GOAL)
            await client.act(HERE)
            return await client.act(HERE)

    with served(policy) as server:
        reply = asyncio.run(ask(server.address))
    assert np.allclose(reply.actions, policy.act(HERE, GOAL)[None])


def test_an_episode_that_gets_no_nearer_is_reported(policy: Policy) -> None:
    session = SessionOptions(patience=3)
    with served(policy, session=session) as server, Client(server.address) as client:
        client.reset(GOAL)
        assert [client.act(HERE).stalled for _ in range(5)] == [False] * 3 + [True] * 2
        client.reset()
        assert not client.act(HERE).stalled


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"\xc1", "no msgpack message"),
        (pack([1]), "a request is a map"),
        (pack({"state": HERE}), "no 'observation', only: state"),
        (pack({"observation": HERE}), "no goal yet"),
        (pack({"observation": HERE[:1], "goal": GOAL}), r"\(1,\)"),
        (pack({"observation": HERE * np.nan, "goal": GOAL}), "finite"),
        (pack({"observation": "here", "goal": GOAL}), "observation"),
        (pack({"observation": [[1], [1, 2]], "goal": GOAL}), "'observation' is no array"),
    ],
)
def test_bad_requests_get_a_reason_and_the_connection_stays(
    policy: Policy, message: bytes, reason: str
) -> None:
    with served(policy) as server, websockets.sync.client.connect(server.address) as connection:
        connection.recv(10)
        connection.send(message)
        answer = connection.recv(10)
        assert isinstance(answer, str)
        assert re.search(reason, answer), answer
        assert "Traceback" not in answer
        connection.send(pack({"observation": HERE, "goal": GOAL}))
        assert isinstance(connection.recv(10), bytes)


def test_nothing_is_unpickled(policy: Policy) -> None:
    bomb = {b"__ndarray__": True, b"data": b"cos\nsystem\n", b"dtype": "|O", b"shape": [1]}
    with served(policy) as server, websockets.sync.client.connect(server.address) as connection:
        connection.recv(10)
        connection.send(pack({"observation": bomb, "goal": GOAL}))
        assert connection.recv(10) == "an array of a type that is not read"


def test_off_loopback_a_token_is_required() -> None:
    for host in ("0.0.0.0", "::", "192.168.1.5", "robot.local"):
        with pytest.raises(FarstepError, match="a token is required"):
            ServerOptions(host=host)
    with pytest.raises(FarstepError, match="fewer than 16"):
        ServerOptions(host="0.0.0.0", token="short")


def test_the_token_opens_the_server_and_is_never_logged(policy: Policy) -> None:
    log: list[str] = []
    with served(policy, token=TOKEN, log=log) as server:
        for token in (None, "wrong", TOKEN[:-1], TOKEN + "x"):
            with (
                pytest.raises(ConnectionLost, match="401"),
                Client(server.address, token=token) as client,
            ):
                client.act(HERE)
        with Client(server.address, token=TOKEN) as client:
            client.reset(GOAL)
            client.act(HERE)
        assert page(server, "/metrics")[0] == 401
        status, text = page(server, "/metrics", TOKEN)
        assert status == 200
        assert 'farstep_connections_refused_total{reason="token"} 5' in text
        assert page(server, "/healthz") == (200, "ok\n")
    assert not any(TOKEN in line or "wrong" in line for line in log)
    assert {json.loads(line)["event"] for line in log} >= {"listening", "refused", "connected"}


def test_a_page_in_a_browser_cannot_connect(policy: Policy) -> None:
    page: Any = "http://evil.example"
    with (
        served(policy) as server,
        pytest.raises(websockets.InvalidStatus, match="403"),
        websockets.sync.client.connect(server.address, origin=page),
    ):
        pass


def test_sessions_are_bounded(policy: Policy) -> None:
    with served(policy, most_sessions=2) as server:
        connect = websockets.sync.client.connect
        with connect(server.address) as one, connect(server.address) as two:
            one.recv(10)
            two.recv(10)
            with pytest.raises(websockets.InvalidStatus, match="503"), connect(server.address):
                pass


def test_messages_and_rates_are_bounded(policy: Policy) -> None:
    with served(policy, most_bytes=2000, rate=2.0) as server:
        with Client(server.address) as client:
            client.reset(GOAL)
            client.act(HERE)
            client.act(HERE)
            with pytest.raises(Refused, match="too many requests"):
                client.act(HERE)
        with websockets.sync.client.connect(server.address) as connection:
            connection.recv(10)
            connection.send(bytes(3000))
            with pytest.raises(websockets.ConnectionClosed, match="1009"):
                connection.recv(10)


def test_a_late_answer_is_dropped_and_said_so(policy: Policy) -> None:
    with served(Slow(policy, 0.3), deadline=0.1) as server, Client(server.address) as client:
        client.reset(GOAL)
        with pytest.raises(Refused, match=r"no answer within 0\.1 s"):
            client.act(HERE)
        assert 'outcome="late"} 1' in page(server, "/metrics")[1]


@pytest.mark.parametrize(("busy", "answers"), [("wait", 3), ("supersede", 1)])
def test_requests_wait_or_supersede(policy: Policy, busy: str, answers: int) -> None:
    with (
        served(Slow(policy, 0.2), busy=busy, deadline=5.0) as server,
        websockets.sync.client.connect(server.address) as connection,
    ):
        connection.recv(10)
        for _ in range(3):
            connection.send(pack({"observation": HERE, "goal": GOAL}))
        replies = [connection.recv(10) for _ in range(3)]
    assert sum(isinstance(reply, bytes) for reply in replies) == answers
    assert isinstance(replies[-1], bytes)


def test_stopping_answers_what_is_computed(policy: Policy) -> None:
    with ExitStack() as open_connection:
        with served(Slow(policy, 0.5), deadline=5.0) as server:
            connection = open_connection.enter_context(
                websockets.sync.client.connect(server.address)
            )
            connection.recv(10)
            connection.send(pack({"observation": HERE, "goal": GOAL}))
            time.sleep(0.2)
        assert isinstance(connection.recv(10), bytes)
        with pytest.raises(websockets.ConnectionClosed, match="1001"):
            connection.recv(10)


def test_a_client_that_breaks_off_harms_nobody(policy: Policy) -> None:
    with served(Slow(policy, 0.2), deadline=5.0) as server:
        with websockets.sync.client.connect(server.address) as broken:
            broken.recv(10)
            broken.send(pack({"observation": HERE, "goal": GOAL}))
            broken.socket.shutdown(socket.SHUT_RDWR)
        with Client(server.address) as client:
            client.reset(GOAL)
            client.act(HERE)
            assert server.figures.sessions == 1


def test_a_client_never_sends_twice_and_connects_anew(policy: Policy) -> None:
    slow = Slow(policy, 0.5)
    with served(slow, deadline=5.0) as server:
        client = Client(server.address, timeout=0.2)
        client.reset(GOAL)
        with pytest.raises(TimeoutError):
            client.act(HERE)
        time.sleep(0.6)
        assert slow.calls == 2  # The server's own, and one.
        client._timeout = 10
        assert client.act(HERE).actions.shape == (1, 3)
        client.close()


def test_a_policy_is_replaced_and_a_poisoned_one_is_not(policy: Policy) -> None:
    current: list[Any] = [policy]

    def load() -> Policy:
        if current[0] is None:
            raise FarstepError("damaged")
        return current[0]

    log: list[str] = []
    with served(load, log=log) as server, Client(server.address) as client:
        client.reset(GOAL)
        before = client.act(HERE).actions
        current[0] = None
        server._reload()
        wait_for(log, "reload failed")
        assert np.array_equal(client.act(HERE).actions, before)
        other = policy.agent.networks(policy.spaces, jax.random.key(1))
        current[0] = replace(policy, params=other, step=8)
        server._reload()
        wait_for(log, "reloaded")
        assert np.array_equal(client.act(HERE).actions, before)  # the episode goes on as it was
        client.reset()
        assert not np.array_equal(client.act(HERE).actions, before)


def wait_for(log: list[str], event: str) -> None:
    until = time.monotonic() + 20
    while not any(json.loads(line)["event"] == event for line in log):
        assert time.monotonic() < until, log
        time.sleep(0.02)


def test_a_hundred_clients_are_served_beside_slow_and_broken_ones(policy: Policy) -> None:
    async def one(address: str) -> np.ndarray:
        async with AsyncClient(address, timeout=60) as client:
            client.reset(GOAL)
            await client.act(HERE)
            return (await client.act(HERE)).actions

    async def hundred(address: str) -> list[np.ndarray]:
        return await asyncio.gather(*(one(address) for _ in range(100)))

    with (
        served(policy, most_sessions=101, handshake=3.0, deadline=60) as server,
        ExitStack() as open_,
    ):
        host, port = server.address.removeprefix("ws://").split(":")
        # They say a part of what they want, and no more.
        slow = [open_.enter_context(socket.create_connection((host, int(port)))) for _ in range(50)]
        for part, connection in enumerate(slow):
            connection.sendall(b"GET / HTTP/1.1\r\nHost: robot\r\n"[: part + 1])
        # And one ends in the middle of a frame of 100 bytes.
        with websockets.sync.client.connect(server.address) as broken:
            broken.recv(10)
            broken.socket.sendall(b"\x82\xe4" + bytes(20))
            broken.socket.shutdown(socket.SHUT_RDWR)
        expected = policy.act(HERE, GOAL)[None]
        for actions in asyncio.run(hundred(server.address)):
            np.testing.assert_allclose(actions, expected)
        for connection in slow:
            connection.settimeout(20)
            while connection.recv(1000):  # The server gives a reason, and ends it.
                pass
        until = time.monotonic() + 10
        while server.figures.sessions and time.monotonic() < until:
            time.sleep(0.02)
        assert server.figures.sessions == 0


def poison(path: Path) -> None:
    """Other weights under a checksum that fits, as one who can write both files would."""
    weights = b"\x08\0\0\0\0\0\0\0cos\nsys\n"
    (path / "policy.safetensors").write_bytes(weights)
    described = json.loads((path / "policy.json").read_text())
    described["sha256"] = hashlib.sha256(weights).hexdigest()
    (path / "policy.json").write_text(json.dumps(described))


def test_from_the_command_line(policy: Policy, tmp_path: Path) -> None:
    """The policy's file is replaced while it is served: by a poisoned one, then by a good one."""
    path = tmp_path / "policy"
    policy.save(path)
    (tmp_path / "token").write_text(TOKEN + "\n")
    command = [sys.executable, "-m", "farstep", "serve", str(path), "--port", "0"]
    command += ["--token-file", str(tmp_path / "token")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ) as process:
        assert process.stderr is not None
        log = iter(process.stderr.readline, "")

        def wait_for_event(event: str) -> dict[str, Any]:
            return next(found for line in log if (found := json.loads(line))["event"] == event)

        try:
            address = wait_for_event("listening")["address"]
            with Client(address, token=TOKEN) as client:
                client.reset(GOAL)
                before = client.act(HERE).actions
                assert before.shape == (1, 3)
                poison(path)
                process.send_signal(signal.SIGHUP)
                assert "holds no networks" in wait_for_event("reload failed")["error"]
                other = policy.agent.encoded_networks(policy.spaces, jax.random.key(1))
                replace(policy, params=other, step=8).save(path, overwrite=True)
                process.send_signal(signal.SIGHUP)
                assert wait_for_event("reloaded")["step"] == 8
                assert np.array_equal(client.act(HERE).actions, before)
                client.reset()
                assert not np.array_equal(client.act(HERE).actions, before)
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
            assert '"stopped"' in process.stderr.read()
        finally:
            process.kill()


def test_a_damaged_policy_is_not_served(policy: Policy) -> None:
    broken = jax.tree.map(lambda leaf: leaf * np.nan, policy.params)
    scales = replace(policy.normalization, mean=np.ones(5, np.float32))
    for damaged in (replace(policy, params=broken), replace(policy, normalization=scales)):
        with pytest.raises(FarstepError, match=r"not finite|does not work"), served(damaged):
            pass


@pytest.mark.slow
def test_a_million_fuzzed_frames() -> None:
    from farstep_client import WireError

    rng = np.random.default_rng(0)
    good = pack({"observation": HERE, "goal": GOAL, "more": [1, {"a": b"x"}], "text": "hello"})
    for _ in range(1_000_000):
        frame = bytearray(good)
        for _ in range(int(rng.integers(1, 6))):
            frame[int(rng.integers(len(frame)))] = int(rng.integers(256))
        try:
            unpack(bytes(frame[: int(rng.integers(1, len(frame) + 1))]))
        except WireError:
            continue
