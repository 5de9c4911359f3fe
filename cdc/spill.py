"""Files that hold transactions in progress until they are committed.

One file a transaction, only ever appended to, and dropped whole: the server sends everything
again that was not committed, so nothing in them outlives a start. What does not fit on the disk
ends capture with an error and loses nothing, for the same reason.
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Generator
from pathlib import Path

from cdc.errors import SpillError
from cdc.pgoutput_stream import StreamedMessage

_HEAD = struct.Struct(">II")
_BUFFER_BYTES = 1 << 18


class Spill:
    """The files of one source, in a folder of their own; `limit_bytes` of them at most."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._sizes: dict[int, int] = {}
        self._xid = 0
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0

    def clear(self) -> None:
        """Drop what an earlier start left; raises SpillError where that cannot be."""
        try:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._failed(error) from error

    def append(self, transaction: int, streamed: StreamedMessage) -> None:
        """Keep a message; on the disk at the next `flush` at the latest. Raises SpillError."""
        if transaction != self._xid:
            self.flush()
            self._xid = transaction
        self._waiting.append(_HEAD.pack(len(streamed.message), streamed.xid))
        self._waiting.append(streamed.message)
        self._waiting_bytes += _HEAD.size + len(streamed.message)
        if self._waiting_bytes >= _BUFFER_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what waits; raises SpillError."""
        if not self._waiting:
            return
        size = self._sizes.get(self._xid, 0) + self._waiting_bytes
        total = sum(self._sizes.values()) + self._waiting_bytes
        if total > self._limit_bytes:
            raise SpillError(
                f"transactions in progress take more than {self._limit_bytes >> 20} MiB in "
                f'{self._folder}; raise spill_max_mb, or set streaming = "off", which leaves '
                "them to the server until they are committed. Nothing is lost"
            )
        try:
            with self._file(self._xid).open("ab") as out:
                out.writelines(self._waiting)
        except OSError as error:
            raise self._failed(error) from error
        self._sizes[self._xid] = size
        self._waiting.clear()
        self._waiting_bytes = 0

    def messages(self, transaction: int) -> Generator[StreamedMessage]:
        """All that was kept of a transaction, in order; raises SpillError."""
        if transaction not in self._sizes:
            return
        try:
            with self._file(transaction).open("rb", buffering=_BUFFER_BYTES) as file:
                while head := file.read(_HEAD.size):
                    length, xid = _HEAD.unpack(head)
                    yield StreamedMessage(xid, file.read(length))
        except OSError as error:
            raise self._failed(error) from error

    def drop(self, transaction: int) -> None:
        """Forget a transaction."""
        if self._xid == transaction:
            self._waiting.clear()
            self._waiting_bytes = 0
        if self._sizes.pop(transaction, None) is not None:
            self._file(transaction).unlink(missing_ok=True)

    def _file(self, transaction: int) -> Path:
        return self._folder / f"{transaction}.spill"

    def _failed(self, error: OSError) -> SpillError:
        return SpillError(
            f"a transaction in progress cannot be kept in {self._folder}: {error.strerror}; free "
            'space there, or set streaming = "off", which leaves it to the server until it is '
            "committed. Nothing is lost: the server sends it again"
        )
