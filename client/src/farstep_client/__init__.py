"""Ask a farstep policy server for actions."""

from farstep_client.client import AsyncClient, Client, ConnectionLost, Refused, Reply
from farstep_client.wire import WireError, pack, unpack

__all__ = [
    "AsyncClient",
    "Client",
    "ConnectionLost",
    "Refused",
    "Reply",
    "WireError",
    "pack",
    "unpack",
]
