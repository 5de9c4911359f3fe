"""Rows of one table in Connect's JSON, the schema inside, for stock sinks.

The payload is the plain envelope, written by a RowEncoder of its own with the columns as Connect
has them. A relation's schema is made once and stands before each payload as ready bytes. Columns
whose value is not known (unchanged large ones) are left out of the schema of that record too:
sinks then leave the column alone, where a null or a placeholder would overwrite it. The same way
a value that its logical type cannot hold gets a record whose schema has that column as a string.
Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from cdc.connect_types import ConnectType, UnheldValueError
from cdc.copy_text import split_line
from cdc.pgoutput import UNCHANGED, Relation, Row, Value
from cdc.row_encoder import Change, RowEncoder, SnapshotBytes, TransactionBytes
from events.json_codec import JsonObject, encode

# Schemas of rows with rare values; more ways than these are made anew each time.
_SHAPES_MAX: Final = 64

_HEAD = b'{"schema":{"type":"struct","fields":['
_BODY: list[JsonObject] = [
    {
        "type": "struct",
        "fields": [
            {"type": "string", "optional": False, "field": "connector"},
            {"type": "string", "optional": False, "field": "name"},
            {"type": "string", "optional": False, "field": "db"},
            {"type": "string", "optional": False, "field": "schema"},
            {"type": "string", "optional": False, "field": "table"},
            {"type": "int64", "optional": True, "field": "lsn"},
            {"type": "int64", "optional": True, "field": "txId"},
            {"type": "int64", "optional": False, "field": "ts_ms"},
            {"type": "string", "optional": True, "field": "snapshot"},
        ],
        "optional": False,
        "name": "io.debezium.connector.postgresql.Source",
        "field": "source",
    },
    {
        "type": "struct",
        "fields": [
            {"type": "string", "optional": False, "field": "id"},
            {"type": "int64", "optional": False, "field": "total_order"},
        ],
        "optional": True,
        "name": "event.block",
        "version": 1,
        "field": "transaction",
    },
    {"type": "string", "optional": False, "field": "id"},
    {"type": "string", "optional": False, "field": "type"},
    {"type": "string", "optional": False, "field": "op"},
    {"type": "int64", "optional": True, "field": "ts_ms"},
    {
        "type": "array",
        "items": {"type": "string", "optional": False},
        "optional": True,
        "field": "changed",
    },
    {
        "type": "array",
        "items": {"type": "string", "optional": False},
        "optional": False,
        "field": "unavailable",
    },
]
_TAIL = encode(_BODY)[1:-1]


class _Shape:
    """The schemas of rows in which some columns are text, and the encoder of their payloads."""

    def __init__(
        self, encoder: RowEncoder, types: Sequence[ConnectType], keys: Sequence[str]
    ) -> None:
        names = [column.name for column in encoder.relation.columns]
        topic = encoder.topic
        self.payload = encoder
        self._fields = [one.field(name) for one, name in zip(types, names, strict=True)]
        key_fields = b",".join(
            one.field(name, optional=False)
            for one, name in zip(types, names, strict=True)
            if name in keys
        )
        key_end = b'],"optional":false,"name":%b}' % encode(f"{topic}.Key")
        self.key_head = _HEAD + key_fields + key_end + b',"payload":'
        self._moved = (
            b',{"type":"struct","fields":[{"type":"string","optional":false,"field":"id"},'
            b'{"type":"struct","fields":[%b],"optional":true,"field":"key"}],'
            b'"optional":true,"field":"moved"}' % key_fields
        )
        self._row_end = b'],"optional":true,"name":%b,"field":' % encode(f"{topic}.Value")
        self._end = b'],"optional":false,"name":%b,"version":1},"payload":' % encode(
            f"{topic}.Envelope"
        )
        self.head = self.value_head()

    def value_head(self, missing: Collection[int] = (), *, moved: bool = False) -> bytes:
        """What stands before a payload in whose `after` some columns are missing."""
        before = b",".join(self._fields)
        after = b",".join(one for index, one in enumerate(self._fields) if index not in missing)
        row = b'{"type":"struct","fields":['
        return b"".join(
            (
                *(_HEAD, row, before, self._row_end, b'"before"},'),
                *(row, after, self._row_end, b'"after"},'),
                *(_TAIL, self._moved if moved else b"", self._end),
            )
        )


class ConnectEncoder:
    """The encoder of one relation; as RowEncoder, with `types` in the place of encoders."""

    def __init__(
        self,
        source: str,
        database: str,
        relation: Relation,
        key_columns: Sequence[str],
        types: Sequence[ConnectType],
        type_names: Sequence[str] = (),
    ) -> None:
        self._source = source
        self._database = database
        self._keys = tuple(key_columns)
        self._types = list(types)
        self._type_names = tuple(type_names)
        self.relation = relation
        self._key_indexes = [
            index for index, column in enumerate(relation.columns) if column.name in self._keys
        ]
        self._shapes: dict[tuple[int, ...], _Shape] = {}
        self._usual = self._shape(())
        self.topic = self._usual.payload.topic
        self.look = self._usual.payload.look

    @property
    def is_keyed(self) -> bool:
        """Whether records have a key."""
        return self._usual.payload.is_keyed

    def table(self) -> None:
        """There is no compiled way for rows in this format."""

    def created(
        self, row: Row, ordinal: bytes, transaction: TransactionBytes, end: bytes
    ) -> Change:
        """An insert."""
        shape = self._usual
        try:
            change = shape.payload.created(row, ordinal, transaction, end)
        except UnheldValueError:
            shape = self._shape_for(row)
            change = shape.payload.created(row, ordinal, transaction, end)
        return self._record(shape, change, shape.head, row)

    def read(
        self, row: Row, snapshot: SnapshotBytes, place: bytes | None = None
    ) -> tuple[bytes, bytes]:
        """A row read by a snapshot: its identity and its value."""
        shape = self._usual
        try:
            identity, value = shape.payload.read(row, snapshot, place)
        except UnheldValueError:
            shape = self._shape_for(row)
            identity, value = shape.payload.read(row, snapshot, place)
        change = self._record(shape, Change(identity, value), shape.head, row)
        return (change.key or b"") if self.is_keyed else identity, change.value

    def read_lines(
        self, lines: list[bytes], snapshot: SnapshotBytes, rows: list[tuple[bytes, bytes]]
    ) -> None:
        """COPY's lines of a table with a key, as `read` makes them."""
        rows.extend(self.read(split_line(line), snapshot) for line in lines)

    def row_json(self, row: Row) -> bytes:
        """What identifies a row in a table without a key."""
        try:
            return self._usual.payload.row_json(row)
        except UnheldValueError:
            return self._shape_for(row).payload.row_json(row)

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
        """An update: one change, or where the key is another one, `d` and `c`."""
        shape = self._usual
        missing: list[int] = []
        if UNCHANGED in new:
            new = self._filled(old, new, old_is_full=old_is_full)
            missing = [index for index, value in enumerate(new) if value is UNCHANGED]
        try:
            changes = shape.payload.updated(
                old, new, ordinal, transaction, end, old_is_full=old_is_full
            )
        except UnheldValueError:
            shape = self._shape_for(new, old or ())
            changes = shape.payload.updated(
                old, new, ordinal, transaction, end, old_is_full=old_is_full
            )
        if len(changes) == 1:
            head = shape.value_head(missing) if missing else shape.head
            return (self._record(shape, changes[0], head, new),)
        gone, come = changes
        return (
            self._record(shape, gone, shape.value_head(moved=True), old or new),
            self._record(shape, come, shape.value_head(missing, moved=True), new),
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
        shape = self._usual
        try:
            change = shape.payload.deleted(old, ordinal, transaction, end, old_is_full=old_is_full)
        except UnheldValueError:
            shape = self._shape_for(old)
            change = shape.payload.deleted(old, ordinal, transaction, end, old_is_full=old_is_full)
        return self._record(shape, change, shape.head, old)

    def truncated(self, ordinal: int, transaction: TransactionBytes, end: bytes) -> Change:
        """The table was emptied."""
        change = self._usual.payload.truncated(ordinal, transaction, end)
        return Change(None, self._usual.head + change.value + b"}")

    def _record(self, shape: _Shape, change: Change, head: bytes, row: Row) -> Change:
        """A payload's change as a record; `row` has the key."""
        key = change.key
        if key is None or not self.is_keyed:
            return Change(None, head + change.value + b"}")
        if shape is not self._usual:
            # A key has the same bytes whatever the rest of its row, and the row before, hold.
            texts = [one for one in self._unheld(row) if one in self._key_indexes]
            shape = self._shape(tuple(texts))
            key = shape.payload.key(row) or b""
        return Change(shape.key_head + key + b"}", head + change.value + b"}")

    def _filled(self, old: Row | None, new: Row, *, old_is_full: bool) -> Row:
        """The new row with what the old one tells of columns that were not sent."""
        columns = self.relation.columns
        return [
            old[index]
            if value is UNCHANGED and old is not None and (old_is_full or columns[index].is_key)
            else value
            for index, value in enumerate(new)
        ]

    def _shape_for(self, *rows: Sequence[Value]) -> _Shape:
        return self._shape(tuple(sorted({index for row in rows for index in self._unheld(row)})))

    def _unheld(self, row: Sequence[Value]) -> list[int]:
        return [
            index
            for index, value in enumerate(row)
            if isinstance(value, bytes) and not _holds(self._types[index], value)
        ]

    def _shape(self, texts: tuple[int, ...]) -> _Shape:
        shape = self._shapes.get(texts)
        if shape is None:
            types = [
                one.as_text() if index in texts else one for index, one in enumerate(self._types)
            ]
            payload = RowEncoder(
                self._source,
                self._database,
                self.relation,
                self._keys,
                [one.encode for one in types],
                self._type_names,
            )
            if len(self._shapes) >= _SHAPES_MAX:
                self._shapes = {(): self._usual}
            shape = self._shapes[texts] = _Shape(payload, types, self._keys)
        return shape


def _holds(kind: ConnectType, value: bytes) -> bool:
    try:
        kind.encode(value)
    except UnheldValueError:
        return False
    return True
