"""What a comparison of a table with its topic found. Pure.

A difference is something that capture promised and did not keep: a row missing on the topic or
left there though it is gone, a column with another value, an event published twice, a transaction
of which a change is missing. What a topic cannot have, because rows were never loaded or Kafka has
deleted records, is said in `statements` and counted as `untold`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import msgspec

from cdc.topic_record import Position, decode_row
from cdc.verification_store import Compared, ToldState
from events.json_codec import JsonObject, JsonValue

DifferenceKind: TypeAlias = Literal["missing", "extra", "different", "repeated", "unreadable"]


class Difference(msgspec.Struct, frozen=True, omit_defaults=True):
    """One of them. `table` and `topic` are the rows, of different rows the columns that differ.

    `event` is the id of the event that told the topic's row; `detail` says what is wrong with a
    record of the topic.
    """

    kind: DifferenceKind
    key: msgspec.Raw | None = None
    table: msgspec.Raw | None = None
    topic: msgspec.Raw | None = None
    event: str = ""
    detail: str = ""


class TableVerification(msgspec.Struct):
    """One table. `untold` rows and values are not on the topic and need not be."""

    schema: str
    table: str
    topic: str
    rows: int = 0
    records: int = 0
    missing: int = 0
    extra: int = 0
    different: int = 0
    repeated: int = 0
    unreadable: int = 0
    untold: int = 0
    untold_values: int = 0
    statements: list[str] = []
    differences: list[Difference] = []

    @property
    def difference_count(self) -> int:
        """How many there are, of all kinds."""
        return self.missing + self.extra + self.different + self.repeated + self.unreadable

    def add(self, difference: Difference, shown: int) -> None:
        """Count a difference, and keep it while there are fewer than `shown`."""
        kind = difference.kind
        setattr(self, kind, getattr(self, kind) + 1)
        if len(self.differences) < shown:
            self.differences.append(difference)


class Verification(msgspec.Struct):
    """One source, up to `position` (an LSN). `torn` are transactions that lack a change."""

    source: str
    position: str
    tables: list[TableVerification] = []
    transactions: int | None = None
    torn: list[str] = []
    statements: list[str] = []

    @property
    def difference_count(self) -> int:
        """How many there are in all tables."""
        return len(self.torn) + sum(table.difference_count for table in self.tables)


class TableShapes:
    """How a table looked when its records were written, from the events on `rowcast.schema`.

    `looks` are positions and looks (schema_log), oldest first; `now` is how it looks now. Columns
    that came, went or got another type since are no business of capture's: PostgreSQL rewrites
    rows without telling the log.
    """

    def __init__(self, looks: Sequence[tuple[Position, JsonObject]], now: JsonObject) -> None:
        self._looks = [(position, _types(look)) for position, look in looks]
        self._now = _types(now)
        self._keys = [(position, _keys(look)) for position, look in looks]
        self._key = _keys(now)

    @property
    def changed_at(self) -> Position | None:
        """Since when the table has its columns as they are; None where they never changed."""
        if len(self._looks) < 2 and all(types == self._now for _, types in self._looks):
            return None
        return self._looks[-1][0]

    @property
    def key_changed_at(self) -> Position | None:
        """Since when records have the key that the table has now; None where always."""
        if all(key == self._key for _, key in self._keys):
            return None
        return next(
            (
                after
                for (_, key), (after, _) in zip(
                    reversed(self._keys[:-1]), reversed(self._keys[1:]), strict=True
                )
                if key != self._key
            ),
            self._keys[-1][0],
        )

    def excuses(self, column: str, position: Position, *, absent: bool) -> bool:
        """Whether a record of a position need not have a column's present value."""
        then = next(
            (types for since, types in reversed(self._looks) if since <= position),
            self._looks[0][1] if self._looks else None,
        )
        if then is None:
            # Nothing is known of the table but what snapshots read.
            return absent
        return then.get(column) != self._now.get(column)


class RowComparison:
    """Keys that are not the same byte for byte, judged one by one into a TableVerification.

    `lettered` are the positions of changes that were too large for the topic, by key.
    """

    def __init__(
        self,
        found: TableVerification,
        shapes: TableShapes,
        shown: int,
        lettered: Mapping[bytes, Sequence[Position]],
        *,
        keyed: bool,
        whole: bool,
    ) -> None:
        self._lettered = lettered
        self._found = found
        self._shapes = shapes
        self._shown = shown
        self._keyed = keyed
        self._whole = whole

    def judge(self, compared: Compared) -> None:
        """One key."""
        if not self._keyed:
            self._judge_count(compared)
            return
        told = compared.told
        position = told.position if told is not None else (0, 0)
        if any(at > position for at in self._lettered.get(compared.key, ())):
            self._found.untold += 1
            return
        key = msgspec.Raw(compared.key)
        if compared.row is None:
            if told is not None and told.row is not None and not self._under_old_key(told):
                row = msgspec.Raw(told.row)
                self._add(Difference("extra", key, topic=row, event=told.id))
        elif told is None or told.row is None:
            if self._whole or told is not None:
                event = told.id if told is not None else ""
                self._add(Difference("missing", key, msgspec.Raw(compared.row), event=event))
            else:
                self._found.untold += 1
        else:
            self._judge_columns(key, compared.row, told.row, told)

    def _judge_columns(
        self, key: msgspec.Raw, row: bytes, told_row: bytes, told: ToldState
    ) -> None:
        there, topic = decode_row(row), decode_row(told_row)
        differing: list[str] = []
        for name, value in there.items():
            on_topic = topic.get(name)
            if on_topic is not None and bytes(on_topic) == bytes(value):
                continue
            if (on_topic is None and name in told.unavailable) or self._shapes.excuses(
                name, told.position, absent=on_topic is None
            ):
                self._found.untold_values += 1
            else:
                differing.append(name)
        if differing:
            table_side = {name: there[name] for name in differing}
            topic_side = {name: topic[name] for name in differing if name in topic}
            self._add(
                Difference("different", key, _raw(table_side), _raw(topic_side), event=told.id)
            )

    def _judge_count(self, compared: Compared) -> None:
        """Equal rows of a table without a key, more or fewer than the topic says."""
        told = compared.told
        on_topic = told.copies if told is not None else 0
        row = compared.row if compared.row is not None else told.row if told is not None else None
        raw = msgspec.Raw(row if row is not None else b"null")
        if self._shapes.changed_at is not None or (compared.copies > on_topic and not self._whole):
            self._found.untold += 1
            return
        detail = f"{compared.copies} equal rows in the table, {on_topic} on the topic"
        event = told.id if told is not None else ""
        if compared.copies > on_topic:
            self._add(Difference("missing", table=raw, event=event, detail=detail))
        else:
            self._add(Difference("extra", topic=raw, event=event, detail=detail))

    def _under_old_key(self, told: ToldState) -> bool:
        changed = self._shapes.key_changed_at
        if changed is None or told.position >= changed:
            return False
        self._found.untold += 1
        return True

    def _add(self, difference: Difference) -> None:
        self._found.add(difference, self._shown)


def _raw(columns: dict[str, msgspec.Raw]) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(columns))


def _columns(look: JsonObject) -> list[JsonObject]:
    columns: JsonValue = look.get("columns")
    if not isinstance(columns, list):
        return []
    return [column for column in columns if isinstance(column, dict)]


def _types(look: JsonObject) -> JsonObject:
    return {str(column.get("name")): column.get("type") for column in _columns(look)}


def _keys(look: JsonObject) -> list[str]:
    return [str(column.get("name")) for column in _columns(look) if column.get("key")]
