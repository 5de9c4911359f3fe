"""The fields of a BSON document as slices of its bytes, one level deep.

A change event is mostly one user document; what is needed beside it is a handful of small
fields. Walking the bytes once and slicing costs less than building Python objects that would be
turned back into text, and the user's document goes to the JSON encoder untouched. Written after
https://bsonspec.org/spec.html, version 1.1. It never reads into a value that nobody asks for.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from bson.errors import InvalidBSON

DOUBLE: Final = 0x01
STRING: Final = 0x02
DOCUMENT: Final = 0x03
ARRAY: Final = 0x04
BINARY: Final = 0x05
OBJECT_ID: Final = 0x07
DATETIME: Final = 0x09
NULL: Final = 0x0A
REGEX: Final = 0x0B
INT32: Final = 0x10
TIMESTAMP: Final = 0x11
INT64: Final = 0x12

EMPTY_DOCUMENT: Final = b"\x05\x00\x00\x00\x00"

_FIXED_SIZE: Final = {
    DOUBLE: 8,
    0x06: 0,  # undefined
    OBJECT_ID: 12,
    0x08: 1,  # boolean
    DATETIME: 8,
    NULL: 0,
    INT32: 4,
    TIMESTAMP: 8,
    INT64: 8,
    0x13: 16,  # decimal128
    0xFF: 0,  # minimum key
    0x7F: 0,  # maximum key
}
# What a value's own length prefix leaves out: itself and, for binary, the subtype.
_BEYOND_PREFIX: Final = {
    STRING: 4,
    0x0D: 4,  # code
    0x0E: 4,  # symbol
    BINARY: 5,
    0x0C: 16,  # database pointer: prefixed text, then 12 bytes
    DOCUMENT: 0,
    ARRAY: 0,
    0x0F: 0,  # code with scope: its prefix counts all of it
}

_int32 = struct.Struct("<i").unpack_from
_int64 = struct.Struct("<q").unpack_from
_timestamp = struct.Struct("<II").unpack_from


class Field(NamedTuple):
    """Where a value lies: its BSON type, and the half-open range of its bytes."""

    kind: int
    start: int
    stop: int


def fields(data: bytes, start: int = 0) -> dict[bytes, Field]:
    """The fields of the document that begins at `start`; of a repeated name, the last.

    Raises InvalidBSON where the bytes are no document.
    """
    return dict(_walk(data, start))


def items(data: bytes, start: int = 0) -> list[Field]:
    """The elements of the array that begins at `start`, in order.

    Raises InvalidBSON where the bytes are no array.
    """
    return [field for _, field in _walk(data, start)]


def _walk(data: bytes, start: int) -> Iterator[tuple[bytes, Field]]:
    try:
        end = start + _int32(data, start)[0] - 1
        if end > len(data) - 1 or end < start + 4 or data[end]:
            raise InvalidBSON(f"found a document that does not end where it says, at {start}")
        position = start + 4
        while position < end:
            kind = data[position]
            name_end = data.index(0, position + 1, end)
            name = data[position + 1 : name_end]
            position = name_end + 1
            stop = position + _value_size(data, kind, position)
            if not position <= stop <= end:
                raise InvalidBSON(f"found the field {name!r} reaching beyond its document")
            yield name, Field(kind, position, stop)
            position = stop
    except (struct.error, ValueError, IndexError) as error:
        raise InvalidBSON(f"found bytes that are no BSON document: {error}") from error


def _value_size(data: bytes, kind: int, start: int) -> int:
    size = _FIXED_SIZE.get(kind)
    if size is not None:
        return size
    beyond = _BEYOND_PREFIX.get(kind)
    if beyond is not None:
        return int(_int32(data, start)[0]) + beyond
    if kind == REGEX:
        return data.index(0, data.index(0, start) + 1) + 1 - start
    raise InvalidBSON(f"found the type 0x{kind:02X}, expected one of BSON 1.1")


def text(data: bytes, field: Field) -> str:
    """A string value."""
    if field.kind != STRING:
        raise InvalidBSON(f"found the type 0x{field.kind:02X}, expected a string")
    return data[field.start + 4 : field.stop - 1].decode()


def integer(data: bytes, field: Field) -> int:
    """A 32-bit or 64-bit integer, or a date as milliseconds since 1970."""
    if field.kind == INT32:
        return int(_int32(data, field.start)[0])
    if field.kind in (INT64, DATETIME):
        return int(_int64(data, field.start)[0])
    raise InvalidBSON(f"found the type 0x{field.kind:02X}, expected an integer or a date")


def timestamp(data: bytes, field: Field) -> tuple[int, int]:
    """A cluster time as (seconds, increment)."""
    if field.kind != TIMESTAMP:
        raise InvalidBSON(f"found the type 0x{field.kind:02X}, expected a timestamp")
    increment, seconds = _timestamp(data, field.start)
    return int(seconds), int(increment)


def document(data: bytes, field: Field | None) -> bytes | None:
    """The bytes of an embedded document, None where it is absent or null."""
    if field is None or field.kind == NULL:
        return None
    if field.kind != DOCUMENT:
        raise InvalidBSON(f"found the type 0x{field.kind:02X}, expected a document")
    return data[field.start : field.stop]


def compose(parts: Mapping[bytes, bytes]) -> bytes:
    """A document of the fields given by name, each as `element` gives it."""
    body = b"".join(value[:1] + name + b"\x00" + value[1:] for name, value in parts.items())
    return struct.pack("<i", len(body) + 5) + body + b"\x00"


def element(data: bytes, field: Field) -> bytes:
    """A field's type byte and value bytes: equal bytes are equal values."""
    return bytes((field.kind,)) + data[field.start : field.stop]
