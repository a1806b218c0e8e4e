"""Time from request to reply of a served policy, beside the policy's own call.

    python benchmarks/serving.py

Requests come from 1, 10 and 100 clients at once on the loopback device. The policy is an untrained
MQE 256 wide with 128 latent dimensions on a 29-dimensional observation.
"""

from __future__ import annotations

import asyncio
import statistics
import time

import jax
import numpy as np

from farstep.agents.mqe import MQE
from farstep.core.types import Actions, Space, Spaces
from farstep.data.normalize import Normalization
from farstep.serving.policy import Policy
from farstep.serving.server import PolicyServer, ServerOptions
from farstep.serving.session import SessionOptions
from farstep_client import AsyncClient

REQUESTS = 1000


def untrained() -> Policy:
    """A policy of the usual size."""
    spaces = Spaces.from_observation(Space((29,)), Actions(8))
    agent = MQE(hidden=(256, 256, 256), latent=128)
    return Policy(
        agent=agent,
        params=agent.encoded_networks(spaces, jax.random.key(0)),
        spaces=spaces,
        normalization=Normalization.identity(spaces),
        dataset="none",
        environment=None,
        step=0,
    )


async def latencies(address: str, clients: int) -> list[float]:
    """Milliseconds of each of `REQUESTS` requests from so many clients."""
    observation, goal = np.zeros(29, np.float32), np.ones(29, np.float32)
    took: list[float] = []

    async def one() -> None:
        async with AsyncClient(address, timeout=60) as client:
            client.reset(goal)
            await client.act(observation)
            for _ in range(REQUESTS // clients):
                began = time.perf_counter()
                await client.act(observation)
                took.append(1e3 * (time.perf_counter() - began))

    await asyncio.gather(*(one() for _ in range(clients)))
    return took


async def measure() -> None:
    """Print the table."""
    policy = untrained()
    observation, goal = np.zeros(29, np.float32), np.ones(29, np.float32)
    calls = []
    for _ in range(REQUESTS):
        began = time.perf_counter()
        policy.act(observation, goal)
        policy.distance(observation, goal)
        calls.append(1e3 * (time.perf_counter() - began))
    print("| in flight | median ms | 99 % ms | requests/s |\n|---|---|---|---|")
    print(f"| bare call | {statistics.median(calls):.2f} | {np.quantile(calls, 0.99):.2f} | |")
    options = ServerOptions(port=0, most_sessions=200, rate=1e9, deadline=60)
    server = PolicyServer(lambda: policy, options, SessionOptions(), log=lambda line: None)
    running = asyncio.create_task(server.run())
    await server.started()
    for clients in (1, 10, 100):
        began = time.perf_counter()
        took = await latencies(server.address, clients)
        rate = len(took) / (time.perf_counter() - began)
        middle, tail = statistics.median(took), np.quantile(took, 0.99)
        print(f"| {clients} | {middle:.2f} | {tail:.2f} | {rate:.0f} |")
    server.stop()
    await running


if __name__ == "__main__":
    asyncio.run(measure())
