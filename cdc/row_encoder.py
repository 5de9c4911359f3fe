"""Rows of one table as they stand on Kafka: the record's key and the envelope's bytes.

For each relation a function is generated that writes a whole row in one formatting operation
(1.0 us for six columns; a loop over encoders takes 1.8 us), and everything in the envelope that
a table or a transaction has in common is made once. docs/design.md, section 2, is the format.
Pure; a row function must never be given a value that is UNCHANGED.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, cast

import orjson

from cdc.compiled_rows import encoding_of, row_path
from cdc.copy_text import split_line
from cdc.errors import SourceFormatError
from cdc.pgoutput import UNCHANGED, Relation, Row, Value
from events.event_id import postgres_change_id, snapshot_prefix
from events.event_type import RowOperation, row_type
from events.json_codec import JsonObject, JsonValue, encode
from events.lsn import Lsn
from events.topic import change_topic
from events.values.numbers import encode_integer
from events.values.text import Encoder, encode_plain, encode_text

if TYPE_CHECKING:
    from cdc.row_path import RowPath, Table

_NULL = b"null"
_ROW_ID_BYTES = 12


class Change(NamedTuple):
    """One record to be: its key (None for a table without one) and its value."""

    key: bytes | None
    value: bytes


@dataclass(frozen=True, slots=True)
class TransactionBytes:
    """What all envelopes of one transaction have in common."""

    source: str
    commit: Lsn
    timestamp_ms: int
    head: bytes
    tail: bytes

    @classmethod
    def of(cls, source: str, commit: Lsn, xid: int, timestamp_ms: int) -> TransactionBytes:
        """For the transaction whose commit record begins at a position."""
        identity = postgres_change_id(source, commit, 0).removesuffix("0")
        tail = (
            f'"lsn":{commit.value},"txId":{xid},"ts_ms":{timestamp_ms},"snapshot":"false"}},'
            f'"transaction":{{"id":"{xid}:{commit.value}","total_order":'
        )
        head = b'{"id":' + encode(identity)[:-1]
        return cls(source, commit, timestamp_ms, head, tail.encode())


@dataclass(frozen=True, slots=True)
class SnapshotBytes:
    """What the envelopes of all rows of one chunk have in common."""

    head: bytes
    tail: bytes

    @classmethod
    def of(cls, source: str, snapshot: str, position: Lsn, now_ms: int) -> SnapshotBytes:
        """For rows read at a position of the log; `snapshot` is the snapshot's own id."""
        head = b'{"id":' + encode(snapshot_prefix(source, snapshot))[:-1]
        tail = (
            f'"lsn":{position.value},"txId":null,"ts_ms":{now_ms},"snapshot":"true"}},'
            f'"transaction":null,"ts_ms":{now_ms}}}'
        )
        return cls(head, tail.encode())


class RowEncoder:
    """The encoder of one relation's changes, as its Relation message describes it.

    `key_columns` name the columns of the record key, none for a key of None; `encoders` are those
    of the columns' types, in their order, and `type_names` what PostgreSQL calls them.
    """

    def __init__(
        self,
        source: str,
        database: str,
        relation: Relation,
        key_columns: Sequence[str],
        encoders: Sequence[Encoder],
        type_names: Sequence[str] = (),
    ) -> None:
        names = [column.name for column in relation.columns]
        self.topic = change_topic(source, relation.schema, relation.name)
        self.relation = relation
        columns: list[JsonValue] = [
            {"name": column.name, "type": type_name, "key": column.name in key_columns}
            for column, type_name in zip(relation.columns, type_names, strict=False)
        ]
        self.look: JsonObject = {
            "schema": relation.schema,
            "table": relation.name,
            "replica_identity": relation.replica_identity,
            "columns": columns,
        }
        self._names = [encode(name) for name in names]
        self._encoders = list(encoders)
        self._identity = [index for index, column in enumerate(relation.columns) if column.is_key]
        key_indexes = [index for index, name in enumerate(names) if name in key_columns]
        self._key_indexes = key_indexes
        self._row = _compile(self._names, self._encoders, range(len(names)))
        self._key = _compile(self._names, self._encoders, key_indexes) if key_indexes else _no_key
        own = encode(
            {
                "connector": "postgresql",
                "name": source,
                "db": database,
                "schema": relation.schema,
                "table": relation.name,
            }
        )
        self._source = b',"source":' + own[:-1] + b","
        self._middle = {
            operation: b'","type":%b,"op":"%b"'
            % (
                encode(row_type(source, relation.schema, relation.name, operation)),
                operation.op.encode(),
            )
            for operation in RowOperation
        }
        self._created = self._middle[RowOperation.CREATED] + b',"before":null,"after":'
        self._created_end = b',"changed":null,"unavailable":[]' + self._source
        self._read = self._middle[RowOperation.SNAPSHOT] + b',"before":null,"after":'
        self._lines: tuple[RowPath, Table] | None = None
        self._table_hash = hashlib.blake2b(
            encode([relation.schema, relation.name]), digest_size=_ROW_ID_BYTES
        )

    def table(self) -> Table:
        """The same encoder for the compiled way of rows."""
        if row_path is None:
            raise RuntimeError("rows do not go the compiled way here")
        return row_path.Table(
            self.topic,
            self._names,
            [encoding_of(encoder) for encoder in self._encoders],
            self._encoders,
            self._key_indexes,
            self._identity,
            self._created,
            self._created_end,
            self._middle[RowOperation.UPDATED],
            self._middle[RowOperation.DELETED],
            self._source,
        )

    def created(
        self, row: Row, ordinal: bytes, transaction: TransactionBytes, end: bytes
    ) -> Change:
        """An insert. `ordinal` is in decimal digits; `end` is envelope_end's."""
        value = b"".join(
            (
                transaction.head,
                ordinal,
                self._created,
                self._row(row),
                self._created_end,
                transaction.tail,
                ordinal,
                end,
            )
        )
        return Change(self._key(row), value)

    def read(
        self, row: Row, snapshot: SnapshotBytes, place: bytes | None = None
    ) -> tuple[bytes, bytes]:
        """A row read by a snapshot: its identity and its value.

        The identity is the record key; in a table without one it is the row's JSON, and `place`
        is what its id is made of.
        """
        after = self._row(row)
        identity = after if place is not None else self._key(row) or after
        digest = self._table_hash.copy()
        digest.update(place or identity)
        value = b"".join(
            (
                snapshot.head,
                digest.hexdigest().encode(),
                self._read,
                after,
                self._created_end,
                snapshot.tail,
            )
        )
        return identity, value

    def read_lines(
        self, lines: list[bytes], snapshot: SnapshotBytes, rows: list[tuple[bytes, bytes]]
    ) -> None:
        """COPY's lines of a table with a key, as `read` makes them, at the end of `rows`."""

        def long_way(line: bytes) -> tuple[bytes, bytes]:
            return self.read(split_line(line), snapshot)

        if row_path is None:
            rows.extend(map(long_way, lines))
            return
        if self._lines is None:
            self._lines = row_path.RowPath(), self.table()
        path, table = self._lines
        path.read_lines(
            table,
            lines,
            snapshot.head,
            self._read,
            snapshot.tail,
            self._table_hash,
            rows,
            long_way,
        )

    def row_json(self, row: Row) -> bytes:
        """A whole row as `after` has it; what identifies it in a table without a key."""
        return self._row(row)

    def key(self, row: Row) -> bytes | None:
        """The record key of a row, None in a table without one."""
        return self._key(row)

    @property
    def is_keyed(self) -> bool:
        """Whether records have a key."""
        return bool(self._key_indexes)

    def updated(
        self,
        old: Row | None,
        new: Row,
        ordinal: int,
        transaction: TransactionBytes,
        end: bytes,
        *,
        old_is_full: bool,
    ) -> tuple[Change, ...]:
        """An update: one change, or where the key is another one, `d` and `c`.

        `ordinal` is that of the first. Raises SourceFormatError where the key is not known.
        """
        unavailable = b""
        if UNCHANGED in new:
            new, unavailable = self._filled(old, new, old_is_full=old_is_full)
        key = self._key_of(new)
        after = self._present(new) if unavailable else self._row(new)
        if old is None:
            body = b',"before":null,"after":%b,"changed":null,"unavailable":[%b]' % (
                after,
                unavailable,
            )
            return (self._change(RowOperation.UPDATED, key, body, ordinal, transaction, end),)
        before = self._row(old) if old_is_full else self._identity_of(old)
        changed = self._changed(old, new, old_is_full=old_is_full)
        old_key = key if not self._key_indexes else self._key_of(old)
        if key == old_key or key is None or old_key is None:
            body = b',"before":%b,"after":%b,"changed":[%b],"unavailable":[%b]' % (
                before,
                after,
                changed,
                unavailable,
            )
            return (self._change(RowOperation.UPDATED, key, body, ordinal, transaction, end),)
        deleted_id = encode(postgres_change_id(transaction.source, transaction.commit, ordinal))
        created_id = encode(postgres_change_id(transaction.source, transaction.commit, ordinal + 1))
        gone = (
            b',"before":%b,"after":null,"changed":null,"unavailable":[],"moved":'
            b'{"id":%b,"key":%b}' % (before, created_id, key)
        )
        come = (
            b',"before":null,"after":%b,"changed":[%b],"unavailable":[%b],"moved":'
            b'{"id":%b,"key":%b}' % (after, changed, unavailable, deleted_id, old_key)
        )
        return (
            self._change(RowOperation.DELETED, old_key, gone, ordinal, transaction, end),
            self._change(RowOperation.CREATED, key, come, ordinal + 1, transaction, end),
        )

    def deleted(
        self,
        old: Row,
        ordinal: int,
        transaction: TransactionBytes,
        end: bytes,
        *,
        old_is_full: bool,
    ) -> Change:
        """A delete; `before` is the row, or its identity where that is all that is known."""
        before = self._row(old) if old_is_full else self._identity_of(old)
        body = b',"before":%b,"after":null,"changed":null,"unavailable":[]' % before
        key = self._key_of(old)
        return self._change(RowOperation.DELETED, key, body, ordinal, transaction, end)

    def truncated(self, ordinal: int, transaction: TransactionBytes, end: bytes) -> Change:
        """The table was emptied."""
        body = b',"before":null,"after":null,"changed":null,"unavailable":[]'
        return self._change(RowOperation.TRUNCATED, None, body, ordinal, transaction, end)

    def _change(
        self,
        operation: RowOperation,
        key: bytes | None,
        body: bytes,
        ordinal: int,
        transaction: TransactionBytes,
        end: bytes,
    ) -> Change:
        digits = b"%d" % ordinal
        value = b"".join(
            (
                transaction.head,
                digits,
                self._middle[operation],
                body,
                self._source,
                transaction.tail,
                digits,
                end,
            )
        )
        return Change(key, value)

    def _key_of(self, row: Row) -> bytes | None:
        for index in self._key_indexes:
            if row[index] is UNCHANGED:
                raise SourceFormatError(
                    f"an update of {self.relation.schema}.{self.relation.name} does not tell "
                    f"its key column {self.relation.columns[index].name!r}"
                )
        return self._key(row)

    def _filled(self, old: Row | None, new: Row, *, old_is_full: bool) -> tuple[Row, bytes]:
        """The new row with what the old one tells, and the names of what nothing tells."""
        filled: Row = []
        missing: list[bytes] = []
        identity = self._identity
        for index, value in enumerate(new):
            if value is not UNCHANGED:
                filled.append(value)
            elif old is not None and (old_is_full or index in identity):
                filled.append(old[index])
            else:
                filled.append(UNCHANGED)
                missing.append(self._names[index])
        return filled, b",".join(missing)

    def _changed(self, old: Row, new: Row, *, old_is_full: bool) -> bytes:
        known = range(len(new)) if old_is_full else self._identity
        return b",".join(
            [
                self._names[index]
                for index in known
                if new[index] is not UNCHANGED and new[index] != old[index]
            ]
        )

    def _identity_of(self, old: Row) -> bytes:
        return self._object(old, self._identity)

    def _present(self, row: Row) -> bytes:
        return self._object(row, range(len(row)))

    def _object(self, row: Row, indexes: Sequence[int]) -> bytes:
        fields: list[bytes] = []
        for index in indexes:
            value: Value = row[index]
            if value is None:
                fields.append(self._names[index] + b":null")
            elif value is not UNCHANGED:
                fields.append(self._names[index] + b":" + self._encoders[index](value))
        return b"{" + b",".join(fields) + b"}"


def envelope_end(now_ms: int) -> bytes:
    """What follows the transaction's ordinal; the same for all rows that are read at once."""
    return b'},"ts_ms":%d}' % now_ms


def _no_key(_row: Row) -> None:
    return None


def _compile(
    names: Sequence[bytes], encoders: Sequence[Encoder], indexes: Sequence[int]
) -> Callable[[Row], bytes]:
    """A function from a row to a JSON object of some of its columns."""
    if not indexes:
        return lambda _row: b"{}"
    scope: dict[str, object] = {"null": _NULL, "dumps": orjson.dumps}
    template = b",".join(names[index].replace(b"%", b"%%") + b":%b" for index in indexes)
    terms: list[str] = []
    for index in indexes:
        encoder = encoders[index]
        inline = _INLINE.get(encoder, f"e{index}({{0}})").format(f"v{index}")
        scope[f"e{index}"] = encoder
        terms.append(f"null if v{index} is None else {inline}")
    wanted = set(indexes)
    variables = ", ".join(f"v{index}" if index in wanted else "_" for index in range(len(names)))
    source = (
        f"def encode_row(row):\n    {variables}, = row\n"
        f"    return {b'{' + template + b'}'!r} % ({', '.join(terms)},)\n"
    )
    # The source holds numbers and the repr of column names, nothing else of the database's.
    exec(source, scope)  # noqa: S102 - a function for each table's shape is the point
    return cast("Callable[[Row], bytes]", scope["encode_row"])


_INLINE: dict[Encoder, str] = {
    encode_integer: "{0}",
    encode_plain: "b'\"' + {0} + b'\"'",
    encode_text: "dumps({0}.decode())",
}
