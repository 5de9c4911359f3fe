"""pgoutput, protocol version 1: the bytes of one message to one value.

Pure, and the only place that knows the layout
(https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html). Version 1
sends a transaction when it is committed, whole and in commit order, so there is no state here:
no streamed transactions, no two-phase commit. Row messages carry their values as the text forms
of the columns' types. Bytes that the protocol does not allow raise SourceFormatError, whatever
they are.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import Enum
from typing import Final, TypeAlias, cast

import msgspec

from cdc.errors import SourceFormatError
from events.lsn import Lsn

POSTGRES_EPOCH_US = 946_684_800_000_000
"""2000-01-01 in microseconds since 1970: the protocol's times count from there."""


class Unchanged(Enum):
    """A large value that an update left alone, so that the log does not hold it (TOAST)."""

    TOAST = "u"


UNCHANGED: Final = Unchanged.TOAST
Value: TypeAlias = "bytes | None | Unchanged"
Row: TypeAlias = "list[Value]"


class Begin(msgspec.Struct, frozen=True, gc=False):
    """`commit` is where the commit record begins; the time is microseconds since 1970."""

    commit: Lsn
    committed_us: int
    xid: int


class Commit(msgspec.Struct, frozen=True, gc=False):
    """`end` is the position after the commit record."""

    commit: Lsn
    end: Lsn
    committed_us: int


class Origin(msgspec.Struct, frozen=True, gc=False):
    """The transaction came here by replication."""

    commit: Lsn
    name: str


class Column(msgspec.Struct, frozen=True, gc=False):
    """`is_key`: part of the replica identity (all columns are with REPLICA IDENTITY FULL)."""

    name: str
    is_key: bool
    type_oid: int
    type_modifier: int


class Relation(msgspec.Struct, frozen=True):
    """A table as the rows that follow have it.

    `replica_identity` is pg_class.relreplident: `d`, `n`, `f` or `i`.
    """

    oid: int
    schema: str
    name: str
    replica_identity: str
    columns: tuple[Column, ...]


class TypeName(msgspec.Struct, frozen=True, gc=False):
    """The name of a type that is not built in."""

    oid: int
    schema: str
    name: str


class Insert(msgspec.Struct, frozen=True, gc=False):
    """A new row."""

    relation: int
    new: Row


class Update(msgspec.Struct, frozen=True, gc=False):
    """A changed row.

    `old` is None unless the replica identity is FULL (`old_is_full`) or one of its columns
    changed; then all other columns of `old` are None.
    """

    relation: int
    old: Row | None
    old_is_full: bool
    new: Row


class Delete(msgspec.Struct, frozen=True, gc=False):
    """A row that is gone; `old` as in Update."""

    relation: int
    old: Row
    old_is_full: bool


class Truncate(msgspec.Struct, frozen=True, gc=False):
    """Tables emptied by one command."""

    relations: tuple[int, ...]
    cascade: bool
    restart_identity: bool


class LogicalMessage(msgspec.Struct, frozen=True, gc=False):
    """What pg_logical_emit_message wrote; `position` is what it returned, its record's end."""

    transactional: bool
    position: Lsn
    prefix: str
    content: bytes


Message: TypeAlias = (
    Begin
    | Commit
    | Origin
    | Relation
    | TypeName
    | Insert
    | Update
    | Delete
    | Truncate
    | LogicalMessage
)

_U16 = struct.Struct(">H").unpack_from
_U32 = struct.Struct(">I").unpack_from
_BEGIN = struct.Struct(">QqI")
_COMMIT = struct.Struct(">BQQq")
_TRUNCATE = struct.Struct(">IB")
_MESSAGE = struct.Struct(">BQ")

_NULL, _TEXT, _UNCHANGED, _BINARY = b"ntub"
_NEW, _KEY, _OLD = b"NKO"
_CASCADE, _RESTART_IDENTITY = 1, 2


def decode_message(data: bytes) -> Message:
    """The message that the bytes hold, which must be all of it.

    Raises SourceFormatError with the bytes' kind and what is wrong.
    """
    if not data:
        raise SourceFormatError("found an empty message, expected a kind")
    decode = _DECODERS.get(data[0])
    if decode is None:
        raise SourceFormatError(
            f"found a message of kind {data[:1]!r}, expected one of pgoutput version 1: "
            + ", ".join(chr(kind) for kind in _DECODERS)
        )
    try:
        message, end = decode(data)
    except (struct.error, IndexError, ValueError) as error:
        raise SourceFormatError(
            f"the message of kind {data[:1]!r}, {len(data)} bytes, cannot be read: {error}"
        ) from error
    if end != len(data):
        raise SourceFormatError(
            f"the message of kind {data[:1]!r} has {len(data)} bytes, expected {end}"
        )
    return message


def insert_relation(data: bytes) -> int:
    """The relation of an Insert; raises SourceFormatError where it is cut short."""
    try:
        relation: int = _U32(data, 1)[0]
    except struct.error as error:
        raise SourceFormatError(f"found an Insert of {len(data)} bytes: {error}") from error
    return relation


def insert_reader(column_count: int) -> Callable[[bytes], Row]:
    """What reads the row of an Insert as decode_message does, for a table of so many columns.

    Generated without a loop, and without a value for the message: 0.7 us where decode_message
    takes 1.7 us, for the one kind that bulk loads consist of. Anything but a plain row goes to
    decode_message, which says what is wrong.
    """
    lines = [
        "def read(d):",
        "    try:",
        f"        if d[5] != {_NEW} or d[6] << 8 | d[7] != {column_count}: return slow(d).new",
        "        p = 8",
    ]
    for index in range(column_count):
        lines += [
            f"        if d[p] == {_TEXT}: s = p + 5; p = s + u32(d, p + 1)[0]; v{index} = d[s:p]",
            f"        elif d[p] == {_NULL}: p += 1; v{index} = None",
            "        else: return slow(d).new",
        ]
    values = ", ".join(f"v{index}" for index in range(column_count))
    lines += [
        "    except (IndexError, error): return slow(d).new",
        f"    return [{values}] if p == len(d) else slow(d).new",
    ]
    scope: dict[str, object] = {"u32": _U32, "error": struct.error, "slow": decode_message}
    exec("\n".join(lines), scope)  # noqa: S102 - the source holds nothing but numbers
    return cast("Callable[[bytes], Row]", scope["read"])


def _begin(data: bytes) -> tuple[Begin, int]:
    commit, committed, xid = _BEGIN.unpack_from(data, 1)
    return Begin(Lsn(commit), committed + POSTGRES_EPOCH_US, xid), 1 + _BEGIN.size


def _commit(data: bytes) -> tuple[Commit, int]:
    _, commit, end, committed = _COMMIT.unpack_from(data, 1)
    return Commit(Lsn(commit), Lsn(end), committed + POSTGRES_EPOCH_US), 1 + _COMMIT.size


def _origin(data: bytes) -> tuple[Origin, int]:
    (commit,) = struct.unpack_from(">Q", data, 1)
    name, end = _text(data, 9)
    return Origin(Lsn(commit), name), end


def _relation(data: bytes) -> tuple[Relation, int]:
    (oid,) = _U32(data, 1)
    schema, position = _text(data, 5)
    name, position = _text(data, position)
    identity = chr(data[position])
    if identity not in "dnfi":
        raise ValueError(f"found the replica identity {identity!r}, expected d, n, f or i")
    (count,) = _U16(data, position + 1)
    position += 3
    columns: list[Column] = []
    for _ in range(count):
        flags = data[position]
        column, position = _text(data, position + 1)
        type_oid, modifier = struct.unpack_from(">Ii", data, position)
        position += 8
        columns.append(Column(column, bool(flags & 1), type_oid, modifier))
    # An empty schema stands for pg_catalog.
    return Relation(oid, schema or "pg_catalog", name, identity, tuple(columns)), position


def _type(data: bytes) -> tuple[TypeName, int]:
    (oid,) = _U32(data, 1)
    schema, position = _text(data, 5)
    name, position = _text(data, position)
    return TypeName(oid, schema or "pg_catalog", name), position


def _insert(data: bytes) -> tuple[Insert, int]:
    (relation,) = _U32(data, 1)
    _expect(data, 5, _NEW)
    new, end = _whole_row(data, 6)
    return Insert(relation, new), end


def _update(data: bytes) -> tuple[Update, int]:
    (relation,) = _U32(data, 1)
    position, old, kind = 5, None, data[5]
    if kind in (_KEY, _OLD):
        old, position = _whole_row(data, 6)
    _expect(data, position, _NEW)
    new, end = _row(data, position + 1)
    return Update(relation, old, kind == _OLD, new), end


def _delete(data: bytes) -> tuple[Delete, int]:
    (relation,) = _U32(data, 1)
    kind = data[5]
    if kind not in (_KEY, _OLD):
        raise ValueError(f"found {bytes([kind])!r} at 5, expected b'K' or b'O'")
    old, end = _whole_row(data, 6)
    return Delete(relation, old, kind == _OLD), end


def _truncate(data: bytes) -> tuple[Truncate, int]:
    count, flags = _TRUNCATE.unpack_from(data, 1)
    if count * 4 > len(data):
        raise ValueError(f"found a count of {count} relations, expected as many as there are")
    relations: tuple[int, ...] = struct.unpack_from(f">{count}I", data, 6)
    truncate = Truncate(relations, bool(flags & _CASCADE), bool(flags & _RESTART_IDENTITY))
    return truncate, 6 + 4 * count


def _logical_message(data: bytes) -> tuple[LogicalMessage, int]:
    flags, position = _MESSAGE.unpack_from(data, 1)
    prefix, at = _text(data, 1 + _MESSAGE.size)
    (length,) = _U32(data, at)
    content = data[at + 4 : at + 4 + length]
    if len(content) != length:
        raise ValueError(f"found {len(content)} bytes of content, expected {length}")
    return LogicalMessage(bool(flags & 1), Lsn(position), prefix, content), at + 4 + length


def _whole_row(data: bytes, position: int) -> tuple[Row, int]:
    row, end = _row(data, position)
    if UNCHANGED in row:
        raise ValueError("found an unchanged value, expected one only in the new row of an update")
    return row, end


def _row(data: bytes, position: int) -> tuple[Row, int]:
    """The values of a row; the hottest loop of capture, so plain and without calls."""
    count = data[position] << 8 | data[position + 1]
    position += 2
    row: Row = []
    append = row.append
    for _ in range(count):
        kind = data[position]
        if kind == _TEXT:
            start = position + 5
            position = start + _U32(data, position + 1)[0]
            append(data[start:position])
        elif kind == _NULL:
            append(None)
            position += 1
        elif kind == _UNCHANGED:
            append(UNCHANGED)
            position += 1
        elif kind == _BINARY:
            raise ValueError("found a binary value, expected text: capture asks for none")
        else:
            raise ValueError(f"found a value of kind {bytes([kind])!r}, expected n, t or u")
    # A slice past the end is short without complaint; decode_message compares the end.
    return row, position


def _text(data: bytes, position: int) -> tuple[str, int]:
    end = data.index(0, position)
    return data[position:end].decode(), end + 1


def _expect(data: bytes, position: int, kind: int) -> None:
    if data[position] != kind:
        raise ValueError(
            f"found {data[position : position + 1]!r} at {position}, expected {bytes([kind])!r}"
        )


_DECODERS = {
    ord("B"): _begin,
    ord("C"): _commit,
    ord("I"): _insert,
    ord("U"): _update,
    ord("D"): _delete,
    ord("R"): _relation,
    ord("T"): _truncate,
    ord("M"): _logical_message,
    ord("Y"): _type,
    ord("O"): _origin,
}
