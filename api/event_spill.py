"""Events on disk that Kafka has not taken: written and fsynced before their calls are answered.

One file, only ever appended to, emptied once Kafka has all of it. A line is a checksum and an
event as JSON, so that what a crash or a full disk has cut off is known for what it is: a cut line
at the end was never promised to anybody; a damaged one before it is set aside and told of. Calls
that wait at the same time share one fsync.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from api.read_event import TopicEvent
from events.event import OutgoingEvent

_log = logging.getLogger(__name__)


class SpillError(Exception):
    """An event that was not written: the file is full, or the disk takes no more."""


class _Line(msgspec.Struct, frozen=True):
    """An event; bytes are base64."""

    topic: str
    id: str
    type: str
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


class EventSpill:
    """The file of one journal; `bytes_max` bounds it. One process has it open at a time."""

    def __init__(self, file: Path, bytes_max: int) -> None:
        self._file = file
        self._bytes_max = bytes_max
        self._descriptor = -1
        self._size = 0
        self._lock = asyncio.Lock()
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []

    @property
    def has_room(self) -> bool:
        """Whether another event may be written."""
        return self._descriptor >= 0 and self._size < self._bytes_max

    @property
    def is_empty(self) -> bool:
        """Whether nothing is in it."""
        return self._size == 0

    def open(self) -> list[TopicEvent]:
        """The events of an earlier process, in their order; raises SpillError."""
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _sync_folder(self._file.parent)
            events, good_bytes, damaged = _read(self._file.read_bytes())
            if damaged:
                self._set_aside(damaged)
            os.ftruncate(self._descriptor, good_bytes)
        except OSError as error:
            self.close()
            why = "another process uses it" if isinstance(error, BlockingIOError) else str(error)
            raise SpillError(f"{self._file} cannot be used: {why}") from error
        self._size = good_bytes
        return events

    async def keep(self, events: Sequence[TopicEvent], *, beyond: bool = False) -> None:
        """Write events; they are on disk when this returns. `beyond` the bound too, at the end.

        Raises SpillError where they are not; then none of them is in the file.
        """
        data = b"".join(_line(topic, event) for topic, event in events)
        if self._descriptor < 0:
            raise SpillError("it is not open")
        if self._size + len(data) > self._bytes_max and not beyond:
            raise SpillError(
                f"{self._file} is full: {self._size} bytes of {self._bytes_max} (http.spill_mb)"
            )
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((data, written))
        async with self._lock:
            if not written.done():
                await self._write_waiting()
        written.result()

    async def clear(self, may: Callable[[], bool]) -> None:
        """Empty the file where `may` still says so once nothing is being written."""
        async with self._lock:
            if self._descriptor >= 0 and may() and not self._waiting:
                os.ftruncate(self._descriptor, 0)
                self._size = 0

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    async def _write_waiting(self) -> None:
        group, self._waiting = self._waiting, []
        data = b"".join(one for one, _ in group)
        # Shielded: a call that is given up must not leave the file half known.
        writing = asyncio.ensure_future(asyncio.to_thread(self._append, data))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await asyncio.wait((writing,))
            _settle(group, writing)
            raise
        except OSError:
            pass
        _settle(group, writing)

    def _append(self, data: bytes) -> None:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._descriptor, view) :]
            os.fsync(self._descriptor)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            raise
        self._size += len(data)

    def _set_aside(self, damaged: list[bytes]) -> None:
        aside = self._file.with_suffix(".damaged")
        with aside.open("ab") as out:
            out.writelines(damaged)
        _log.error(
            "%d events in %s are damaged and were not sent; what is left of them is in %s",
            *(len(damaged), self._file, aside),
        )


def _settle(group: list[tuple[bytes, asyncio.Future[None]]], writing: asyncio.Future[None]) -> None:
    error = writing.exception()
    for _, written in group:
        if written.done():
            continue
        if error is None:
            written.set_result(None)
        else:
            written.set_exception(SpillError(f"the disk took no event: {error}"))


def _line(topic: str, event: OutgoingEvent) -> bytes:
    text = msgspec.json.encode(
        _Line(topic, event.id, event.type, event.key, event.value, list(event.headers))
    )
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _read(data: bytes) -> tuple[list[TopicEvent], int, list[bytes]]:
    """The events, the length up to the last whole line, and damaged lines before that."""
    good_bytes = data.rfind(b"\n") + 1
    events: list[TopicEvent] = []
    damaged: list[bytes] = []
    for line in data[:good_bytes].splitlines(keepends=True):
        checksum, _, text = line.rstrip(b"\n").partition(b" ")
        try:
            if int(checksum, 16) != zlib.crc32(text):
                raise ValueError("its checksum is another")  # noqa: TRY301 - one way for all
            one = msgspec.json.decode(text, type=_Line)
        except (ValueError, msgspec.DecodeError):
            damaged.append(line)
            continue
        event = OutgoingEvent(one.id, one.type, one.key, one.value, tuple(one.headers))
        events.append((one.topic, event))
    return events, good_bytes, damaged


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
