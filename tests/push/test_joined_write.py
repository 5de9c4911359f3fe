"""Below ASGI where the server is uvicorn's, by ASGI where it is another: the client sees no
difference."""

from __future__ import annotations

import asyncio

import pytest
from starlette.types import Message
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from push import joined_write
from push.frame import Frame
from tests.push.push_bench import PushBench

pytestmark = pytest.mark.anyio


async def test_another_server_is_sent_one_message_a_frame() -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    write = joined_write.frame_writer(receive, send)
    await write([Frame.of(b'{"a":1}'), Frame.of("é".encode())])
    assert sent == [
        {"type": "websocket.send", "text": '{"a":1}'},
        {"type": "websocket.send", "text": "é"},
    ]


@pytest.mark.integration
async def test_frames_that_wait_leave_uvicorn_in_one_write_and_arrive_one_by_one(
    bench: PushBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages: list[str] = []
    send = WebSocketsSansIOProtocol.send

    async def noting(self: WebSocketsSansIOProtocol, message: Message) -> None:
        messages.append(message["type"])
        await send(self, message)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(WebSocketsSansIOProtocol, "send", noting)
    async with bench.serving() as server, server.client() as client:
        await client.register(pattern=bench.pattern)
        written = await asyncio.gather(*(bench.write({"id": number}) for number in range(50)))
        await client.wait_for_events(50)
        assert sorted(await client.settled()) == sorted(written)
    assert messages == ["websocket.accept"]
