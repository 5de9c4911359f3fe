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

from psycopg import errors

from cdc.errors import CaptureConfigError
from cdc.postgres_catalogue import PostgresCatalogue
from cdc.postgres_chunk import ChunkReader, ReadChunk
from cdc.postgres_new_tables import publish_missing
from cdc.postgres_publication import Table
from cdc.postgres_snapshot_plan import check_rights, own_id, plan_tables
from cdc.postgres_source import Connection, PostgresSource, connect
from cdc.snapshot_chunk import WATERMARK_PREFIX, Note, SnapshotChunk
from cdc.snapshot_outcome import outcome_note
from cdc.snapshot_plan import SnapshotQueue
from cdc.snapshot_state import TableSnapshot
from cdc.snapshot_topic import SnapshotTopic
from cdc.snapshot_window import SnapshotWindow, VisibleTransactions
from cdc.transaction_assembly import TransactionAssembly
from events.cluster import Cluster

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
_VISIBLE: LiteralString = "select pg_catalog.pg_current_snapshot()::text"
_POLL_S = (0.005, 0.02, 0.1, 0.5)
_SAY_AFTER_S = 5.0


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
        self._unpublishable: set[Table] = set()

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
            while (snapshot := await self._next(connection)) is not None:
                await self._load(connection, snapshot)
            self._close_window()
            try:
                async with asyncio.timeout(self._source.heartbeat_s):
                    await self._asked.wait()
            except TimeoutError:
                await self._look_for_new_tables(connection)

    async def _next(self, connection: Connection) -> TableSnapshot | None:
        snapshot = self._queue.next()
        if snapshot is not None or not self._queue.is_asked:
            return snapshot
        taken = self._queue.take_request(await own_id(connection))
        if taken is None:
            return None
        snapshot, notes = taken
        self._publish(notes)
        return snapshot

    async def _look_for_new_tables(self, connection: Connection) -> None:
        published = await publish_missing(connection, self._source, self._unpublishable)
        added, notes = await plan_tables(
            self._source, connection, self._queue, self._events_topic, published
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
            PostgresCatalogue(connection, self._source.name, self._database, self._source.format),
        )
        state = snapshot
        try:
            await check_rights(self._source, connection)
            window = await self._wait_for_open_transactions(connection)
            chunk = await reader.read(state, time.time_ns() // 1_000_000)
            while state.state != "finished":
                placed = await self._send_watermark(connection, chunk)
                # While the watermark is on its way through the log, the next chunk is read.
                following = asyncio.create_task(self._read_after(reader, chunk))
                try:
                    is_placed = await placed
                    await asyncio.wait([following])
                finally:
                    await _ended(following)
                if is_placed:
                    state = chunk.after
                    self._queue.enter([state])
                    chunk = following.result() or chunk
                else:
                    # Seen now, or soon; every look also lets the window forget.
                    await self._look(connection, window)
                    chunk = await reader.read(state, time.time_ns() // 1_000_000)
        except (errors.ProgrammingError, errors.DataError, CaptureConfigError) as error:
            state = state.failed(_said(error), time.time_ns() // 1_000_000)
            _log.error("%s: %s was not loaded: %s", self._source.name, name, state.error)
            self._queue.tried(state)
            # One that failed the same way before is not told of again at each start.
            told = snapshot.state == "failed" and snapshot.error == state.error
            events = [] if told else [self._event(state)]
            self._publish([*self._queue.enter([state]), *events])
        else:
            _log.info("%s: loaded %s, %d rows", self._source.name, name, state.rows)

    async def _wait_for_open_transactions(self, connection: Connection) -> SnapshotWindow:
        """Open the window, and wait for those that may have done something before."""
        if self._window is None:
            self._window = self._assembly.open_window()
        window = self._window
        limit = await own_id(connection)
        begun_s, said, attempt = time.monotonic(), False, 0
        while (visible := await self._look(connection, window)).xmin <= limit:
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

    async def _read_after(self, reader: ChunkReader, chunk: ReadChunk) -> ReadChunk | None:
        """The chunk after one that is to be placed yet, None after the last."""
        if chunk.after.state == "finished":
            return None
        return await reader.read(chunk.after, time.time_ns() // 1_000_000)

    async def _send_watermark(
        self, connection: Connection, chunk: ReadChunk
    ) -> asyncio.Future[bool]:
        """Write a chunk's watermark; it tells whether the chunk was placed, once it is there."""
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
        return placed

    def _publish(self, notes: Sequence[Note]) -> None:
        self._assembly.note(notes, time.time_ns() // 1_000_000)
        self._wake()

    def _close_window(self) -> None:
        if self._window is not None:
            self._assembly.close_window()
            self._window = None

    def _event(self, state: TableSnapshot) -> Note:
        return outcome_note(self._events_topic, self._source.name, state)


async def _ended(task: asyncio.Task[ReadChunk | None]) -> None:
    """See to it that a reading has left its connection, whatever came of it."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()


def _said(error: Exception) -> str:
    if isinstance(error, errors.InsufficientPrivilege):
        return (
            f"{str(error).strip()}; to mend it: grant select on the table to the role of capture, "
            "and bypassrls where it has row security; it is tried again at capture's next start"
        )
    return str(error).strip()
