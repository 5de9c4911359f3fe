"""Snapshots of a PostgreSQL source: its tables loaded chunk by chunk into the running stream.

One mechanism for the first load, for a table added later, after a gap and on request. For each
table: wait until the transactions that are open now have ended, since what they did before the
window was opened is not known; then read a chunk, write its watermark, and read the next once the
stream has come to that. All state is in the checkpoints on Kafka, so a snapshot survives any kill.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from typing import LiteralString

from psycopg import Error, errors

from cdc.errors import CaptureConfigError
from cdc.postgres_catalogue import PostgresCatalogue
from cdc.postgres_chunk import ChunkReader, ReadChunk
from cdc.postgres_publication import published_tables, publishes_all_tables
from cdc.postgres_source import Connection, PostgresSource, connect
from cdc.snapshot_chunk import WATERMARK_PREFIX, Note, SnapshotChunk
from cdc.snapshot_plan import SnapshotQueue
from cdc.snapshot_state import TableSnapshot
from cdc.snapshot_table import quote_name
from cdc.snapshot_topic import SnapshotTopic
from cdc.snapshot_window import SnapshotWindow, VisibleTransactions
from cdc.transaction_assembly import TransactionAssembly
from events.cluster import Cluster
from events.event import make_event

_log = logging.getLogger(__name__)

_SESSION: LiteralString = """
    set row_security = off; set statement_timeout = 0; set synchronize_seqscans = off;
    set idle_in_transaction_session_timeout = 0; set max_parallel_workers_per_gather = 0;
    set standard_conforming_strings = on; set synchronous_commit = local
"""
# The transaction id makes the commit flush the message: logical decoding reads what is flushed.
_WATERMARK: LiteralString = """
    select pg_catalog.pg_current_xact_id(), pg_catalog.pg_logical_emit_message(false, %s, %s::text)
"""
_RIGHTS: LiteralString = """
    select pg_catalog.pg_is_in_recovery(), pg_catalog.has_function_privilege(%s, 'execute')
"""
_VISIBLE: LiteralString = "select pg_catalog.pg_current_snapshot()::text"
_FLUSH_SINCE = 170_000
_POLL_S = (0.005, 0.02, 0.1, 0.5)
_SAY_AFTER_S = 5.0
_QUIET_TRIES = 20
_QUIET_POLL_S = 0.05


async def plan_snapshots(
    source: PostgresSource, connection: Connection, queue: SnapshotQueue
) -> list[Note]:
    """Decide what this start of capture is to load; returns the records that say so.

    Raises CaptureConfigError where something is to be loaded from a server or by a role that
    cannot.
    """
    added, notes = queue.plan(
        await published_tables(connection, source),
        secrets.token_hex(4),
        enabled=source.snapshot == "initial",
        all_tables=await publishes_all_tables(connection, source),
    )
    if added:
        empty = await _empty_tables(connection, added)
        now_ms = time.time_ns() // 1_000_000
        added = [
            one.advanced(0, (), now_ms, complete=True) if one in empty else one for one in added
        ]
    notes += queue.enter(added)
    if queue.has_work:
        await check_rights(source, connection)
    return notes


async def check_rights(source: PostgresSource, connection: Connection) -> None:
    """Raise CaptureConfigError where watermarks cannot be written."""
    flush = ", bool" if connection.info.server_version >= _FLUSH_SINCE else ""
    function = f"pg_catalog.pg_logical_emit_message(bool, text, text{flush})"
    cursor = await connection.execute(_RIGHTS, (function,))
    recovers, may_emit = await cursor.fetchone() or (False, False)
    if recovers:
        raise CaptureConfigError(
            found="a standby, which cannot write the watermarks of a snapshot",
            expected="the primary, where rows that are there already are to be loaded",
            mend=f'set dsn in {source.setting} to the primary, or snapshot = "never"',
        )
    if not may_emit:
        role = connection.info.user
        raise CaptureConfigError(
            found=f"the role {role} without the right to write logical messages",
            expected="EXECUTE on pg_logical_emit_message, for the watermarks of a snapshot",
            mend=f'grant execute on function {function} to "{role}", '
            f'or snapshot = "never" in {source.setting}',
        )


async def _empty_tables(
    connection: Connection, tables: Sequence[TableSnapshot]
) -> list[TableSnapshot]:
    """Tables in which there is nothing to load, as far as that is certain at once.

    Certain is what is seen while no transaction is open. Rows written to them from now on come
    by the stream alone and not a second time by a snapshot.
    """
    for _ in range(_QUIET_TRIES):
        await connection.execute("begin isolation level repeatable read read only")
        try:
            cursor = await connection.execute(_VISIBLE)
            (text,) = await cursor.fetchone() or ("",)
            visible = VisibleTransactions.parse(str(text))
            if visible.xmin == visible.xmax:
                await connection.execute(
                    "set local row_security = off; set local lock_timeout = 1000"
                )
                return [table for table in tables if await _is_empty(connection, table)]
        except Error as error:
            # A table that cannot be read says so when it is loaded.
            _log.info("not looking for empty tables: %s", str(error).strip())
            return []
        finally:
            await connection.execute("rollback")
        await asyncio.sleep(_QUIET_POLL_S)
    return []


async def _is_empty(connection: Connection, table: TableSnapshot) -> bool:
    name = f"{quote_name(table.schema)}.{quote_name(table.table)}"
    query = f"select exists (select from {name})"  # noqa: S608 - the name is quoted
    cursor = await connection.execute(query.encode())
    return await cursor.fetchone() == (False,)


class PostgresSnapshots:
    """What is loaded while capture runs, one table after the other."""

    def __init__(
        self,
        source: PostgresSource,
        cluster: Cluster,
        database: str,
        topic: SnapshotTopic,
        queue: SnapshotQueue,
        assembly: TransactionAssembly,
        wake: Callable[[], None],
    ) -> None:
        self._source = source
        self._events_topic = cluster.topics.events
        self._database = database
        self._topic = topic
        self._queue = queue
        self._assembly = assembly
        self._wake = wake
        self._asked = asyncio.Event()
        self._window: SnapshotWindow | None = None
        self._token = secrets.token_bytes(8).hex()
        self._chunk_count = 0

    async def run(self) -> None:
        """Load what is to be loaded, and what is asked for; ends only by what it raises."""
        connection = await connect(self._source)
        try:
            await connection.execute(_SESSION)
            tasks = (
                asyncio.create_task(self._follow()),
                asyncio.create_task(self._work(connection)),
            )
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            await connection.close()

    async def _follow(self) -> None:
        while True:
            if await self._topic.next_requests():
                self._asked.set()

    async def _work(self, connection: Connection) -> None:
        while True:
            self._asked.clear()
            while (snapshot := self._next()) is not None:
                await self._load(connection, snapshot)
            self._close_window()
            try:
                async with asyncio.timeout(self._source.heartbeat_s):
                    await self._asked.wait()
            except TimeoutError:
                await self._look_for_new_tables(connection)

    def _next(self) -> TableSnapshot | None:
        snapshot = self._queue.next()
        if snapshot is not None:
            return snapshot
        taken = self._queue.take_request()
        if taken is None:
            return None
        snapshot, notes = taken
        self._publish(notes)
        return snapshot

    async def _look_for_new_tables(self, connection: Connection) -> None:
        added, notes = self._queue.plan(
            await published_tables(connection, self._source),
            secrets.token_hex(4),
            enabled=self._source.snapshot == "initial",
            all_tables=await publishes_all_tables(connection, self._source),
        )
        notes += self._queue.enter(added)
        if notes:
            self._publish(notes)

    async def _load(self, connection: Connection, snapshot: TableSnapshot) -> None:
        name = f"{snapshot.schema}.{snapshot.table}"
        _log.info("%s: loading %s (%s)", self._source.name, name, snapshot.reason)
        reader = ChunkReader(
            self._source,
            connection,
            PostgresCatalogue(connection, self._source.name, self._database),
        )
        state = snapshot
        try:
            await check_rights(self._source, connection)
            window = await self._wait_for_open_transactions(connection)
            while state.state != "finished":
                chunk = await reader.read(state, time.time_ns() // 1_000_000)
                if await self._place(connection, chunk):
                    state = chunk.after
                else:
                    # Seen now, or soon; every look also lets the window forget.
                    await self._look(connection, window)
        except (errors.ProgrammingError, errors.DataError, CaptureConfigError) as error:
            state = state.failed(_said(error), time.time_ns() // 1_000_000)
            _log.error("%s: %s was not loaded: %s", self._source.name, name, state.error)
            self._queue.tried(state)
            self._publish([*self._queue.enter([state]), self._event(state)])
        else:
            _log.info("%s: loaded %s, %d rows", self._source.name, name, state.rows)

    async def _wait_for_open_transactions(self, connection: Connection) -> SnapshotWindow:
        """Open the window, and wait for those that may have done something before."""
        if self._window is None:
            self._window = self._assembly.open_window()
        window = self._window
        limit = (await self._look(connection, window)).xmax
        begun_s, said, attempt = time.monotonic(), False, 0
        while (visible := await self._look(connection, window)).xmin < limit:
            if not said and time.monotonic() - begun_s > _SAY_AFTER_S:
                said = True
                _log.warning(
                    "%s: a snapshot waits for the transaction %d, which was open when it began "
                    "(select * from pg_stat_activity where backend_xid = '%d'; or "
                    "pg_prepared_xacts where transaction = '%d')",
                    self._source.name,
                    *[visible.xmin % (1 << 32)] * 3,
                )
            await asyncio.sleep(_POLL_S[min(attempt, len(_POLL_S) - 1)])
            attempt += 1
        return window

    async def _look(self, connection: Connection, window: SnapshotWindow) -> VisibleTransactions:
        cursor = await connection.execute(_VISIBLE)
        (text,) = await cursor.fetchone() or ("",)
        visible = VisibleTransactions.parse(str(text))
        window.forget(visible)
        return visible

    async def _place(self, connection: Connection, chunk: ReadChunk) -> bool:
        """Write the watermark and wait for it in the stream; whether the chunk was placed."""
        self._chunk_count += 1
        token = f"{self._token}/{self._chunk_count}"
        placed: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        state = chunk.after
        is_last = state.state == "finished"
        # The queue knows the state only once it is placed, as Kafka does.
        notes = [self._queue.note(state)]
        if is_last:
            notes.append(self._event(state))
        self._assembly.expect(
            SnapshotChunk(
                token=token.encode(),
                topic=chunk.topic,
                visible=chunk.visible,
                rows=chunk.rows,
                keyed=chunk.keyed,
                is_last=is_last,
                timestamp_ms=state.updated_ms,
                notes=notes,
                on_placed=placed.set_result,
            )
        )
        await connection.execute(_WATERMARK, (WATERMARK_PREFIX, token))
        if not await placed:
            return False
        self._queue.enter([state])
        return True

    def _publish(self, notes: Sequence[Note]) -> None:
        self._assembly.note(notes, time.time_ns() // 1_000_000)
        self._wake()

    def _close_window(self) -> None:
        if self._window is not None:
            self._assembly.close_window()
            self._window = None

    def _event(self, state: TableSnapshot) -> Note:
        finished = state.state == "finished"
        event = make_event(
            event_id=f"{self._source.name}/{state.snapshot}/{state.schema}.{state.table}"
            f"/{state.state}{'' if finished else state.updated_ms}",
            event_type="system.snapshot_finished" if finished else "system.snapshot_failed",
            data={
                "source": self._source.name,
                "schema": state.schema,
                "table": state.table,
                "reason": state.reason,
                "rows": state.rows,
                "error": state.error or None,
            },
            ts_ms=state.updated_ms,
            key=self._source.name,
        )
        return Note(self._events_topic, event.key, event.value)


def _said(error: Exception) -> str:
    if isinstance(error, errors.InsufficientPrivilege):
        return (
            f"{str(error).strip()}; to mend it: grant select on the table to the role of capture, "
            "and bypassrls where it has row security; it is tried again at capture's next start"
        )
    return str(error).strip()
