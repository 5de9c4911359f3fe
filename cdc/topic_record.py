"""One record of a table's topic, taken apart without touching the values in it.

The row stays the bytes that were written, so that it can be compared with what the encoders make
of the table's text: parsed numbers would lose digits. Pure.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec
import orjson

from cdc.errors import SourceFormatError
from events.connect_json import is_connect_json, plain_key, plain_value

Row: TypeAlias = dict[str, msgspec.Raw]
"""Columns as the JSON that was written of each."""

Position: TypeAlias = tuple[int, int]
"""Commit (an LSN's value) and ordinal: the order of a source's changes."""

_NULL = b"null"


class RecordSource(msgspec.Struct, frozen=True):
    """Where the change comes from; `txId` is null for a row that a snapshot read."""

    lsn: int
    txId: int | None = None  # noqa: N815 - Debezium's name


class RecordTransaction(msgspec.Struct, frozen=True):
    """Its place in its transaction."""

    total_order: int


class TopicRecord(msgspec.Struct, frozen=True):
    """An envelope; `before` and `after` are JSON, `null` where there is none."""

    id: str
    op: Literal["c", "u", "d", "t", "r", "m"]
    source: RecordSource
    before: msgspec.Raw = msgspec.Raw(_NULL)
    after: msgspec.Raw = msgspec.Raw(_NULL)
    unavailable: tuple[str, ...] = ()
    transaction: RecordTransaction | None = None

    @property
    def position(self) -> Position:
        """Its place among the source's changes; that of the reading for a row read."""
        order = self.transaction.total_order if self.transaction is not None else 0
        return self.source.lsn, order

    @property
    def row(self) -> bytes | None:
        """The row after it, None where it is gone."""
        return _bytes(self.after)

    @property
    def old_row(self) -> bytes | None:
        """The row before it as far as it is told."""
        return _bytes(self.before)


_RECORD = msgspec.json.Decoder(TopicRecord)
_ROW = msgspec.json.Decoder(Row)


def decode_record(value: bytes) -> TopicRecord:
    """The record that a value holds; raises SourceFormatError where it is none."""
    try:
        return _RECORD.decode(value)
    except msgspec.DecodeError as error:
        raise SourceFormatError(f"the value is no change of a table: {error}") from error


def decode_row(row: bytes) -> Row:
    """The columns of a row; raises SourceFormatError where it is no JSON object."""
    try:
        return _ROW.decode(row)
    except msgspec.DecodeError as error:
        raise SourceFormatError(f"{row[:80]!r} is no row: {error}") from error


def encode_row(row: Row) -> bytes:
    """The row as it is written on a topic."""
    return msgspec.json.encode(row)


def plain_record(key: bytes | None, value: bytes | None) -> tuple[bytes | None, bytes | None]:
    """Key and value in the plain format, whatever format they are in.

    Connect's JSON has been parsed on the way, so its numbers are written as `parsed` writes them.
    Raises SourceFormatError where it is not as Rowcast writes it.
    """
    if value is None or not is_connect_json(value):
        return key, value
    try:
        return None if key is None else parsed(plain_key(key)), parsed(plain_value(value))
    except ValueError as error:
        raise SourceFormatError(f"the record cannot be read: {error}") from error


def parsed(document: bytes) -> bytes:
    """JSON parsed and written again, so that equal values have equal bytes."""
    return orjson.dumps(orjson.loads(document))


def _bytes(raw: msgspec.Raw) -> bytes | None:
    content = bytes(raw)
    return None if content == _NULL else content
