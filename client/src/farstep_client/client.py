"""Clients of a policy server, synchronous and asynchronous.

A request is never sent twice. When the connection breaks while an answer is awaited, nobody knows
whether the server has acted, so the call raises `ConnectionLost`; the next one connects anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import websockets
import websockets.asyncio.client
import websockets.sync.client

from farstep_client.wire import pack, unpack

Observation = np.ndarray | Mapping[str, np.ndarray]


class ConnectionLost(ConnectionError):
    """The connection broke; a request may or may not have been answered."""


class Refused(RuntimeError):
    """The server gave a reason in place of actions."""


@dataclass(frozen=True)
class Reply:
    """One answer.

    Attributes:
        actions: (H, A) actions to take one after another, or (H,) integers.
        reached: whether the goal is reached by the learned distance; None without one.
        steps_to_go: environment steps left by the learned distance; None without one.
        stalled: whether that has not fallen for longer than the server's watchdog allows.
        timing: milliseconds that the server took, by what for.
    """

    actions: np.ndarray
    reached: bool | None
    steps_to_go: float | None
    stalled: bool
    timing: Mapping[str, float]


class _Requests:
    """What a session has still to tell the server."""

    def __init__(self) -> None:
        self.goal: Observation | None = None
        self._fresh = True

    def reset(self, goal: Observation | None) -> None:
        """A new episode, towards another goal if one is given."""
        self.goal = self.goal if goal is None else goal
        self._fresh = True

    def connected(self) -> None:
        """A new connection knows no goal yet."""
        self._fresh = True

    def request(self, observation: Observation) -> bytes:
        """The bytes of the next request."""
        message: dict[str, Any] = {"observation": observation}
        if self._fresh:
            message["reset"] = True
            if self.goal is not None:
                message["goal"] = self.goal
        return pack(message)

    def reply(self, answer: str | bytes) -> Reply:
        """The server's answer.

        Raises:
            Refused: it is a reason, not actions.
        """
        if isinstance(answer, str):
            raise Refused(answer)
        message = unpack(answer)
        self._fresh = False
        return Reply(
            actions=message["actions"],
            reached=message.get("reached"),
            steps_to_go=message.get("steps_to_go"),
            stalled=bool(message.get("stalled")),
            timing=message.get("server_timing", {}),
        )


class Client:
    """A connection that is made when it is needed. A context manager.

    Args:
        uri: `ws://host:port`, or `wss://` for TLS.
        token: the server's token, if it asks for one.
        timeout: seconds to wait for the connection and for each answer.
        options: for `websockets.sync.client.connect`, such as `ssl`.
    """

    def __init__(
        self, uri: str, *, token: str | None = None, timeout: float = 10.0, **options: Any
    ) -> None:
        self._uri, self._timeout = uri, timeout
        self._options = {**_headers(token), **options}
        self._requests = _Requests()
        self._connection: websockets.sync.client.ClientConnection | None = None
        self._open = ExitStack()
        self.metadata: Mapping[str, Any] = {}

    def reset(self, goal: Observation | None = None) -> None:
        """Begin a new episode with the next `act`, towards `goal` or the goal before."""
        self._requests.reset(goal)

    def act(self, observation: Observation) -> Reply:
        """The actions for an observation.

        Raises:
            Refused: the server says why there are none.
            ConnectionLost: no connection, or it broke; the request is not sent again.
            TimeoutError: no answer in time; the connection is given up.
        """
        try:
            if self._connection is None:
                connection = websockets.sync.client.connect(
                    self._uri, open_timeout=self._timeout, max_size=None, **self._options
                )
                self._connection = self._open.enter_context(connection)
                self._requests.connected()
                self.metadata = unpack(_binary(self._connection.recv(self._timeout)))
            self._connection.send(self._requests.request(observation))
            return self._requests.reply(self._connection.recv(self._timeout))
        except TimeoutError:
            self.close()
            raise
        except (websockets.WebSocketException, OSError) as error:
            self.close()
            raise ConnectionLost(str(error)) from error

    def close(self) -> None:
        """End the connection."""
        self._connection = None
        self._open.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncClient:
    """`Client` with coroutines. An asynchronous context manager; one `act` at a time."""

    def __init__(
        self, uri: str, *, token: str | None = None, timeout: float = 10.0, **options: Any
    ) -> None:
        self._uri, self._timeout = uri, timeout
        self._options = {**_headers(token), **options}
        self._requests = _Requests()
        self._connection: websockets.asyncio.client.ClientConnection | None = None
        self._open = AsyncExitStack()
        self.metadata: Mapping[str, Any] = {}

    def reset(self, goal: Observation | None = None) -> None:
        """Begin a new episode with the next `act`, towards `goal` or the goal before."""
        self._requests.reset(goal)

    async def act(self, observation: Observation) -> Reply:
        """As `Client.act`."""
        try:
            if self._connection is None:
                connection = websockets.asyncio.client.connect(
                    self._uri, open_timeout=self._timeout, max_size=None, **self._options
                )
                self._connection = await self._open.enter_async_context(connection)
                self._requests.connected()
                greeting = await asyncio.wait_for(self._connection.recv(), self._timeout)
                self.metadata = unpack(_binary(greeting))
            await self._connection.send(self._requests.request(observation))
            answer = await asyncio.wait_for(self._connection.recv(), self._timeout)
            return self._requests.reply(answer)
        except TimeoutError:
            await self.close()
            raise TimeoutError("no answer in time") from None
        except (websockets.WebSocketException, OSError) as error:
            await self.close()
            raise ConnectionLost(str(error)) from error

    async def close(self) -> None:
        """End the connection."""
        self._connection = None
        await self._open.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _headers(token: str | None) -> dict[str, Any]:
    return {"additional_headers": {"Authorization": f"Bearer {token}"}} if token else {}


def _binary(message: str | bytes) -> bytes:
    if isinstance(message, str):
        raise Refused(message)
    return message
