"""`farstep serve`: a policy behind a websocket."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro

from farstep.core.errors import FarstepError
from farstep.serving.policy import load_policy
from farstep.serving.session import SessionOptions


@dataclass(frozen=True, kw_only=True)
class Serve:
    """Answer requests for actions over a websocket, in the protocol of openpi's clients."""

    policy: Annotated[Path, tyro.conf.arg(name="POLICY"), tyro.conf.Positional]
    """Directory of an exported policy, or of a run."""
    goal: Path | None = None
    """An .npy file with the goal of sessions that send none."""
    host: str = "127.0.0.1"
    """Address to listen at; other machines reach it only off loopback, and need a token then."""
    port: int = 8765
    """Port to listen at; 0 takes a free one."""
    token_file: Path | None = None
    """File whose first line clients must send as a token; the variable FARSTEP_TOKEN otherwise."""
    certificate: Path | None = None
    """TLS certificate chain (PEM)."""
    key: Path | None = None
    """Private key of the certificate (PEM)."""
    deadline: float = 1.0
    """Seconds after which an answer is dropped."""
    busy: Literal["wait", "supersede"] = "wait"
    """What happens to a request while another of its session is computed."""
    sessions: int = 16
    """Connections at a time."""
    max_bytes: int = 2**24
    """Bytes of one message."""
    rate: float = 200.0
    """Requests a second of one session."""
    idle: float = 300.0
    """Seconds without a request after which a connection is closed."""
    session: tyro.conf.OmitArgPrefixes[SessionOptions] = field(default_factory=SessionOptions)

    def run(self) -> None:
        try:
            from farstep.serving.server import PolicyServer, ServerOptions
        except ImportError as error:
            raise FarstepError(
                f"Serving needs {error.name}, which is not installed: install farstep with its"
                " extra 'serve'."
            ) from error
        options = ServerOptions(
            host=self.host,
            port=self.port,
            token=self._token(),
            certificate=None if self.certificate is None else str(self.certificate),
            key=None if self.key is None else str(self.key),
            deadline=self.deadline,
            busy=self.busy,
            most_sessions=self.sessions,
            most_bytes=self.max_bytes,
            rate=self.rate,
            idle=self.idle,
        )
        goal = None if self.goal is None else array_file(self.goal)
        server = PolicyServer(lambda: load_policy(self.policy), options, self.session, goal)
        asyncio.run(server.run())

    def _token(self) -> str | None:
        if self.token_file is None:
            return os.environ.get("FARSTEP_TOKEN") or None
        try:
            lines = self.token_file.read_text().split()
        except OSError as error:
            raise FarstepError(f"Cannot read {self.token_file}: {error.strerror}.") from error
        if not lines:
            raise FarstepError(f"{self.token_file} is empty, and should hold a token.")
        return lines[0]


def array_file(path: Path) -> np.ndarray:
    """The array in an .npy file.

    Raises:
        FarstepError: it holds none.
    """
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise FarstepError(f"{path} holds no array: {error}.") from error
