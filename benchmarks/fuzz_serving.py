"""Whether a served policy stands what any program may send it.

    python benchmarks/fuzz_serving.py --frames 1000000

Connections without the token send damaged requests for one; connections with it send damaged
messages, damaged frames, and bytes that are no websocket at all. In the end the server must have
answered none without the token, have failed at none, serve an honest client as before, and hold
about as much memory as after the first tenth.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import time
from collections import Counter
from pathlib import Path

import numpy as np
from websockets.asyncio.client import connect

from farstep.serving.server import PolicyServer, ServerOptions
from farstep.serving.session import SessionOptions
from farstep_client import AsyncClient, pack
from serving import untrained

HERE, GOAL = np.zeros(29, np.float32), np.ones(29, np.float32)
GOOD = pack({"observation": HERE, "goal": GOAL, "reset": True, "more": [1, {"a": b"x"}, "text"]})
GROWTH = 64 * 2**20
"""Bytes that the process may grow by after the first tenth of the frames."""


def damaged(rng: np.random.Generator, content: bytes) -> bytes:
    """The bytes with some changed, and cut in a third of the cases."""
    changed = bytearray(content)
    for place in rng.integers(len(changed), size=int(rng.integers(1, 8))):
        changed[place] = rng.integers(256)
    return bytes(
        changed[: int(rng.integers(1, len(changed) + 1))] if rng.random() < 0.3 else changed
    )


def resident() -> int:
    """Bytes of memory that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def messages(address: str, token: str, rng: np.random.Generator, count: int) -> None:
    """Whole frames with damaged messages, from a client that has the token."""
    headers = {"Authorization": f"Bearer {token}"}
    async with connect(address, additional_headers=headers, max_size=None) as connection:
        await connection.recv()
        for _ in range(count):
            await connection.send(damaged(rng, GOOD))
            # An answer to each, so that the next one is read at once.
            await connection.recv()


async def raw(host: str, port: int, content: bytes) -> bytes:
    """What comes back for bytes of any kind."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(content)
        writer.write_eof()
        return await asyncio.wait_for(reader.read(2**16), 30)
    except (ConnectionError, TimeoutError):
        return b""
    finally:
        writer.close()


def handshake(token: str) -> bytes:
    """The request by which a websocket begins."""
    lines = ["GET / HTTP/1.1", "Host: here", "Upgrade: websocket", "Connection: Upgrade"]
    lines += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"]
    return "\r\n".join([*lines, f"Authorization: Bearer {token}", "", ""]).encode()


async def fuzz(frames: int, seed: int) -> None:
    """Send it all, and print what became of it.

    Raises:
        AssertionError: the server did not stand it.
    """
    rng = np.random.default_rng(seed)
    token, events, failures = secrets.token_hex(16), Counter[str](), list[str]()

    def log(line: str) -> None:
        event = json.loads(line)["event"]
        events[event] += 1
        if event == "failed":
            failures.append(line)

    policy = untrained()
    options = ServerOptions(
        port=0, token=token, most_sessions=64, rate=1e9, deadline=60, handshake=2
    )
    server = PolicyServer(lambda: policy, options, SessionOptions(), log=log)
    running = asyncio.create_task(server.run())
    await server.started()
    host, port = server.address.removeprefix("ws://").split(":")
    # A frame of a client: its first two bytes, a mask of zeros, and what it says.
    frame = b"\x82\xfe" + len(GOOD).to_bytes(2, "big") + bytes(4) + GOOD
    began, sent, first = time.perf_counter(), 0, 0
    while sent < frames:
        block = min(1000, frames - sent)
        await messages(server.address, token, rng, block)
        for _ in range(10):
            # As many again of frames that are damaged themselves, after a good beginning …
            await raw(host, int(port), handshake(token) + damaged(rng, frame * 5))
            # … of requests without the token, and of anything.
            answer = await raw(host, int(port), damaged(rng, handshake("x" * 32)) + frame)
            assert b"101 Switching" not in answer, answer
            await raw(host, int(port), rng.bytes(200))
        sent += block + 30
        first = first or (resident() if sent >= frames / 10 else 0)
    async with AsyncClient(server.address, token=token) as client:
        client.reset(GOAL)
        actions = (await client.act(HERE)).actions
    assert np.allclose(actions, policy.act(HERE, GOAL)[None])
    grown = resident() - first
    counts = server.figures.counts
    print(f"{sent:,} frames in {time.perf_counter() - began:.0f} s; {dict(counts)}; {dict(events)}")
    print(f"memory grew by {grown / 2**20:.1f} MiB after the first tenth")
    assert not failures, failures
    assert grown < GROWTH
    server.stop()
    await running
    assert server.figures.sessions == 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    asyncio.run(fuzz(arguments.frames, arguments.seed))
