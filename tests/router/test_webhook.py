"""The built-in action webhook against servers that behave and servers that do not."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import pytest

from events.event import Event
from events.run import RunOutcome
from router.definition import Definition, Webhook
from router.delivery import Delivery
from router.webhook import call_webhook

pytestmark = pytest.mark.anyio

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(serve: Serve) -> AsyncGenerator[str]:
    writers: list[asyncio.StreamWriter] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        try:
            await serve(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    server.close()
    for writer in writers:
        writer.close()


async def call(url: str, timeout_s: float = 5.0) -> RunOutcome:
    webhook = Webhook(url)
    definition = Definition("hook", "custom.x", webhook, timeout_s=timeout_s)
    event = Event("e-1", "custom.x", {}, b'{"id":"e-1","type":"custom.x"}')
    delivery = Delivery(definition, event, None, "t", 0, 0)
    async with httpx.AsyncClient(follow_redirects=False) as client:
        return await call_webhook(client, delivery, webhook)


def says(text: bytes) -> Serve:
    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(text)
        await writer.drain()

    return serve


async def silence(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read()  # until the client gives up


async def drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 500 No\r\nContent-Length: 400\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.01)


async def flood(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
        await writer.drain()


async def agree_and_go_on(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 Yes\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"1\r\nx\r\n")
        await writer.drain()
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("serve", [silence, drip])
async def test_a_server_that_takes_for_ever_is_a_timeout(serve: Serve) -> None:
    async with asyncio.timeout(30), serving(serve) as url:
        outcome = await call(url, timeout_s=0.3)
    assert outcome.status == "timeout"
    assert "did not answer within 0.3 s" in str(outcome.error)


async def test_an_answer_without_end_is_read_only_as_far_as_it_is_told() -> None:
    async with asyncio.timeout(30), serving(flood) as url:
        outcome = await call(url, timeout_s=20)
    assert outcome.status == "failed"
    assert str(outcome.error).endswith("answered 500, expected 2xx: " + "x" * 500)


async def test_a_success_counts_whatever_follows_it() -> None:
    async with asyncio.timeout(30), serving(agree_and_go_on) as url:
        outcome = await call(url)
    assert (outcome.status, outcome.result) == ("ok", 200)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HTTP/1.1 302 Go\r\nLocation: http://127.0.0.1:9/\r\n\r\n", "answered 302"),
        (b"HTTP/1.1 404 No\r\nContent-Length: 4\r\n\r\ngone", "answered 404.*: gone"),
        (b"\xff\xfe\x00garbage\r\n\r\n", "was not reached"),
        (b"", "was not reached"),
        (b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\n\xff\xff", "answered 500"),
        (
            b"HTTP/1.1 500 No\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
            "answered 500.*: abc",
        ),
    ],
)
async def test_anything_but_a_success_is_a_failed_run(answer: bytes, expected: str) -> None:
    async with serving(says(answer)) as url:
        outcome = await call(url)
    assert outcome.status == "failed"
    assert re.search(expected, outcome.error or ""), outcome.error


async def test_an_event_id_that_no_header_can_hold_fails_the_run_only() -> None:
    async with serving(says(b"HTTP/1.1 204 Yes\r\n\r\n")) as url:
        webhook = Webhook(url)
        event = Event("e\r\nx: 1", "custom.x", {}, b"{}")
        delivery = Delivery(Definition("hook", "custom.x", webhook), event, None, "t", 0, 0)
        async with httpx.AsyncClient() as client:
            outcome = await call_webhook(client, delivery, webhook)
    assert outcome.status == "failed"
