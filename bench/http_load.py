"""Clients that ask over HTTP as fast as they are answered, each on one connection."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

Asking: TypeAlias = Callable[[], tuple[str, bytes]]
"""Makes the next request: method and address, and body."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Requests a second, and what a request took in ms."""

    rate: float
    p50_ms: float
    p99_ms: float


async def measure(port: int, asking: Asking, token: str, seconds: float, clients: int) -> Measured:
    """All clients at once, for a while."""
    took_s: list[float] = []
    until_s = time.perf_counter() + seconds
    begun_s = time.perf_counter()
    await asyncio.gather(*(_ask(port, asking, token, until_s, took_s) for _ in range(clients)))
    whole_s = time.perf_counter() - begun_s
    took_s.sort()
    return Measured(
        len(took_s) / whole_s,
        took_s[len(took_s) // 2] * 1_000,
        took_s[len(took_s) * 99 // 100] * 1_000,
    )


async def _ask(port: int, asking: Asking, token: str, until_s: float, took_s: list[float]) -> None:
    """Ask on one connection, one request after the other."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"Host: bench\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
    while (begun_s := time.perf_counter()) < until_s:
        line, body = asking()
        size = f"Content-Length: {len(body)}\r\n\r\n"
        writer.write(f"{line} HTTP/1.1\r\n{head}{size}".encode() + body)
        headers = await reader.readuntil(b"\r\n\r\n")
        if not headers.startswith(b"HTTP/1.1 20"):
            raise RuntimeError(headers.decode())
        length = headers.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        await reader.readexactly(int(length))
        took_s.append(time.perf_counter() - begun_s)
    writer.close()
