"""A policy behind a websocket, in the protocol of openpi's clients.

The server greets each connection with a description of the policy. Each request is a msgpack map
with an observation, each reply one with actions; a text frame in place of a reply says what is
wrong. Networks run on one thread of their own, so that a slow answer delays no heartbeat. An answer
that comes after its deadline is never sent, because the robot has moved on.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import itertools
import json
import signal
import ssl
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Literal

import numpy as np
import websockets
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response

from farstep.agents.registry import agent_name
from farstep.core.errors import FarstepError
from farstep.core.types import Space, Spaces
from farstep.serving.policy import Policy
from farstep.serving.session import Session, SessionOptions
from farstep_client.wire import WireError, pack, unpack

BUCKETS = (1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 1000.0)
"""Upper ends of the latency histogram, in milliseconds."""

WAITING = 8
"""Requests of one session that may wait; more are not read until these are answered."""


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """Where and under which limits a policy is served.

    Attributes:
        host: the address to listen at; off loopback a token is required.
        port: the port; 0 takes a free one.
        token: what clients must send as `Authorization: Bearer …`.
        certificate: TLS certificate chain, PEM.
        key: its private key, PEM.
        deadline: seconds after which an answer is not sent any more.
        busy: what happens to a request while another of its session is computed: it waits, or it
            supersedes all before it.
        most_sessions: connections at a time.
        most_bytes: of one message.
        rate: requests a second of one session.
        idle: seconds without a request after which a connection is closed.
        handshake: seconds that a connection may take to say what it wants.
        drain: seconds that running requests get when the server stops.
    """

    host: str = "127.0.0.1"
    port: int = 8765
    token: str | None = None
    certificate: str | None = None
    key: str | None = None
    deadline: float = 1.0
    busy: Literal["wait", "supersede"] = "wait"
    most_sessions: int = 16
    most_bytes: int = 2**24
    rate: float = 200.0
    idle: float = 300.0
    handshake: float = 10.0
    drain: float = 5.0

    def __post_init__(self) -> None:
        for name in ("deadline", "most_sessions", "most_bytes", "rate", "idle", "handshake"):
            if not getattr(self, name) > 0:
                raise FarstepError(f"{name} must be positive, not {getattr(self, name)}")
        if not 0 <= self.port < 2**16:
            raise FarstepError(f"port must be in [0, 65535], not {self.port}")
        if self.token is not None and len(self.token) < 16:
            raise FarstepError("the token has fewer than 16 characters, and could be guessed")
        if not self.token and not is_loopback(self.host):
            raise FarstepError(
                f"{self.host} can be reached from other machines, so a token is required: put one"
                " into a file and give it by --token-file, or set FARSTEP_TOKEN"
            )
        if (self.certificate is None) != (self.key is None):
            raise FarstepError("TLS takes both a certificate and its key")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass
class Figures:
    """What `/metrics` tells."""

    counts: Counter[str] = field(default_factory=Counter)
    latencies: Counter[float] = field(default_factory=Counter)
    seconds: float = 0.0
    sessions: int = 0

    def answered(self, seconds: float) -> None:
        """Count an answer that took so long."""
        self.counts["answered"] += 1
        self.seconds += seconds
        ends = (end for end in BUCKETS if 1e3 * seconds <= end)
        self.latencies[next(ends, float("inf"))] += 1

    def text(self) -> str:
        """In Prometheus' text format."""
        lines = ["# TYPE farstep_requests_total counter"]
        for outcome in ("answered", "late", "superseded", "refused", "failed"):
            lines.append(f'farstep_requests_total{{outcome="{outcome}"}} {self.counts[outcome]}')
        lines += ["# TYPE farstep_connections_refused_total counter"]
        for reason in ("token", "sessions", "draining"):
            count = self.counts[f"connection/{reason}"]
            lines.append(f'farstep_connections_refused_total{{reason="{reason}"}} {count}')
        lines += ["# TYPE farstep_sessions gauge", f"farstep_sessions {self.sessions}"]
        lines += ["# TYPE farstep_latency_milliseconds histogram"]
        total = 0
        for end in (*BUCKETS, float("inf")):
            total += self.latencies[end]
            name = "+Inf" if end == float("inf") else f"{end:g}"
            lines.append(f'farstep_latency_milliseconds_bucket{{le="{name}"}} {total}')
        lines.append(f"farstep_latency_milliseconds_sum {1e3 * self.seconds:.3f}")
        lines.append(f"farstep_latency_milliseconds_count {total}")
        return "\n".join(lines) + "\n"


class PolicyServer:
    """Serves a policy until it is told to stop.

    Args:
        load: gives the policy; called again to reload it.
        options: where, and under which limits.
        session: how requests are read.
        goal: the goal of sessions that send none.
        log: takes each event as a line of JSON, which never holds an observation or the token.

    Raises:
        FarstepError: the policy cannot be loaded, or cannot plan where that is asked for.
    """

    def __init__(
        self,
        load: Callable[[], Policy],
        options: ServerOptions,
        session: SessionOptions,
        goal: np.ndarray | None = None,
        log: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
    ):
        self.options = options
        self.figures = Figures()
        self._load = load
        self._session_options = session
        self._goal = goal
        self._log = log
        self._policy = self._ready(load())
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="policy")
        self._numbers = itertools.count(1)
        self._stopping = asyncio.Event()
        self._started = asyncio.Event()
        self._connections: set[asyncio.Task[Any]] = set()
        self._server: Server | None = None

    @property
    def address(self) -> str:
        """Where clients connect. Known once it runs."""
        assert self._server is not None
        host, port = next(iter(self._server.sockets)).getsockname()[:2]
        scheme = "ws" if self.options.certificate is None else "wss"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"

    async def run(self) -> None:
        """Serve until `stop`, SIGTERM or SIGINT; SIGHUP loads the policy again.

        Raises:
            FarstepError: the address cannot be listened at, or the certificate is no certificate.
        """
        loop = asyncio.get_running_loop()
        try:
            self._server = await serve(
                self._serve,
                self.options.host,
                self.options.port,
                ssl=self._tls(),
                process_request=self._admit,
                # A page in a browser names its origin; no robot does.
                origins=[None],
                max_size=self.options.most_bytes,
                max_queue=2,
                compression=None,
                open_timeout=self.options.handshake,
            )
        except OSError as error:
            raise FarstepError(
                f"Cannot listen at {self.options.host}:{self.options.port}: {error.strerror}."
            ) from error
        handled = []
        for number, handler in (
            (signal.SIGTERM, self.stop),
            (signal.SIGINT, self.stop),
            (signal.SIGHUP, self._reload),
        ):
            try:
                loop.add_signal_handler(number, handler)
                handled.append(number)
            except (RuntimeError, ValueError, NotImplementedError):
                pass  # Not the main thread; whoever runs it calls `stop`.
        self._tell("listening", address=self.address)
        self._started.set()
        try:
            await self._stopping.wait()
            self._tell("draining", sessions=self.figures.sessions)
            self._server.close(close_connections=False)
            if self._connections:
                await asyncio.wait(self._connections, timeout=self.options.drain)
            self._server.close()
            await self._server.wait_closed()
        finally:
            for number in handled:
                loop.remove_signal_handler(number)
            self._thread.shutdown(wait=False, cancel_futures=True)
            self._tell("stopped")

    def stop(self) -> None:
        """Take no more connections, answer what is being computed, and end."""
        self._stopping.set()

    async def started(self) -> None:
        """Wait until clients can connect."""
        await self._started.wait()

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answers plain requests, and refuses connections that may not be."""
        if request.path == "/healthz":
            status = HTTPStatus.OK
            if self._stopping.is_set():
                status = HTTPStatus.SERVICE_UNAVAILABLE
            return connection.respond(status, "stopping\n" if status != HTTPStatus.OK else "ok\n")
        if self.options.token is not None:
            scheme, _, told = request.headers.get("Authorization", "").partition(" ")
            known = scheme in ("Bearer", "Api-Key")
            if not hmac.compare_digest(told.encode(), self.options.token.encode()) or not known:
                return self._refuse(connection, HTTPStatus.UNAUTHORIZED, "token")
        if request.path == "/metrics":
            return connection.respond(HTTPStatus.OK, self.figures.text())
        if self._stopping.is_set():
            return self._refuse(connection, HTTPStatus.SERVICE_UNAVAILABLE, "draining")
        if self.figures.sessions >= self.options.most_sessions:
            return self._refuse(connection, HTTPStatus.SERVICE_UNAVAILABLE, "sessions")
        return None

    def _refuse(self, connection: ServerConnection, status: HTTPStatus, reason: str) -> Response:
        self.figures.counts[f"connection/{reason}"] += 1
        self._tell("refused", reason=reason)
        return connection.respond(status, f"refused: {reason}\n")

    async def _serve(self, connection: ServerConnection) -> None:
        """One client, from its greeting to its end."""
        task = asyncio.current_task()
        assert task is not None
        number = next(self._numbers)
        self._connections.add(task)
        self.figures.sessions += 1
        self._tell("connected", session=number)
        requests: asyncio.Queue[bytes] = asyncio.Queue(WAITING)
        reader = asyncio.create_task(self._read(connection, requests))
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await connection.send(pack(self._metadata()))
            await self._converse(connection, requests, reader, stopping, number)
            await connection.close(1001 if self._stopping.is_set() else 1000)
        except websockets.ConnectionClosed:
            pass
        finally:
            reader.cancel()
            stopping.cancel()
            self._connections.discard(task)
            self.figures.sessions -= 1
            self._tell("disconnected", session=number)

    async def _read(self, connection: ServerConnection, requests: asyncio.Queue[bytes]) -> None:
        """Queue what the client sends, until it closes the connection."""
        try:
            async for message in connection:
                # A text is no request; the session says so in its turn.
                await requests.put(message if isinstance(message, bytes) else b"")
        except websockets.ConnectionClosed:
            pass

    async def _converse(
        self,
        connection: ServerConnection,
        requests: asyncio.Queue[bytes],
        reader: asyncio.Task[Any],
        stopping: asyncio.Task[Any],
        number: int,
    ) -> None:
        """Answer requests in their order until the client or the server stops."""
        session = Session(self._policy, self._session_options, self._goal)
        allowance, since = self.options.rate, time.monotonic()
        while True:
            getting = asyncio.create_task(requests.get())
            await asyncio.wait(
                {getting, reader, stopping},
                timeout=self.options.idle,
                return_when="FIRST_COMPLETED",
            )
            await asyncio.sleep(0)  # What is queued is taken even if the client has gone.
            if not getting.done():
                getting.cancel()
                return
            message = getting.result()
            while self.options.busy == "supersede" and not requests.empty():
                await self._decline(connection, "superseded", "superseded by a newer request")
                message = requests.get_nowait()
            now = time.monotonic()
            allowance = min(self.options.rate, allowance + (now - since) * self.options.rate)
            since = now
            if allowance < 1:
                await self._decline(connection, "refused", "too many requests a second")
                continue
            allowance -= 1
            if session.policy is not self._policy and _begins(message):
                session = Session(self._policy, self._session_options, self._goal)
            await self._answer(connection, session, message, requests, number)

    async def _answer(
        self,
        connection: ServerConnection,
        session: Session,
        message: bytes,
        requests: asyncio.Queue[bytes],
        number: int,
    ) -> None:
        """Compute one reply and send it, unless it comes too late."""
        began = time.perf_counter()

        def compute() -> bytes:
            return pack(session.answer(unpack(message)))

        loop = asyncio.get_running_loop()
        computing = loop.run_in_executor(self._thread, compute)
        try:
            reply = await asyncio.wait_for(asyncio.shield(computing), self.options.deadline)
        except TimeoutError:
            await self._decline(
                connection, "late", f"no answer within {self.options.deadline:g} s; it is dropped"
            )
            # The session's next request finds it where this one has left it.
            await asyncio.wait({computing})
            computing.exception()
            return
        except (FarstepError, WireError) as error:
            await self._decline(connection, "refused", str(error))
            return
        except Exception as error:
            self._tell("failed", session=number, error=f"{type(error).__name__}: {error}")
            await self._decline(connection, "failed", "the server failed; its log says why")
            return
        if self.options.busy == "supersede" and not requests.empty():
            await self._decline(connection, "superseded", "superseded by a newer request")
            return
        await connection.send(reply)
        self.figures.answered(time.perf_counter() - began)

    async def _decline(self, connection: ServerConnection, outcome: str, reason: str) -> None:
        self.figures.counts[outcome] += 1
        await connection.send(reason)

    def _reload(self) -> None:
        """Load the policy again; sessions take it up with their next episode."""

        def load() -> None:
            try:
                policy = self._ready(self._load())
            except Exception as error:  # Whatever is wrong with it, the old one goes on.
                self._tell("reload failed", error=str(error))
                return
            self._policy = policy
            self._tell("reloaded", step=policy.step)

        self._thread.submit(load)

    def _ready(self, policy: Policy) -> Policy:
        """The policy, compiled by a first call, so that no client waits for that.

        Raises:
            FarstepError: it does not work.
        """
        spaces = policy.spaces
        observation, goal = _zeros(spaces.frame), self._goal
        if goal is None:
            goal = _zeros(_goal_space(spaces))
        options = self._session_options
        request = {options.observation_key: observation, options.goal_key: goal}
        try:
            Session(policy, options).answer(request)
        except FarstepError:
            raise
        except Exception as error:  # Networks and scales that do not fit fail in many ways.
            raise FarstepError(
                f"The policy does not work: {type(error).__name__}: {error}"
            ) from error
        return policy

    def _metadata(self) -> dict[str, Any]:
        spaces, options = self._policy.spaces, self._session_options
        return {
            "server": "farstep",
            "agent": agent_name(self._policy.agent),
            "dataset": self._policy.dataset,
            "observation": {
                "key": options.observation_key,
                **_described(spaces.frame),
            },
            "goal": {
                "key": options.goal_key,
                **_described(_goal_space(spaces)),
            },
            "actions": {
                "size": spaces.action.size,
                "discrete": spaces.action.discrete,
                "chunk": self._policy.action_chunk,
            },
            "planned": options.plan,
        }

    def _tls(self) -> ssl.SSLContext | None:
        if self.options.certificate is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self.options.certificate, self.options.key)
        except (OSError, ssl.SSLError) as error:
            raise FarstepError(f"{self.options.certificate}: {error}.") from error
        return context

    def _tell(self, event: str, **facts: Any) -> None:
        self._log(json.dumps({"time": round(time.time(), 3), "event": event, **facts}))


def _goal_space(spaces: Spaces) -> Space:
    """Of a goal as clients send it: one frame."""
    return spaces.frame if spaces.rule.whole else spaces.goal


def _zeros(space: Space) -> Any:
    if space.keys:
        return {name: _zeros(each) for name, each in space.keys.items()}
    return np.zeros(space.shape, space.dtype)


def _described(space: Space) -> dict[str, Any]:
    if space.keys:
        return {"keys": {name: _described(each) for name, each in space.keys.items()}}
    return {"shape": list(space.shape), "dtype": space.dtype}


def _begins(message: bytes) -> bool:
    """Whether a request begins a new episode."""
    try:
        request = unpack(message)
    except WireError:
        return False
    return isinstance(request, dict) and bool(request.get("reset"))
