"""Capture of reads by statement: pgaudit's entries in the server's log, each an event once.

A loop of its own beside the slot's (postgres.py), with transactional producers and a progress of
its own, since the log knows nothing of the write-ahead log and what troubles one must not stop the
other. It runs while the database asks for it (statement_audit.py), from the place in the log that
is noted there. Events and the place behind them are one Kafka transaction. Where a piece of the
log is gone before it was read, an event says so, and reading goes on behind it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass

import msgspec
import psycopg

from cdc.audit_entry import ENTRY_MARKER, AuditEntry
from cdc.change_group import ChangeGroup
from cdc.errors import SourceFormatError, SourceLostError
from cdc.log_progress import READ_LOG, LogGap, LogPlace, LogProgress, ToldReads
from cdc.log_record import Damaged, LogFormat, LogRecord, LogRecords
from cdc.postgres_log import READ_BYTES, LogLook, PostgresLog, successor
from cdc.postgres_source import Connection, PostgresSource, answered_in_time, connect
from cdc.publisher import Publisher
from cdc.read_capture import Backoff, keep_reading, pause
from cdc.statement_audit import StatementAudit, find_statement_audit, note_told
from cdc.statement_read import StatementDetail, statement_read_id, statement_record
from events.cluster import Cluster

_log = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.2
_READS_A_TURN = 128
_ASKED_EVERY_S = 1.0
_BACKOFF_S = (1.0, 2.0, 5.0, 15.0, 30.0)


async def capture_reads(
    source: PostgresSource,
    cluster: Cluster,
    detail: StatementDetail,
    *,
    stop: asyncio.Event,
) -> None:
    """Read the log while statements are audited, until `stop` is set.

    Whatever fails is logged and tried again; another capture that takes over ends it.
    """
    await keep_reading(
        lambda: _read_while_asked(source, cluster, detail, stop),
        f"{source.name}: reads by statement",
        Backoff(_BACKOFF_S),
        psycopg.Error,
        stop=stop,
    )


async def _read_while_asked(
    source: PostgresSource, cluster: Cluster, detail: StatementDetail, stop: asyncio.Event
) -> None:
    connection = await connect(source)
    try:
        log = PostgresLog(connection)
        with answered_in_time(source, connection):
            await log.be_quiet()
        while not stop.is_set():
            with answered_in_time(source, connection):
                audit = await find_statement_audit(connection)
            if audit is None:
                await pause(stop, _ASKED_EVERY_S)
                continue
            publisher = Publisher(cluster, source.name, source.on_record_too_large, log=READ_LOG)
            try:
                last = await publisher.start()
                reading = _Reading(source, cluster, detail, connection, log, publisher)
                with answered_in_time(source, connection):
                    await reading.begin(audit, last)
                await reading.run(stop)
            finally:
                await publisher.close()
    finally:
        with contextlib.suppress(psycopg.Error):
            await connection.close()


@dataclass(frozen=True, slots=True)
class _Own:
    """Who capture itself is in the log."""

    user: str
    application: str
    database: str


class _Reading:
    """One run over the log, from the progress on, until nobody asks for it any more."""

    def __init__(
        self,
        source: PostgresSource,
        cluster: Cluster,
        detail: StatementDetail,
        connection: Connection,
        log: PostgresLog,
        publisher: Publisher,
    ) -> None:
        self._source = source
        self._events_topic = cluster.topics.events
        self._detail = detail
        self._connection = connection
        self._log = log
        self._publisher = publisher
        info = connection.info
        self._own = _Own(info.user, f"rowcast-{source.name}", info.dbname)
        self._codec = "utf-8"
        self._progress = LogProgress("", LogPlace(""))
        self._place = self._progress.place
        self._records = LogRecords(LogFormat.JSON, ENTRY_MARKER, 0, self._codec)
        self._told = ToldReads({})
        self._tables: frozenset[tuple[str, str]] = frozenset()
        self._asked: StatementAudit | None = None
        self._asked_at_s = 0.0
        self._stored_at_s = 0.0
        self._group = ChangeGroup()

    async def begin(self, audit: StatementAudit, last: bytes | None) -> None:
        """Find the place to go on from."""
        self._codec = await self._log.codec()
        progress = LogProgress.decode(last) if last is not None else None
        if progress is None or progress.audit != audit.id:
            progress = LogProgress(audit.id, audit.place, seen_ms=audit.since_ms)
        self._progress = progress
        self._told = ToldReads(progress.told)
        self._tables = frozenset(progress.tables)
        self._open(progress.place)
        await self._ask(audit)
        _log.info(
            "%s: reads by statement from %s, byte %d",
            *(self._source.name, self._place.file, self._place.position),
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Read and publish; returns when `stop` is set or nobody asks any more."""
        while not stop.is_set():
            with answered_in_time(self._source, self._connection):
                if time.monotonic() - self._asked_at_s > _ASKED_EVERY_S:
                    await self._ask(await find_statement_audit(self._connection))
                asked = self._asked
                look = await self._log.look(self._place, self._records.unread_from)
                is_dry = await self._take(look)
            await self._publish()
            if is_dry:
                self._tables = frozenset(asked.tables | asked.ended if asked else ())
                if asked is None or (asked.settled and await self._settle(asked)):
                    return
                await pause(stop, _LOOK_EVERY_S)

    async def _settle(self, audit: StatementAudit) -> bool:
        """All of tables that are audited no more is told; whether no table is audited at all."""
        try:
            with answered_in_time(self._source, self._connection):
                is_over = await note_told(self._connection, audit)
        except psycopg.errors.InsufficientPrivilege as error:
            _log.warning(
                "%s: all is told of tables that are audited no more, but what was kept for it "
                "stays (%s); to mend it, as a superuser: drop table rowcast_capture.read_log_ended",
                *(self._source.name, str(error).strip()),
            )
            is_over = False
        await self._ask(None if is_over else await find_statement_audit(self._connection))
        return is_over

    async def _ask(self, audit: StatementAudit | None) -> None:
        # What was asked for until now is told up to the end of the log that there is now.
        self._asked = audit
        self._asked_at_s = time.monotonic()
        if audit is not None:
            self._tables |= audit.tables | audit.ended

    async def _take(self, look: LogLook) -> bool:
        """Turn what a look found into records; whether the log's end was reached."""
        if look.data is None:
            await self._over_gap("the file was removed or replaced before all of it was read")
            return False
        await self._add(self._records.feed(look.data))
        self._place = msgspec.structs.replace(
            self._place,
            position=self._records.position,
            head=look.head,
            written=look.clock if look.is_written else self._place.written,
        )
        if len(look.data) == READ_BYTES:
            return False
        if look.is_current:
            return look.is_written or not await self._to_other_format()
        following = successor(
            await self._log.files(LogFormat.of_file(self._place.file)), self._place, is_gone=False
        )
        if following is None:
            return True
        await self._add(self._records.finish())
        self._open(LogPlace(following.name, 0, following.head, following.written))
        return False

    async def _to_other_format(self) -> bool:
        """Go over to the server's log in another format, where it writes that one only by now.

        A session that has not yet taken the setting over writes to neither, so this is a gap.
        """
        log_format = LogFormat.of_file(self._place.file)
        files = await self._log.files(log_format.other)
        # Times of files are whole seconds; what was read already is passed over by its own time.
        before = msgspec.structs.replace(self._place, written=self._place.written - 1)
        following = successor(files, before, is_gone=True)
        if following is None:
            return False
        await self._add(self._records.finish())
        self._tell_gap(
            f"the server writes its log as {log_format.other.destination} now",
            self._records.position,
        )
        since = self._place.written
        self._open(LogPlace(following.name, 0, following.head, following.written, since))
        return True

    def _open(self, place: LogPlace) -> None:
        self._place = place
        log_format = LogFormat.of_file(place.file)
        self._records = LogRecords(log_format, ENTRY_MARKER, place.position, self._codec)

    async def _add(self, found: list[LogRecord | Damaged]) -> None:
        entries: list[tuple[LogRecord, AuditEntry]] = []
        for count, record in enumerate(found):
            if not count % _READS_A_TURN:
                await asyncio.sleep(0)
            if isinstance(record, Damaged):
                self._tell_gap("a record of the log is not whole", record.position)
                continue
            try:
                entry = AuditEntry.parse(record.message)
            except SourceFormatError as error:
                _log.warning("%s: %s", self._source.name, error)
                self._tell_gap("an entry of pgaudit cannot be read", self._records.position)
                continue
            if entry is not None and entry.is_read and self._may_be_wanted(record):
                entries.append((record, entry))
        if any(entry.table not in self._tables for _, entry in entries):
            # Perhaps a table that is audited since we last asked.
            await self._ask(await find_statement_audit(self._connection))
        await self._tell_reads([read for read in entries if self._is_wanted(*read)])

    async def _tell_reads(self, reads: list[tuple[LogRecord, AuditEntry]]) -> None:
        instants = await self._log.instants_ms(record.timestamp for record, _ in reads)
        now_ms = time.time_ns() // 1_000_000
        for count, (record, entry) in enumerate(reads):
            if not count % _READS_A_TURN:
                await asyncio.sleep(0)  # the slot's reader has its turn
            at_ms = instants[record.timestamp]
            topic, key, value = statement_record(
                self._source.name, record, entry, self._detail, at_ms, now_ms
            )
            if at_ms >= self._place.since * 1_000:
                self._group.add(topic, key, value, (), at_ms)

    def _may_be_wanted(self, record: LogRecord) -> bool:
        """Whether it is of this database, and not of capture itself."""
        own = self._own
        itself = (record.user, record.application_name) == (own.user, own.application)
        return record.dbname == own.database and not itself

    def _is_wanted(self, record: LogRecord, entry: AuditEntry) -> bool:
        if entry.table not in self._tables:
            return False
        identity = statement_read_id(self._source.name, record, entry)
        return self._told.is_new(record.session_id, f"{entry.number}.{entry.part}", identity)

    async def _over_gap(self, reason: str) -> None:
        gone = self._place
        self._tell_gap(reason, self._records.position)
        files = await self._log.files(LogFormat.of_file(gone.file))
        following = successor(files, gone, is_gone=True)
        if following is not None:
            self._open(LogPlace(following.name, 0, following.head, following.written))
            return
        log_format = LogFormat.of_file(gone.file)
        end = await self._log.end(log_format) or await self._log.end(log_format.other)
        if end is None:
            raise SourceLostError(
                f"the server writes neither jsonlog nor csvlog any more, and {gone.file} is gone; "
                "to mend it: alter system set log_destination = 'jsonlog'; select pg_reload_conf()"
            )
        self._open(end)

    def _tell_gap(self, reason: str, position: int) -> None:
        gap = LogGap(self._source.name, self._place.file, position, self._progress.seen_ms, reason)
        _log.warning("%s", gap.error())
        now_ms = time.time_ns() // 1_000_000
        event = gap.event(now_ms)
        self._group.add(self._events_topic, event.key, event.value, event.headers, now_ms)

    async def _publish(self) -> None:
        """Publish what there is, and the place where that is due or another file was begun."""
        heartbeat = time.monotonic() - self._stored_at_s > self._source.heartbeat_s
        moved = self._place.file != self._progress.place.file
        if not (self._group or heartbeat or moved):
            return
        group, self._group = self._group, ChangeGroup()
        self._progress = LogProgress(
            self._progress.audit,
            self._place,
            tuple(sorted(self._tables)),
            self._told.state(),
            time.time_ns() // 1_000_000,
        )
        await self._publisher.publish(group, self._progress.encode())
        self._stored_at_s = time.monotonic()
