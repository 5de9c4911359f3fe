"""What is to be loaded and how far it is, as records of the topic `rowcast.snapshots`.

Three kinds of keys: `{"source"}` whether the source's tables were planned for loading,
`{"source","schema","table"}` the last snapshot of a table with its checkpoint, and
`{"source","request"}` what `rowcast snapshot` asks for, until capture has taken it up. A checkpoint
stands in the Kafka transaction of the rows before it; that is what makes a snapshot publish each
row once, whatever is killed. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import msgspec

from events.json_codec import JsonObject, decode_object, encode_key

Reason: TypeAlias = Literal["initial", "added", "gap", "request"]
State: TypeAlias = Literal["waiting", "running", "finished", "failed"]


class Plan(msgspec.Struct, frozen=True):
    """Whether the tables that were there at first, or after a gap, have been planned."""

    planned: bool
    reason: Reason

    def encode(self) -> bytes:
        """The record's value."""
        return msgspec.json.encode(self)


class SnapshotRequest(msgspec.Struct, frozen=True):
    """What a user asked for: a table, and which of its rows (SQL, empty for all)."""

    schema: str
    table: str
    where: str = ""

    def encode(self) -> bytes:
        """The record's value."""
        return msgspec.json.encode(self)


class TableSnapshot(msgspec.Struct, frozen=True, omit_defaults=True):
    """The last snapshot of a table.

    `position` is the checkpoint: the key of the last row published, as PostgreSQL's text, in the
    order of the columns in `key`; for a table without a key the oid and the file of the relation
    and the place (a tid) behind which to go on. From the transaction `since` on (64 bits) the
    stream has what is done to the table. `rows` counts rows read, `estimated_rows` is the planner's
    idea of all of them.
    """

    schema: str
    table: str
    snapshot: str
    reason: Reason
    state: State = "waiting"
    where: str = ""
    key: tuple[str, ...] = ()
    position: tuple[str, ...] = ()
    since: int = 0
    rows: int = 0
    estimated_rows: int | None = None
    started_ms: int = 0
    updated_ms: int = 0
    error: str = ""

    @property
    def is_begun(self) -> bool:
        """Whether rows of it may have been published."""
        return self.started_ms > 0

    def begun(self, key: tuple[str, ...], estimated_rows: int | None, now_ms: int) -> TableSnapshot:
        """The snapshot as its first chunk finds it; going on where it was begun before."""
        if self.is_begun:
            return msgspec.structs.replace(self, state="running", error="")
        return msgspec.structs.replace(
            self,
            state="running",
            key=key,
            position=(),
            rows=0,
            estimated_rows=estimated_rows,
            started_ms=now_ms,
            error="",
        )

    def advanced(
        self, rows: int, position: tuple[str, ...], now_ms: int, *, complete: bool
    ) -> TableSnapshot:
        """After a chunk of so many rows."""
        return msgspec.structs.replace(
            self,
            state="finished" if complete else "running",
            position=() if complete else position,
            rows=self.rows + rows,
            updated_ms=now_ms,
        )

    def failed(self, error: str, now_ms: int) -> TableSnapshot:
        """Given up, until the next start of capture tries again from the checkpoint on."""
        return msgspec.structs.replace(self, state="failed", error=error, updated_ms=now_ms)

    def again(self, snapshot: str) -> TableSnapshot:
        """The same from the beginning, under another id."""
        return TableSnapshot(
            self.schema, self.table, snapshot, self.reason, where=self.where, since=self.since
        )

    def encode(self) -> bytes:
        """The record's value."""
        return msgspec.json.encode(self)


@dataclass(frozen=True, slots=True)
class SnapshotKey:
    """Whose record it is; `request` or `table` (schema and name), or neither for the plan."""

    source: str
    table: tuple[str, str] | None = None
    request: str | None = None

    def encode(self) -> bytes:
        """The record's key."""
        key: JsonObject = {"source": self.source}
        if self.table is not None:
            key |= {"schema": self.table[0], "table": self.table[1]}
        if self.request is not None:
            key["request"] = self.request
        return encode_key(key)

    @classmethod
    def decode(cls, key: bytes) -> SnapshotKey | None:
        """The key of a record, None where this version cannot read it."""
        try:
            match decode_object(key):
                case {"source": str(source), "schema": str(schema), "table": str(table)}:
                    return cls(source, (schema, table))
                case {"source": str(source), "request": str(request)}:
                    return cls(source, request=request)
                case {"source": str(source), **rest} if not rest:
                    return cls(source)
                case _:
                    return None
        except ValueError:
            return None


class SnapshotStates:
    """All records of one source, the newest of each key."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.plan: Plan | None = None
        self.tables: dict[tuple[str, str], TableSnapshot] = {}
        self.requests: dict[str, SnapshotRequest] = {}

    def take(self, key: bytes, value: bytes | None) -> None:
        """Take in one record of the topic; those of other sources are left out."""
        place = SnapshotKey.decode(key)
        if place is None or place.source != self.source:
            return
        try:
            self._take(place, value)
        except msgspec.DecodeError:
            # Written by a newer version: as if it were not there.
            self._take(place, None)

    def _take(self, place: SnapshotKey, value: bytes | None) -> None:
        if place.request is not None:
            self.requests.pop(place.request, None)
            if value is not None:
                self.requests[place.request] = msgspec.json.decode(value, type=SnapshotRequest)
        elif place.table is not None:
            self.tables.pop(place.table, None)
            if value is not None:
                self.tables[place.table] = msgspec.json.decode(value, type=TableSnapshot)
        else:
            self.plan = None if value is None else msgspec.json.decode(value, type=Plan)
