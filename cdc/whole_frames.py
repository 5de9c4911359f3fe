"""Frames of a replication stream in which every transaction is whole, streamed or not."""

from __future__ import annotations

from typing import Protocol

from cdc.replication_frames import LOG_DATA, LOG_DATA_START
from cdc.replication_stream import ReplicationStream
from cdc.streamed_transaction import StreamedTransactions
from cdc.transaction_assembly import TransactionAssembly

_HEAD = bytes([LOG_DATA]) + bytes(LOG_DATA_START - 1)
# A frame of no kind: something was there, and nothing is to be done.
_KEPT = b"\0"
_KEPT_MAX = 64


class FrameReader(Protocol):
    """What frames are read from."""

    def read_past_rows(self, assembly: TransactionAssembly, frames_max: int) -> bytes | None:
        """The next frame, None where there is none yet, empty where rows were taken in."""
        ...


class WholeFrames:
    """A stream's frames, those of transactions in progress only once they are committed."""

    def __init__(self, stream: ReplicationStream, transactions: StreamedTransactions) -> None:
        self._stream = stream
        self._transactions = transactions

    def read_past_rows(self, assembly: TransactionAssembly, frames_max: int) -> bytes | None:
        """As ReplicationStream.read_past_rows; raises SpillError too."""
        del assembly, frames_max
        message = self._transactions.next()
        if message is not None:
            return _HEAD + message
        for _ in range(_KEPT_MAX):
            frame = self._stream.read()
            if frame is None or frame[0] != LOG_DATA:
                return frame
            taken = self._transactions.take(frame[LOG_DATA_START:])
            if taken is not None:
                return frame
            message = self._transactions.next()
            if message is not None:
                return _HEAD + message
        return _KEPT
