"""The page behind an address of this machine alone.

A browser lets any page on the web send requests to this address. So a request is answered only if
it names this server as its host, which a name that was pointed here does not (DNS rebinding), and
only if it comes from no other page, which `Origin` and `Sec-Fetch-Site` tell.
"""

from __future__ import annotations

import asyncio
import json
import queue
import socket
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import PurePosixPath
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from farstep.core.errors import FarstepError
from farstep.viewing import episodes, page, ways
from farstep.viewing.documents import Documents

HOSTS = ("127.0.0.1", "localhost")
"""Names that this machine calls itself by."""

MOST_BYTES = 10_000
"""Of a request."""

TYPES = {".js": "text/javascript", ".css": "text/css"}


def application(documents: Documents, port: int) -> Starlette:
    """The pages of these documents, for a server that listens at `port` of the loopback."""
    html, policy = page.served()
    protected = {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "no-store",
    }
    latest: list[threading.Event] = []

    async def index(_: Request) -> Response:
        return Response(html, media_type="text/html", headers=protected)

    async def file(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in page.files():
            return _problem(f"There is no {name} here.", 404)
        kind = TYPES[PurePosixPath(name).suffix]
        return Response(page.files()[name], media_type=kind, headers=protected)

    def document(make: Callable[[Mapping[str, str]], Any]) -> Callable[[Request], Response]:
        # No coroutine: Starlette calls it in a thread.
        def answer(request: Request) -> Response:
            try:
                return JSONResponse(make(request.query_params), headers=protected)
            except FarstepError as error:
                return _problem(str(error), 422)

        return answer

    async def roll(request: Request) -> Response:
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > MOST_BYTES:
                return _problem("That is too long for a request.", 413)
        # One way at a time: who asks for another waits for the last no more.
        for before in latest:
            before.set()
        stop = threading.Event()
        latest[:] = [stop]
        return StreamingResponse(
            _told(documents, body, stop), media_type="application/x-ndjson", headers=protected
        )

    def picture(make: Callable[[Mapping[str, str]], bytes]) -> Callable[[Request], Response]:
        def answer(request: Request) -> Response:
            try:
                made = make(request.query_params)
            except FarstepError as error:
                return _problem(str(error), 404)
            return Response(made, media_type="image/png", headers=protected)

        return answer

    routes = [
        Route("/", index),
        Route("/frame.png", picture(lambda asked: episodes.frame(documents.dataset, asked))),
        Route("/state.png", picture(documents.picture)),
        Route("/page/{name:path}", file),
        Route("/ways", roll, methods=["POST"]),
        *(Route(f"/{name}", document(make)) for name, make in documents.by_name.items()),
    ]
    application = Starlette(routes=routes)
    application.add_middleware(_FromHereOnly, port=port)
    return application


def serve(documents: Documents, port: int, started: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        port: to listen at; 0 takes a free one.
        started: is given the address once the server listens there.

    Raises:
        FarstepError: the port is taken.
    """
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            raise FarstepError(
                f"Cannot listen at port {port}: {error}. Choose another with --port, or 0 for any."
            ) from error
        listening.listen()
        port = listening.getsockname()[1]
        config = uvicorn.Config(
            application(documents, port),
            log_level="warning",
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
        started(f"http://127.0.0.1:{port}/")
        asyncio.run(uvicorn.Server(config).serve([listening]))


async def _told(documents: Documents, body: bytes, stop: threading.Event) -> AsyncIterator[str]:
    """A line for every step of the way that `body` asks for, as it is walked in another thread."""
    lines: queue.Queue[dict[str, Any] | None] = queue.Queue()

    def tell(line: dict[str, Any]) -> None:
        if stop.is_set():
            raise ways.Stopped
        lines.put(line)

    def work() -> None:
        try:
            ways.walk(documents.map, ways.Asked.of(json.loads(body), documents.map), tell)
        except ways.Stopped:
            pass
        except (FarstepError, ValueError) as error:
            lines.put({"problem": str(error)})
        finally:
            lines.put(None)

    threading.Thread(target=work, daemon=True).start()
    try:
        while (line := await asyncio.to_thread(lines.get)) is not None:
            yield json.dumps(line) + "\n"
    finally:
        stop.set()


def _problem(sentence: str, status: int) -> Response:
    return JSONResponse({"problem": sentence}, status_code=status)


class _FromHereOnly:
    """Refuses requests that name another host, or that another site's page sends."""

    def __init__(self, app: ASGIApp, port: int):
        self._app = app
        self._hosts = {f"{host}:{port}" for host in HOSTS}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        host, origin = headers.get("host", ""), headers.get("origin")
        foreign = origin is not None and origin != f"http://{host}"
        foreign |= headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
        if host not in self._hosts or foreign:
            refusal = _problem("farstep view answers its own page on this machine alone.", 403)
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)
