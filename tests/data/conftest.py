"""A mirror on the loopback interface that misbehaves as told."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

import pytest

Fault = Literal[
    "none",
    "cut",  # half of what is left, then the connection closes
    "stall",  # half of what is left, then nothing
    "corrupt",  # the right length, one byte wrong
    "declares more",  # Content-Length says more than is sent
    "declares less",  # Content-Length says less than the file has
    "shifted",  # answers a range with another one
    "404",
    "503",
    "page",  # 200 with a web page
]


@dataclass
class Mirror:
    """Files, the faults of the requests to come, and the requests that came.

    Attributes:
        files: content by path, without the leading slash.
        faults: one for each request of a file, in order; then `default`.
        ranges: whether Range is honoured.
        tags: whether an ETag is sent.
    """

    files: dict[str, bytes]
    faults: list[Fault] = field(default_factory=list)
    default: Fault = "none"
    ranges: bool = True
    tags: bool = True
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""
    closing: threading.Event = field(default_factory=threading.Event)

    def requested(self, name: str) -> list[str | None]:
        """The Range headers of the requests for `name`."""
        return [wanted for path, wanted in self.requests if path == name]


@contextmanager
def serving(mirror: Mirror) -> Iterator[Mirror]:
    """Serve `mirror` and set its `url`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            # A proxy is sent the whole URL.
            name = re.sub(r"^(https?://[^/]+)?/", "", self.path)
            mirror.requests.append((name, self.headers.get("Range")))
            content = mirror.files.get(name)
            fault: Fault = "none"
            if not name.endswith(".sha256"):
                fault = mirror.faults.pop(0) if mirror.faults else mirror.default
            if content is None or fault == "404":
                self.send_error(404)
            elif fault == "503":
                self.send_error(503)
            elif fault == "page":
                self._send(b"<html>Maintenance</html>", {}, 200)
            else:
                self._send_file(content, fault)

        def _send_file(self, content: bytes, fault: Fault) -> None:
            tag = f'"{hashlib.sha256(content).hexdigest()[:8]}"'
            headers = {"ETag": tag} if mirror.tags else {}
            begin, status = 0, 200
            wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
            if wanted and mirror.ranges and self.headers.get("If-Range") == tag:
                begin, status = int(wanted[1]), 206
                if begin >= len(content):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(content)}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                shown = begin - 1 if fault == "shifted" else begin
                headers["Content-Range"] = f"bytes {shown}-{len(content) - 1}/{len(content)}"
            self._send(content[begin:], headers, status, fault)

        def _send(
            self, body: bytes, headers: dict[str, str], status: int, fault: Fault = "none"
        ) -> None:
            length = {"declares more": len(body) + 100, "declares less": len(body) - 100}
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(length.get(fault, len(body))))
            self.end_headers()
            if fault == "corrupt":
                middle = len(body) // 2
                body = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
            if fault in ("cut", "stall"):
                body = body[: len(body) // 2]
            self.wfile.write(body)
            self.wfile.flush()
            if fault == "stall":
                mirror.closing.wait(30)
            self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    mirror.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield mirror
    finally:
        mirror.closing.set()
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)


@pytest.fixture
def serve() -> Iterator[Callable[..., Mirror]]:
    """Starts a mirror of the given files, the faults of its first requests, and options."""
    with ExitStack() as stack:

        def start(files: dict[str, bytes], *faults: Fault, **options: Any) -> Mirror:
            return stack.enter_context(serving(Mirror(dict(files), list(faults), **options)))

        yield start
