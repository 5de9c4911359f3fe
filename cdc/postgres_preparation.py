"""All that stands between a start and the first byte of the log.

Publication and slot are made where they are missing, tables without a key are seen to, topics are
made so that consumers know them early, and slot and progress are compared. Where changes were
lost a `system.gap` event is published, once, in the transaction of the progress that names it;
then capture stops or, where the source says so, goes on from what is left.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cdc.change_group import ChangeGroup
from cdc.errors import CaptureConfigError, CaptureGapError, ProgressFormatError
from cdc.postgres_emit import ensure_emit_function
from cdc.postgres_new_tables import follow_new_tables, publish_missing
from cdc.postgres_primary import await_replay, recovers
from cdc.postgres_publication import (
    Table,
    ensure_publication,
    identify_keyless_rows,
    publication_exists,
    published_tables,
)
from cdc.postgres_slot import (
    SlotState,
    create_slot,
    drop_slot,
    find_gap,
    slot_state,
)
from cdc.postgres_source import Connection, PostgresSource
from cdc.progress import PostgresProgress, decode_progress
from cdc.publisher import Publisher
from cdc.snapshot_plan import plan_note
from cdc.snapshot_state import Plan
from cdc.timeline import ServerIdentity, carried_over
from cdc.topic_creation import ensure_topics
from events.cluster import Cluster
from events.event import make_event
from events.topic import change_topic

_log = logging.getLogger(__name__)

_OLDEST_SERVER = 140_000
STANDBY_SINCE = 160_000
"""Before it a standby cannot decode its log."""


@dataclass(frozen=True, slots=True)
class Preparation:
    """Where to go on from; `connection` is the one for the catalogue.

    `just_published` are tables that this start has added to the publication.
    """

    connection: Connection
    progress: PostgresProgress
    just_published: Sequence[Table] = ()


async def prepare(
    source: PostgresSource,
    cluster: Cluster,
    connection: Connection,
    primary: Connection | None,
    publisher: Publisher,
    identity: ServerIdentity,
    last: bytes | None,
) -> Preparation:
    """Make everything ready; `last` is the value of the last progress record.

    `primary` is where can be written: the connection itself, or that of a standby's primary.
    Raises CaptureConfigError for what the user must set, CaptureGapError where changes are lost.
    """
    await check_server(connection)
    progress = _progress_of(source, last)
    existed, added = await _publish(source, connection, primary)
    tables = await published_tables(connection, source)
    await ensure_topics(cluster, [change_topic(source.name, *table) for table in tables])
    slot = await slot_state(connection, source)
    if progress is None:
        return Preparation(
            connection, await _first_start(source, connection, primary, publisher, identity, slot)
        )
    reason = find_gap(progress, identity, slot, publication_existed=existed)
    if reason is None:
        carried = carried_over(progress, identity) or progress
        if carried is not progress:
            _log.warning(
                "%s: the server went from timeline %d to %d; all that was told is in its log, "
                "going on from %s",
                source.name,
                progress.timeline,
                carried.timeline,
                carried.end,
            )
        return Preparation(connection, carried, added)
    if source.on_gap == "stop":
        await _announce_gap(source, cluster, publisher, progress, progress, reason)
        raise CaptureGapError(
            f"{source.name}: {reason}; changes after {progress.end} are lost to capture. To go "
            f'on from what is left, set on_gap = "continue" in {source.setting}, or "snapshot" to '
            "load all tables anew; the event system.gap tells listeners"
        )
    if slot is None or slot.invalidation is not None or not existed:
        if slot is not None:
            await drop_slot(connection, source)
        slot = await create_slot(connection, source, primary)
    after = _progress_at(identity, slot)
    await _announce_gap(source, cluster, publisher, progress, after, reason)
    _log.warning("%s: %s; going on from %s", source.name, reason, after.end)
    return Preparation(connection, after)


async def _publish(
    source: PostgresSource, connection: Connection, primary: Connection | None
) -> tuple[bool, Sequence[Table]]:
    """See to the publication: whether it was there, and tables added to it."""
    if primary is None:
        if not await publication_exists(connection, source):
            raise CaptureConfigError(
                found=f"a standby without the publication {source.publication}",
                expected="the publication, which is made on its primary",
                mend=f"set primary_dsn in {source.setting}, or on the primary: create publication "
                f'"{source.publication}" for all tables with (publish_via_partition_root = true)',
            )
        return True, ()
    existed = await ensure_publication(primary, source)
    # In this order: a table made in between is seen by the one or the other.
    await follow_new_tables(primary, source)
    added = await publish_missing(primary, source, set())
    if source.keyless_full:
        await identify_keyless_rows(primary, source)
    await ensure_emit_function(primary, source)
    await await_replay(connection, primary)
    return existed, added


async def check_server(connection: Connection) -> None:
    """Raise CaptureConfigError where the server cannot be captured from."""
    if connection.info.server_version < STANDBY_SINCE and await recovers(connection):
        raise CaptureConfigError(
            found=f"a standby of PostgreSQL {connection.info.server_version // 10_000}",
            expected="16 or later, which can decode the log of a standby, or the primary",
            mend="set dsn to the primary",
        )
    if connection.info.server_version < _OLDEST_SERVER:
        raise CaptureConfigError(
            found=f"PostgreSQL {connection.info.server_version // 10_000}",
            expected="14 or later",
            mend="upgrade the server",
        )
    cursor = await connection.execute(
        "select current_setting('wal_level'), current_setting('server_encoding')"
    )
    row = await cursor.fetchone()
    level, encoding = (str(row[0]), str(row[1])) if row is not None else ("", "")
    if level != "logical":
        raise CaptureConfigError(
            found=f"wal_level = {level}",
            expected="wal_level = logical",
            mend="alter system set wal_level = 'logical', and restart the server",
        )
    if encoding == "SQL_ASCII":
        raise CaptureConfigError(
            found="a database in the encoding SQL_ASCII, whose text may be any bytes",
            expected="UTF8 or another encoding that says what its bytes mean",
            mend="dump the database and restore it into one with encoding UTF8",
        )


def _progress_of(source: PostgresSource, last: bytes | None) -> PostgresProgress | None:
    if last is None:
        return None
    progress = decode_progress(last)
    if not isinstance(progress, PostgresProgress):
        raise ProgressFormatError(
            f"the progress record of {source.name} is not of a PostgreSQL source; give the "
            f"source another name than the one that had it ({source.setting})"
        )
    return progress


async def _first_start(
    source: PostgresSource,
    connection: Connection,
    primary: Connection | None,
    publisher: Publisher,
    identity: ServerIdentity,
    slot: SlotState | None,
) -> PostgresProgress:
    if slot is None:
        slot = await create_slot(connection, source, primary)
    elif slot.invalidation is not None:
        _log.warning(
            "%s: the slot was invalidated (%s), making it anew", source.name, slot.invalidation
        )
        await drop_slot(connection, source)
        slot = await create_slot(connection, source, primary)
    else:
        _log.warning(
            "%s: there is no progress yet but the slot %s is; going on from %s",
            source.name,
            source.slot,
            slot.confirmed,
        )
    progress = _progress_at(identity, slot)
    # Written before anything is read, so that a slot lost from here on is noticed.
    await publisher.publish(ChangeGroup(), progress.encode())
    return progress


def _progress_at(identity: ServerIdentity, slot: SlotState) -> PostgresProgress:
    return PostgresProgress(identity.system_id, identity.timeline, slot.confirmed, slot.confirmed)


async def _announce_gap(
    source: PostgresSource,
    cluster: Cluster,
    publisher: Publisher,
    before: PostgresProgress,
    after: PostgresProgress,
    reason: str,
) -> None:
    """Publish the gap event, unless the progress says that it was."""
    event_id = f"{source.name}/{before.end.fixed_width}/gap"
    group = ChangeGroup()
    if before.gap != event_id:
        now_ms = int(time.time() * 1_000)
        event = make_event(
            event_id=event_id,
            event_type="system.gap",
            data={
                "source": source.name,
                "reason": reason,
                "last_published": str(before.end),
                "continued_from": str(after.end) if after is not before else None,
            },
            ts_ms=now_ms,
            key=source.name,
        )
        group.add(cluster.topics.events, event.key, event.value, event.headers, now_ms)
    elif after is before:
        return
    if source.on_gap == "snapshot":
        note = plan_note(cluster.topics.snapshots, source.name, Plan(planned=False, reason="gap"))
        group.add_note(note.topic, note.key, note.value, int(time.time() * 1_000))
    await publisher.publish(group, replace(after, gap=event_id).encode())
