"""What is no HTTP is refused as every other call is: in JSON."""

from __future__ import annotations

import asyncio
import json

import pytest
from starlette.applications import Starlette

from rowcast.http_server import HttpServer
from tests.conftest import free_ports

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "head", [b"GET /" + b"x" * 70_000, "GET /ä".encode(), b"BREW /", b"GET / HTTP/1.1\r\nno header"]
)
async def test_what_is_no_http_is_refused_in_json(head: bytes) -> None:
    (port,) = free_ports(1)
    stop, ready = asyncio.Event(), asyncio.Event()
    server = HttpServer(Starlette(), "127.0.0.1", port, ready.set)
    running = asyncio.create_task(server.run_until(stop))
    await ready.wait()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head + b" HTTP/1.1\r\n\r\n")
    answer = await reader.read()
    writer.close()
    stop.set()
    await running
    assert answer.startswith(b"HTTP/1.1 400 ")
    error = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert set(error) == {"code", "message", "details", "hint"}
