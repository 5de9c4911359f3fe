"""Capture of a PostgreSQL database by logical replication, each change exactly once.

Reads whole transactions from the slot and publishes them in groups; while the Kafka transactions of
two run, the next is read, and no more than that is held whatever happens. The slot is
told only what Kafka has committed: slot <= progress, always. All state is in Kafka and the slot,
so any failure ends `capture_postgres` and the next call goes on where the last one stood.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import tempfile
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path

import psycopg
from psycopg import errors

from cdc.change_group import ChangeGroup, GroupLimits
from cdc.errors import CaptureConfigError, SourceLostError
from cdc.message_encoder import MessageEncoder
from cdc.postgres_catalogue import PostgresCatalogue
from cdc.postgres_preparation import Preparation, prepare
from cdc.postgres_primary import primary_of
from cdc.postgres_publication import OWN_SCHEMA
from cdc.postgres_slot import identify, match_failover, slot_state
from cdc.postgres_slot_watch import SlotWatch
from cdc.postgres_snapshot import PostgresSnapshots
from cdc.postgres_snapshot_plan import plan_snapshots
from cdc.postgres_source import Connection, PostgresSource, answered_in_time, connect
from cdc.progress import PostgresProgress
from cdc.publisher import Publisher
from cdc.replication_frames import KEEPALIVE, LOG_DATA, LOG_DATA_START, decode_keepalive
from cdc.replication_stream import ReplicationStream
from cdc.schema_log import SchemaLog, told_looks
from cdc.snapshot_chunk import Note
from cdc.snapshot_plan import SnapshotQueue
from cdc.snapshot_topic import SnapshotTopic
from cdc.spill import Spill
from cdc.streamed_transaction import StreamedTransactions
from cdc.transaction_assembly import TransactionAssembly
from cdc.wal_retention import wal_budget_key
from cdc.whole_frames import FrameReader, WholeFrames
from events.cluster import Cluster

__all__ = ["PostgresSource", "capture_postgres"]

_log = logging.getLogger(__name__)

# Frames handled before the event loop has its turn, 2 to 5 ms of work: rows, and all others.
_SLICE_ROWS = 2_048
_SLICE_FRAMES = 128
# One is written while the other commits.
_GROUPS_AT_ONCE = 2
_FEEDBACK_S = 1.0
_FEEDBACK_MIN_S = 0.05
_SLOT_BUSY_TIMEOUT_S = 20.0
_SLOT_BUSY_BACKOFF_S = (0.1, 0.2, 0.4, 0.8, 1.6)


async def capture_postgres(
    source: PostgresSource,
    cluster: Cluster,
    *,
    stop: asyncio.Event,
    on_ready: Callable[[], None],
) -> None:
    """Capture until `stop` is set; `on_ready` is called once changes are being read.

    What is committed after that call is captured. Raises CaptureConfigError, CaptureGapError,
    SourceLostError, SourceFormatError, SpillError or PublishError; the process should then end
    and be started again (except for the first two, which need someone to mend something).
    """
    if source.format == "connect-json":
        # A sink applies a truncate, or two rows that swap a unique value, in order only where
        # all of a table stands in one partition.
        cluster = replace(cluster, undivided=(source.name,))
    publisher = Publisher(cluster, source.name, source.on_record_too_large)
    try:
        async with contextlib.AsyncExitStack() as stack:
            connection = await connect(source)
            stack.push_async_callback(connection.close)
            watch = SlotWatch(source, cluster, connection)
            await watch.look()
            # This fences an older capture; what follows then has the source to itself.
            last = await publisher.start()
            replication = await connect(source, replication=True)
            stack.push_async_callback(replication.close)
            with answered_in_time(source, replication):
                identity = await identify(replication)
            primary = await primary_of(source, connection, identity)
            if primary is not None:
                stack.push_async_callback(primary.close)
            prepared = await prepare(
                source, cluster, connection, primary, publisher, identity, last
            )
            await match_failover(connection, replication, source)
            topic = SnapshotTopic(cluster, source.name)
            stack.push_async_callback(topic.close)
            queue = SnapshotQueue(cluster.topics.snapshots, await topic.open())
            group = ChangeGroup()
            events_topic, published = cluster.topics.events, prepared.just_published
            for note in await plan_snapshots(
                source, primary or connection, queue, events_topic, published
            ):
                group.add_note(note.topic, note.key, note.value, time.time_ns() // 1_000_000)
            if group:
                await publisher.publish(group, prepared.progress.encode())
            stream = ReplicationStream(replication, source)
            stack.push_async_callback(stream.close)
            await _start_streaming(source, prepared, stream)
            catalogue = PostgresCatalogue(connection, source.name, identity.database, source.format)
            schemas = await _schema_log(source, cluster, publisher)
            messages = MessageEncoder(source.name, identity.database, cluster.topics.events)
            assembly = TransactionAssembly(
                source.name,
                prepared.progress,
                schemas,
                messages,
                tombstones=source.tombstones,
                limits=GroupLimits(source.group_records, source.group_mb << 20),
            )
            snapshots = PostgresSnapshots(
                source if primary is connection else source.at_primary,
                cluster,
                identity.database,
                topic,
                queue,
                assembly,
                stream.wake,
            )
            frames = _whole_frames(source, stream)
            capture = _Capture(source, publisher, connection, catalogue, stream, frames, assembly)
            watching = watch.run(publisher.found(wal_budget_key(source.name)), capture.note)
            on_ready()
            await capture.run(stop, snapshots.run(), watching)
    except psycopg.Error as error:
        raise SourceLostError(
            f"PostgreSQL failed a request of the capture of {source.name}: {str(error).strip()}"
        ) from error
    finally:
        await publisher.close()


def _whole_frames(source: PostgresSource, stream: ReplicationStream) -> FrameReader:
    if source.streaming == "off":
        return stream
    folder = source.spill_folder or f"{tempfile.gettempdir()}/rowcast-{source.name}"
    spill = Spill(Path(folder), source.spill_max_mb << 20)
    spill.clear()
    return WholeFrames(stream, StreamedTransactions(spill))


async def _schema_log(source: PostgresSource, cluster: Cluster, publisher: Publisher) -> SchemaLog:
    topic = cluster.topics.schema
    return SchemaLog(topic, source.name, told_looks(source.name, await publisher.told(topic)))


async def _start_streaming(
    source: PostgresSource, prepared: Preparation, stream: ReplicationStream
) -> None:
    """Start, waiting for the server to notice that a capture that was killed is gone."""
    deadline = time.monotonic() + _SLOT_BUSY_TIMEOUT_S
    attempt = 0
    while True:
        try:
            with answered_in_time(source, stream.connection):
                await stream.start(prepared.progress.end)
        except errors.ObjectInUse as error:
            if time.monotonic() >= deadline:
                state = await slot_state(prepared.connection, source)
                pid = state.active_pid if state is not None else None
                raise CaptureConfigError(
                    found=f"the slot {source.slot} in use by the server process {pid}",
                    expected="a slot that nobody else reads",
                    mend="stop the other capture; if none runs: "
                    f"select pg_terminate_backend({pid})",
                ) from error
            if attempt == 0:
                _log.info("%s: the slot %s is still in use, waiting", source.name, source.slot)
            pause = _SLOT_BUSY_BACKOFF_S[min(attempt, len(_SLOT_BUSY_BACKOFF_S) - 1)]
            attempt += 1
            await asyncio.sleep(pause)
        else:
            return


class _Capture:
    """The loop: frames to the assembly, groups to the publisher, feedback to the server."""

    def __init__(
        self,
        source: PostgresSource,
        publisher: Publisher,
        connection: Connection,
        catalogue: PostgresCatalogue,
        stream: ReplicationStream,
        frames: FrameReader,
        assembly: TransactionAssembly,
    ) -> None:
        progress = assembly.progress
        self._source = source
        self._publisher = publisher
        self._connection = connection
        self._catalogue = catalogue
        self._stream = stream
        self._frames = frames
        self._assembly = assembly
        self._published = progress
        self._publishing: deque[asyncio.Task[PostgresProgress]] = deque()
        self._received = progress.end
        self._idle_end = progress.end
        self._confirmation_due = False
        self._heartbeat_due = False
        self._fed_back_at = 0.0
        self._stopping = False

    def note(self, notes: Sequence[Note]) -> None:
        """Publish records of state as soon as may be."""
        self._assembly.note(notes, time.time_ns() // 1_000_000)
        self._stream.wake()

    async def run(self, stop: asyncio.Event, *beside: Coroutine[None, None, None]) -> None:
        """Until stop; what stands complete in memory then is published first.

        `beside` runs meanwhile; what it raises ends capture.
        """
        helpers = [
            *map(asyncio.create_task, beside),
            asyncio.create_task(self._send_feedback()),
            asyncio.create_task(self._call_heartbeats()),
            asyncio.create_task(self._await_stop(stop)),
        ]
        for helper in helpers:
            helper.add_done_callback(lambda _: self._stream.wake())
        try:
            while not await self._turn():
                for helper in helpers:
                    if helper.done():
                        helper.result()
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            for task in self._publishing:
                task.cancel()
            await asyncio.gather(*self._publishing, return_exceptions=True)

    async def _turn(self) -> bool:
        """One round of reading and handing over; whether capture has stopped."""
        dry = await self._read_slice()
        await self._settle(wait=self._assembly.is_full)
        if len(self._publishing) < _GROUPS_AT_ONCE:
            self._publish_what_is_ready(dry=dry)
        if self._stopping and not self._publishing:
            self._feed_back()
            return True
        if dry:
            await self._stream.wait()
        else:
            await asyncio.sleep(0)
        return False

    async def _read_slice(self) -> bool:
        """Handle what has arrived, within bounds; whether nothing more is there."""
        assembly, frames = self._assembly, self._frames
        if self._stopping:
            return True
        assembly.set_clock(time.time_ns() // 1_000_000)
        for _ in range(_SLICE_FRAMES):
            if assembly.is_full:
                return False
            frame = frames.read_past_rows(assembly, _SLICE_ROWS)
            if frame is None:
                return True
            if not frame:
                return False
            if frame[0] == LOG_DATA:
                relation = assembly.feed(frame[LOG_DATA_START:])
                if relation is None:
                    continue
                if relation.schema == OWN_SCHEMA:
                    assembly.ignore(relation.oid)
                else:
                    with answered_in_time(self._source, self._connection):
                        assembly.define(await self._catalogue.encoder(relation))
            elif frame[0] == KEEPALIVE:
                self._keepalive(frame)
        return False

    def _keepalive(self, frame: bytes) -> None:
        keepalive = decode_keepalive(frame)
        if not self._assembly.is_open:
            # All that was committed before this position has been sent, and so read.
            self._idle_end = max(self._idle_end, keepalive.end)
            self._received = max(self._received, keepalive.end)
        if keepalive.reply_requested:
            # A server that shuts down waits until all it has sent is confirmed.
            self._confirmation_due = True
            self._feed_back()

    async def _settle(self, *, wait: bool) -> None:
        """Take note of groups that are published; `wait` for one where there is no room."""
        settled = False
        while self._publishing:
            full = wait and len(self._publishing) == _GROUPS_AT_ONCE
            if not (full or self._publishing[0].done()):
                break
            self._published = await self._publishing.popleft()
            settled = True
        if settled and time.monotonic() - self._fed_back_at > _FEEDBACK_MIN_S:
            self._feed_back()

    def _publish_what_is_ready(self, *, dry: bool) -> None:
        assembly = self._assembly
        if not assembly.is_empty and (assembly.is_full or (dry and not assembly.is_open)):
            group, progress = assembly.take()
            self._publish(group, progress)
            return
        if assembly.is_open or not assembly.is_empty:
            return
        end = max(self._idle_end, assembly.progress.end)
        # A heartbeat is written though nothing has moved: it is how a capture of an idle
        # database learns that another has taken over.
        if self._heartbeat_due or (self._confirmation_due and end > self._published.end):
            self._publish(ChangeGroup(), assembly.advance(end))
        self._heartbeat_due = self._confirmation_due = False

    def _publish(self, group: ChangeGroup, progress: PostgresProgress) -> None:
        async def publish() -> PostgresProgress:
            await self._publisher.publish(group, progress.encode())
            return progress

        task = asyncio.create_task(publish())
        task.add_done_callback(lambda _: self._stream.wake())
        self._publishing.append(task)

    def _feed_back(self) -> None:
        received = max(self._received, self._published.end)
        self._stream.send_status(received, self._published.end, time.time_ns() // 1_000)
        self._fed_back_at = time.monotonic()

    async def _send_feedback(self) -> None:
        while True:
            self._feed_back()
            await asyncio.sleep(_FEEDBACK_S)

    async def _call_heartbeats(self) -> None:
        while True:
            await asyncio.sleep(self._source.heartbeat_s)
            self._heartbeat_due = True
            self._stream.wake()

    async def _await_stop(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._stopping = True
        self._stream.wake()
