"""The compiled way of rows, where it was compiled, and what it needs to know of types and of libpq.

Rows go this way or the long one through decode_message and RowEncoder; both write the same bytes.
"""

from __future__ import annotations

import ctypes
from functools import cache
from importlib import import_module
from typing import NamedTuple

from psycopg import pq
from psycopg.pq.abc import PGconn

from events.values.json_documents import encode_json
from events.values.numbers import encode_boolean, encode_float, encode_integer
from events.values.text import Encoder, encode_plain, encode_text
from events.values.times import encode_timestamp, encode_timestamptz

try:
    from cdc import row_path
except ImportError:
    # No C compiler when it was installed: everything goes the long way.
    row_path = None

DRAINED, LIMIT, FRAME, ENDED, FAILED = range(5)
"""What RowPath.drain says: nothing more has arrived; there may be more; there is a frame for the
caller; the COPY has ended; libpq has failed."""

_BY_CALL = 0
_ENCODINGS: dict[Encoder, int] = {
    encode_integer: 1,
    encode_plain: 2,
    encode_text: 3,
    encode_boolean: 4,
    encode_float: 5,
    encode_timestamp: 6,
    encode_timestamptz: 7,
    encode_json: 8,
}


class CopyAddresses(NamedTuple):
    """Where a connection and the functions that read its COPY stand in memory."""

    connection: int
    get_copy_data: int
    consume_input: int
    free_memory: int


def encoding_of(encoder: Encoder) -> int:
    """How the compiled module knows an encoder; by calling it, where it has no way of its own."""
    return _ENCODINGS.get(encoder, _BY_CALL)


def is_compiled() -> bool:
    """Whether the module was compiled when this was installed."""
    return row_path is not None


def copy_addresses(connection: PGconn) -> CopyAddresses | None:
    """For a connection whose libpq is psycopg's own; None where its functions are not found."""
    functions = _functions()
    # Not in psycopg's protocol of connections, but in each of its implementations.
    address: int | None = getattr(connection, "pgconn_ptr", None)
    if functions is None or address is None:
        return None
    return CopyAddresses(address, *functions)


@cache
def _functions() -> tuple[int, int, int] | None:
    if row_path is None:
        return None
    # The same libpq that psycopg is linked with: a second one must not touch its connections.
    try:
        library = ctypes.CDLL(_library_path())
        names = ("PQgetCopyData", "PQconsumeInput", "PQfreemem")
        found = [ctypes.cast(getattr(library, name), ctypes.c_void_p).value for name in names]
    except (KeyError, OSError, AttributeError, ImportError):
        return None
    get_copy_data, consume_input, free_memory = found
    if get_copy_data is None or consume_input is None or free_memory is None:
        return None
    return get_copy_data, consume_input, free_memory


def _library_path() -> str:
    module = {"binary": "psycopg_binary._psycopg", "c": "psycopg_c._psycopg"}[pq.__impl__]
    return str(import_module(module).__file__)
