"""What pgoutput version 2 adds: transactions sent while they are in progress, block by block.

Pure (https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html). Inside a
block every message bears the id of the transaction or subtransaction that made it; without that
id it is the message of version 1, which is how it is kept and read later.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from cdc.errors import SourceFormatError

START, STOP, COMMIT, ABORT, RELATION = b"SEcAR"
_WITH_ID = frozenset(b"IUDTRYM")

_COMMIT = struct.Struct(">BIBQQq")
_ABORT = struct.Struct(">BII")
_ABORT_SIZES = (_ABORT.size, _ABORT.size + 16)
_START = struct.Struct(">BIB")
_BEGIN = struct.Struct(">BQqI")
_END = struct.Struct(">BBQQq")


class StreamedMessage(NamedTuple):
    """A message of version 1 and who made it."""

    xid: int
    message: bytes


def decode_start(data: bytes) -> int:
    """The transaction whose block begins; raises SourceFormatError as all here."""
    _expect(data, (_START.size,))
    return int(_START.unpack(data)[1])


def decode_abort(data: bytes) -> tuple[int, int]:
    """The transaction and which of its subtransactions is undone, itself where all is."""
    _expect(data, _ABORT_SIZES)
    _, xid, subxid = _ABORT.unpack_from(data)
    return xid, subxid


def decode_commit(data: bytes) -> tuple[int, bytes, bytes]:
    """The transaction that is committed, and version 1's Begin and Commit of it."""
    _expect(data, (_COMMIT.size,))
    _, xid, flags, commit, end, committed = _COMMIT.unpack(data)
    begin = _BEGIN.pack(ord("B"), commit, committed, xid)
    return xid, begin, _END.pack(ord("C"), flags, commit, end, committed)


def decode_streamed(data: bytes) -> StreamedMessage | None:
    """A message inside a block, None for one that says nothing that is wanted."""
    if data[:1] == b"O":
        return None
    if len(data) < 5 or data[0] not in _WITH_ID:
        raise SourceFormatError(f"found a message of kind {data[:1]!r} in a streamed transaction")
    return StreamedMessage(int.from_bytes(data[1:5], "big"), data[:1] + data[5:])


def relation_oid(message: bytes) -> int:
    """The table that a Relation of version 1 is of."""
    return int.from_bytes(message[1:5], "big")


def _expect(data: bytes, sizes: tuple[int, ...]) -> None:
    if len(data) not in sizes:
        raise SourceFormatError(
            f"found a message {data[:1]!r} of {len(data)} bytes, expected {sizes}"
        )
