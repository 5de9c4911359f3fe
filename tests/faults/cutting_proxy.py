"""A TCP proxy that cuts connections in the middle of what is sent, and stalls them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine, Generator
from contextlib import contextmanager
from typing import TypeVar

_Result = TypeVar("_Result")
_CHUNK_BYTES = 65_536
_LIMIT_S = 30.0


class CuttingProxy:
    """Forwards to a port on loopback until told otherwise, from any thread."""

    def __init__(self, target_port: int, port: int = 0) -> None:
        self._target_port = target_port
        self._port = port
        self._loop = asyncio.new_event_loop()
        self._flows = asyncio.Event()
        self._flows.set()
        self._cut_after: int | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.cuts = 0
        self.port = 0

    @contextmanager
    def running(self) -> Generator[CuttingProxy]:
        """Forward until the end of the context."""
        thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        thread.start()
        server = self._call(self._listen())
        try:
            yield self
        finally:
            self._call(self._close(server))
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join(_LIMIT_S)
            self._loop.close()

    def cut(self, after_bytes: int) -> None:
        """Reset every connection once so many bytes more have come from its server."""
        self._loop.call_soon_threadsafe(self._set_cut, after_bytes)

    def stall(self) -> None:
        """Forward nothing more, either way; connections stay, and new ones are taken."""
        self._loop.call_soon_threadsafe(self._flows.clear)

    def heal(self) -> None:
        """Forward again, on new connections; those that were stalled are reset."""
        self._call(self._heal())

    def _set_cut(self, after_bytes: int) -> None:
        self._cut_after = after_bytes

    async def _listen(self) -> asyncio.Server:
        server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _close(self, server: asyncio.Server) -> None:
        server.close()
        await self._reset_all()

    async def _heal(self) -> None:
        await self._reset_all()
        self._flows.set()

    async def _reset_all(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        ends = [writer]
        try:
            await self._flows.wait()
            far = await asyncio.open_connection("127.0.0.1", self._target_port)
            ends.append(far[1])
            ways = (self._pump(reader, far[1], cuts=False), self._pump(far[0], writer, cuts=True))
            pumps = [asyncio.ensure_future(way) for way in ways]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            for end in ends:
                _reset(end)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, cuts: bool
    ) -> None:
        while data := await reader.read(_CHUNK_BYTES):
            await self._flows.wait()
            if cuts and self._cut_after is not None:
                if len(data) >= self._cut_after:
                    writer.write(data[: self._cut_after])
                    self._cut_after = None
                    self.cuts += 1
                    # The other connections go with it, wherever they stand.
                    for task in self._tasks:
                        task.cancel()
                    return
                self._cut_after -= len(data)
            writer.write(data)
            with contextlib.suppress(OSError):
                await writer.drain()

    def _call(self, work: Coroutine[None, None, _Result]) -> _Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_LIMIT_S)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with a reset, as a router that forgets a connection does."""
    raw: socket.socket | None = writer.get_extra_info("socket")
    if raw is not None:
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
