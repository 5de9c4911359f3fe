"""The frames that wait for one connection; bounded in bytes, not in time.

The oldest frame does not count, so that an event of any size gets through an idle connection.
Whoever puts what does not fit ends the outbox: the client is too slow, is told so and comes back
with its positions. A slow client takes the limit, what left
the outbox last, and a frame. No I/O here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from push.frame import Frame
from push.protocol import answer

_JOINED_BYTES = 64 * 1024
"""What is taken out at once; what does not leave then waits where it no longer counts."""

SLOW = 1013
"""Try again later (RFC 6455 registry)."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a connection is closed."""

    code: int
    reason: str


class Outbox:
    """First in, first out, for one reader."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._frames: deque[Frame] = deque()
        self._size_bytes = 0
        self._filled = asyncio.Event()
        self._drained = asyncio.Event()
        self._ending: Ending | None = None
        self._on_end: Callable[[], object] | None = None

    @property
    def has_ended(self) -> bool:
        """Whether nothing more is taken."""
        return self._ending is not None

    def fits(self, size_bytes: int) -> bool:
        """Whether so much may be put."""
        if not self._frames:
            return True
        behind = self._size_bytes - self._frames[0].size_bytes
        return behind + size_bytes <= self._limit_bytes

    def put(self, frame: Frame) -> None:
        """Queue a frame; one that does not fit ends the outbox."""
        if self._ending is not None:
            return
        if not self.fits(frame.size_bytes):
            self.end_slow()
            return
        self._frames.append(frame)
        self._size_bytes += frame.size_bytes
        self._filled.set()

    def end_slow(self) -> None:
        """Close a client that does not read, and tell it that it may come back."""
        self.end(SLOW, "the client reads too slowly", _slow(self._size_bytes))

    def end(self, code: int, reason: str, last: Frame | None = None) -> None:
        """Drop what waits, let one last frame out and close; the first to end it decides."""
        if self._ending is not None:
            return
        self._ending = Ending(code, reason)
        self._frames.clear()
        if last is not None:
            self._frames.append(last)
        self._size_bytes = 0 if last is None else last.size_bytes
        self._filled.set()
        self._drained.set()
        if self._on_end is not None:
            self._on_end()

    def on_end(self, call: Callable[[], object]) -> None:
        """Call once nothing more is taken."""
        self._on_end = call
        if self._ending is not None:
            call()

    async def next(self) -> list[Frame] | Ending:
        """The oldest frames, once there are any; the ending when all are out."""
        while not self._frames:
            if self._ending is not None:
                return self._ending
            self._filled.clear()
            await self._filled.wait()
        frames: list[Frame] = []
        size_bytes = 0
        while self._frames and (not frames or size_bytes < _JOINED_BYTES):
            frames.append(self._frames.popleft())
            size_bytes += frames[-1].size_bytes
        self._size_bytes -= size_bytes
        self._drained.set()
        return frames

    async def room(self, size_bytes: int) -> None:
        """Wait until so much may be put, or nothing more is taken."""
        while self._ending is None and not self.fits(size_bytes):
            self._drained.clear()
            await self._drained.wait()


def _slow(waiting_bytes: int) -> Frame:
    return answer(
        "error",
        ref=None,
        code="slow",
        message=f"found {waiting_bytes:,} bytes that wait for this client, expected it to read "
        "faster; connect again and register with `from`, nothing is lost",
    )
