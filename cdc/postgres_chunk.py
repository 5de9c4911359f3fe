"""One chunk of a table: read in one short transaction, encoded as it comes.

The transaction fixes what is visible, locks the table's shape and ends with the chunk. The size
of a chunk follows the size of its rows, so that memory is bounded whatever they hold.
"""

from __future__ import annotations

import secrets
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from cdc.change_encoder import ChangeEncoder
from cdc.copy_text import split_line
from cdc.postgres_catalogue import PostgresCatalogue
from cdc.postgres_copy import copy_out
from cdc.postgres_snapshot_table import DescribedTable, describe_table, lock_table
from cdc.postgres_source import Connection, PostgresSource
from cdc.row_encoder import SnapshotBytes
from cdc.snapshot_state import TableSnapshot
from cdc.snapshot_table import SnapshotTable, block_of
from cdc.snapshot_window import VisibleTransactions
from events.lsn import Lsn

CHUNK_ROWS = 10_000
_FIRST_ROWS: Final = 1_000
_CHUNK_BYTES: Final = 4 * 1024 * 1024
_CHUNK_BYTES_MAX: Final = 16 * 1024 * 1024
_ROW_BYTES_LEAST: Final = 32
_BLOCK_BYTES: Final = 8_192


@dataclass(frozen=True, slots=True)
class ReadChunk:
    """What was read: `rows` as in SnapshotChunk, and the state after it."""

    topic: str
    visible: VisibleTransactions
    rows: list[tuple[bytes, bytes]]
    keyed: bool
    after: TableSnapshot


@dataclass(frozen=True, slots=True)
class _Reading:
    """What one chunk is read with; `state` is the checkpoint it goes on from."""

    state: TableSnapshot
    table: SnapshotTable
    encoder: ChangeEncoder
    common: SnapshotBytes
    visible: VisibleTransactions
    now_ms: int


class ChunkReader:
    """Reads the chunks of one table, over a connection that nobody else uses meanwhile."""

    def __init__(
        self, source: PostgresSource, connection: Connection, catalogue: PostgresCatalogue
    ) -> None:
        self._source = source
        self._connection = connection
        self._catalogue = catalogue
        self._described: DescribedTable | None = None
        self._encoder: ChangeEncoder | None = None
        self._row_bytes = _CHUNK_BYTES / _FIRST_ROWS

    async def read(self, state: TableSnapshot, now_ms: int) -> ReadChunk:
        """The next chunk after a checkpoint; from the beginning where the key has changed.

        Raises psycopg.Error; a ProgrammingError or DataError concerns this table only.
        """
        connection = self._connection
        await connection.execute("begin isolation level repeatable read read only")
        try:
            await lock_table(connection, state.schema, state.table)
            cursor = await connection.execute(
                "select pg_catalog.pg_current_snapshot()::text,"
                " pg_catalog.pg_current_wal_insert_lsn()::text"
            )
            snapshot, position = await cursor.fetchone() or ("", "")
            table, encoder = await self._describe(state)
            if state.is_begun and not table.is_read_as(state.key, state.position):
                state = state.again(secrets.token_hex(4))
            state = state.begun(table.order, table.estimated_rows, now_ms)
            common = SnapshotBytes.of(
                self._source.name, state.snapshot, Lsn.parse(str(position)), now_ms
            )
            visible = VisibleTransactions.parse(str(snapshot))
            reading = _Reading(state, table, encoder, common, visible, now_ms)
            rows, after = await (self._by_key(reading) if table.order else self._by_blocks(reading))
        finally:
            await connection.execute("rollback")
        return ReadChunk(encoder.topic, visible, rows, encoder.is_keyed, after)

    async def _describe(self, state: TableSnapshot) -> tuple[SnapshotTable, ChangeEncoder]:
        before = self._described
        described = await describe_table(
            self._connection, self._source, state.schema, state.table, before
        )
        if self._encoder is None or before is None or before.table.shape != described.table.shape:
            self._encoder = await self._catalogue.encoder(described.table.relation)
        self._described = described
        return described.table, self._encoder

    async def _by_key(self, reading: _Reading) -> tuple[list[tuple[bytes, bytes]], TableSnapshot]:
        state, table = reading.state, reading.table
        limit = self._limit
        rows: list[tuple[bytes, bytes]] = []
        taken_bytes, complete, last = 0, True, b""
        # One row more than the chunk takes tells whether it is the last.
        query = table.by_key(state.where, state.position, limit + 1)
        async with aclosing(copy_out(self._connection, query)) as slices:
            async for lines in slices:
                if taken_bytes > _CHUNK_BYTES_MAX:
                    complete = False
                    break
                wanted = lines[: limit - len(rows)]
                reading.encoder.read_lines(wanted, reading.common, rows)
                taken_bytes += sum(map(len, wanted))
                last = wanted[-1] if wanted else last
                complete = len(rows) < limit or lines[-1] is last
        self._learn(len(rows), taken_bytes)
        position = state.position
        if rows:
            columns = [column.name for column in table.relation.columns]
            values = split_line(last)
            key = (values[columns.index(name)] for name in table.order)
            position = tuple(value.decode() for value in key if isinstance(value, bytes))
        return rows, state.advanced(len(rows), position, reading.now_ms, complete=complete)

    async def _by_blocks(
        self, reading: _Reading
    ) -> tuple[list[tuple[bytes, bytes]], TableSnapshot]:
        state, table, visible = reading.state, reading.table, reading.visible
        place = table.next_place(state.position)
        if place is None:
            return [], state.advanced(0, (), reading.now_ms, complete=True)
        member, after = place
        end = block_of(after) + max(1, int(self._limit * self._row_bytes / _BLOCK_BYTES))
        rows: list[tuple[bytes, bytes]] = []
        count, taken_bytes, stopped_at = 0, 0, ""
        query = table.by_blocks(member, state.where, after, end)
        async with aclosing(copy_out(self._connection, query)) as slices:
            async for lines in slices:
                for line in lines:
                    tid, writer, content = line.split(b"\t", 2)
                    stopped_at = tid.decode()
                    count += 1
                    # What was written since the table was planned is in the stream as a change.
                    if not visible.saw_written_since(int(writer), state.since):
                        row_place = b"%d%b" % (member.oid, tid)
                        row = split_line(content)
                        rows.append(reading.encoder.read(row, reading.common, row_place))
                taken_bytes += sum(map(len, lines))
                if taken_bytes > _CHUNK_BYTES_MAX:
                    break
            else:
                stopped_at = f"({end},0)"
        self._learn(count, taken_bytes)
        position = (str(member.oid), str(member.filenode), stopped_at)
        complete = table.next_place(position) is None
        return rows, state.advanced(count, position, reading.now_ms, complete=complete)

    @property
    def _limit(self) -> int:
        return max(1, min(CHUNK_ROWS, int(_CHUNK_BYTES / self._row_bytes)))

    def _learn(self, count: int, taken_bytes: int) -> None:
        if count:
            self._row_bytes = max(taken_bytes / count, _ROW_BYTES_LEAST)
