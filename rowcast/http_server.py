"""uvicorn as one service among several in a process that handles signals itself."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from events.json_codec import encode
from infra.embedded.server import check_port_free


class JsonHttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol, whose answer to what is no HTTP is JSON as all other errors are."""

    def send_400_response(self, msg: str) -> None:
        """Refuse what the parser does not take: no application has seen it."""
        body = encode(
            {
                "code": "RC400",
                "message": msg,
                "details": "It is no HTTP/1.1, its address is not ASCII, or its head is longer "
                "than 64 KiB",
                "hint": "Ask for less at once: a long in.(...) can be several calls",
            }
        )
        head = (
            b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json; charset=utf-8\r\n"
            b"access-control-allow-origin: *\r\nconnection: close\r\n"
        )
        self.transport.write(head + b"content-length: %d\r\n\r\n" % len(body) + body)
        self.transport.close()


class HttpServer(uvicorn.Server):
    """A server of one application.

    `on_ready` is called once it listens. Raises ServerStartError, with the mend, where its port
    is taken.
    """

    def __init__(self, app: ASGIApp, host: str, port: int, on_ready: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                loop="none",
                http=JsonHttpProtocol,
                lifespan="off",
                log_level="warning",
                access_log=False,
                ws="websockets-sansio",
                # Compression costs 37 KiB a connection and most of the time of a small frame.
                ws_per_message_deflate=False,
                timeout_graceful_shutdown=3,
                # Beyond what a client may say (256 KiB), so that it is told why, not cut off.
                ws_max_size=1024 * 1024,
            )
        )
        self._on_ready = on_ready

    async def run_until(self, stop: asyncio.Event) -> None:
        """Serve until the event is set, then finish what is open."""
        if self.config.host in ("127.0.0.1", "0.0.0.0"):
            check_port_free("HTTP", self.config.port)
        serving = asyncio.create_task(self.serve())
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            self.should_exit = True
            await serving

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say so."""
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals to the service."""
        yield
