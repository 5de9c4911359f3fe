"""One WebSocket: what it receives goes to its session, what waits in the outbox is sent.

Speaks ASGI itself, since every layer over it is paid for with each message, and sends frames as
push/joined_write.py does.
"""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qs

from starlette.types import Message, Receive, Scope, Send

from push.joined_write import frame_writer
from push.outbox import Ending
from push.session import Session

_CLOSE_LIMIT_S = 10.0


class Connection:
    """A WebSocket from its handshake to its end."""

    def __init__(self, receive: Receive, send: Send, session: Session) -> None:
        self._receive = receive
        self._send = send
        self._session = session

    async def run(self, token: str | None) -> None:
        """Serve it until either side ends it; `token` is the one of its address."""
        await self._receive()
        await self._send({"type": "websocket.accept"})
        if token is not None:
            self._session.authenticate(token)
        reading = asyncio.create_task(self._read())
        writing = asyncio.create_task(self._write())
        # A client that reads nothing at all cannot be told that it is closed.
        self._session.outbox.on_end(
            lambda: asyncio.get_running_loop().call_later(_CLOSE_LIMIT_S, writing.cancel)
        )
        try:
            done, _ = await asyncio.wait((reading, writing), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._session.close()
            reading.cancel()
            writing.cancel()
            await asyncio.gather(reading, writing, return_exceptions=True)
        for task in done:
            error = None if task.cancelled() else task.exception()
            if error is not None and not isinstance(error, OSError):
                raise error

    async def _read(self) -> None:
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                return
            await self._session.receive(_text(message))

    async def _write(self) -> None:
        outbox = self._session.outbox
        write = frame_writer(self._receive, self._send)
        while not isinstance(next_out := await outbox.next(), Ending):
            await write(next_out)
        close = {"type": "websocket.close", "code": next_out.code, "reason": next_out.reason}
        await self._send(close)


def query_token(scope: Scope) -> str | None:
    """The token in a connection's address, where one is there."""
    query: object = scope["query_string"]
    if not isinstance(query, bytes):
        return None
    values = parse_qs(query.decode("latin-1")).get("token")
    return values[0] if values else None


def _text(message: Message) -> str | None:
    text: object = message.get("text")
    return text if isinstance(text, str) else None
