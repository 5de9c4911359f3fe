"""What goes over a replication connection's COPY: frames of log data, keepalives, feedback.

Pure (https://www.postgresql.org/docs/current/protocol-replication.html). Log data is told from
keepalives by the first byte; its content starts at LOG_DATA_START, which the reader slices
itself since it does so for every row.
"""

from __future__ import annotations

import struct

import msgspec

from cdc.errors import SourceFormatError
from cdc.pgoutput import POSTGRES_EPOCH_US
from events.lsn import Lsn

LOG_DATA = ord("w")
LOG_DATA_START = 25
KEEPALIVE = ord("k")

_KEEPALIVE = struct.Struct(">cQqB")
_STATUS = struct.Struct(">cQQQqB")


class Keepalive(msgspec.Struct, frozen=True, gc=False):
    """`end` is how far the server has read its log and sent what it holds."""

    end: Lsn
    reply_requested: bool


def decode_keepalive(data: bytes) -> Keepalive:
    """The keepalive in a frame; raises SourceFormatError where it is none."""
    if len(data) != _KEEPALIVE.size:
        raise SourceFormatError(
            f"found a frame {data[:1]!r} of {len(data)} bytes, "
            f"expected a keepalive of {_KEEPALIVE.size}"
        )
    _, end, _, reply = _KEEPALIVE.unpack(data)
    return Keepalive(Lsn(end), bool(reply))


def encode_status(
    received: Lsn, confirmed: Lsn, now_us: int, *, reply_requested: bool = False
) -> bytes:
    """Feedback: what was received, and what will never be asked for again.

    With `reply_requested` the server answers at once with a keepalive.
    """
    values = received.value, confirmed.value, confirmed.value, now_us - POSTGRES_EPOCH_US
    return _STATUS.pack(b"r", *values, reply_requested)
