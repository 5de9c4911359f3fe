"""The replication slot: its state, making and dropping it, and whether it fits the progress.

The slot is what keeps the log for us. It must never be ahead of the progress on Kafka: what it
has been told is confirmed the server throws away. `find_gap` is the pure judgement of that.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import LiteralString, cast

from psycopg import errors

from cdc.errors import CaptureConfigError
from cdc.postgres_primary import running_transactions_logged
from cdc.postgres_source import Connection, PostgresSource, no_replication_right
from cdc.progress import PostgresProgress
from cdc.timeline import ServerIdentity, carried_over, parse_history
from events.json_codec import JsonObject
from events.lsn import Lsn

_log = logging.getLogger(__name__)

# As JSON, since the view's columns differ between server versions 14 and 18.
_SLOT: LiteralString = """
    select to_jsonb(s) from pg_catalog.pg_replication_slots s where slot_name = %s
"""
_CREATE: LiteralString = "select pg_catalog.pg_create_logical_replication_slot(%s, 'pgoutput')"
_CREATE_FAILOVER: LiteralString = """
    select pg_catalog.pg_create_logical_replication_slot(
        %s, 'pgoutput', failover => not pg_catalog.pg_is_in_recovery())
"""
FAILOVER_SINCE = 170_000


@dataclass(frozen=True, slots=True)
class SlotState:
    """A slot as pg_replication_slots shows it.

    `invalidation` is why the server gave its log up, None where it has not. `failover`: whether
    standbys keep a copy of it, None on a server that has no such slots.
    """

    confirmed: Lsn
    active_pid: int | None
    invalidation: str | None
    failover: bool | None = None


async def identify(replication: Connection) -> ServerIdentity:
    """Ask a replication connection for the server's identity."""
    cursor = await replication.execute("IDENTIFY_SYSTEM")
    row = await cursor.fetchone()
    if row is None:
        raise CaptureConfigError(
            found="no answer to IDENTIFY_SYSTEM",
            expected="a PostgreSQL server",
            mend="connect to the server itself, not to a pooler",
        )
    timeline = int(row[1])
    left_at = await _history(replication, timeline) if timeline > 1 else {}
    return ServerIdentity(str(row[0]), timeline, str(row[3]), left_at)


async def _history(replication: Connection, timeline: int) -> dict[int, Lsn]:
    try:
        cursor = await replication.execute(f"TIMELINE_HISTORY {timeline}".encode())
        row = await cursor.fetchone()
    except errors.Error as error:
        # Its file was removed: then nothing is known of older timelines.
        _log.warning("the history of timeline %d is not to be had: %s", timeline, error)
        return {}
    content: object = row[1] if row is not None else ""
    return parse_history(content.decode() if isinstance(content, bytes) else str(content))


async def slot_state(connection: Connection, source: PostgresSource) -> SlotState | None:
    """The source's slot, None where there is none.

    Raises CaptureConfigError where the name belongs to a slot of another kind.
    """
    cursor = await connection.execute(_SLOT, (source.slot,))
    row = await cursor.fetchone()
    if row is None:
        return None
    slot = cast("JsonObject", row[0])
    if slot.get("plugin") != "pgoutput" or slot.get("database") != connection.info.dbname:
        raise CaptureConfigError(
            found=f"the slot {source.slot} with the plugin {slot.get('plugin')} "
            f"in the database {slot.get('database')}",
            expected=f"a slot of pgoutput in {connection.info.dbname}",
            mend=f"set another slot in {source.setting}, or drop that one",
        )
    confirmed = slot.get("confirmed_flush_lsn")
    reason = slot.get("invalidation_reason")
    if reason is None and slot.get("wal_status") == "lost":
        reason = "wal_removed"
    if reason is None and slot.get("conflicting") is True:
        reason = "conflict with the primary's cleanup"
    pid, failover = slot.get("active_pid"), slot.get("failover")
    return SlotState(
        confirmed=Lsn.parse(str(confirmed)) if confirmed is not None else Lsn(0),
        active_pid=pid if isinstance(pid, int) else None,
        invalidation=str(reason) if reason is not None else None,
        failover=failover if isinstance(failover, bool) else None,
    )


async def create_slot(
    connection: Connection, source: PostgresSource, primary: Connection | None
) -> SlotState:
    """Make the slot; it begins behind all transactions that are open now, and waits for them.

    `primary` is the connection itself, or of a standby its primary's, where that is known.

    Raises CaptureConfigError where the server has no room or the role no right.
    """
    _log.info("creating the slot %s (it waits for transactions now open)", source.slot)
    create = _CREATE
    if source.failover_slot and connection.info.server_version >= FAILOVER_SINCE:
        create = _CREATE_FAILOVER
    try:
        async with running_transactions_logged(source, connection, primary):
            await connection.execute(create, (source.slot,))
    except errors.ConfigurationLimitExceeded as error:
        raise CaptureConfigError(
            found="all replication slots of the server in use",
            expected=f"a free one for {source.slot}",
            mend="alter system set max_replication_slots = 20, and restart the server; "
            "or drop a slot that nobody uses (select * from pg_replication_slots)",
        ) from error
    except errors.ObjectNotInPrerequisiteState as error:
        raise CaptureConfigError(
            found=f"the server refusing to make a slot: {str(error).strip()}",
            expected="wal_level = logical on the primary of this standby",
            mend="on the primary: alter system set wal_level = 'logical', and restart it",
        ) from error
    except errors.InsufficientPrivilege as error:
        raise no_replication_right(connection.info.user) from error
    except errors.InvalidName as error:
        raise CaptureConfigError(
            found=f"the slot name {source.slot!r}",
            expected="lower-case letters, digits and underscores, at most 63",
            mend=f"set slot in {source.setting}",
        ) from error
    state = await slot_state(connection, source)
    if state is None:
        raise CaptureConfigError(
            found=f"the slot {source.slot} gone as soon as it was made",
            expected="it to stay",
            mend="look for who drops it",
        )
    return state


async def match_failover(
    connection: Connection, replication: Connection, source: PostgresSource
) -> None:
    """Let standbys keep a copy of a slot that was made before, or no longer, as the source says."""
    slot = await slot_state(connection, source)
    if slot is None or slot.failover in (None, source.failover_slot):
        return
    cursor = await connection.execute("select pg_catalog.pg_is_in_recovery()")
    if await cursor.fetchone() == (True,):
        return
    wanted = "true" if source.failover_slot else "false"
    statement = f'ALTER_REPLICATION_SLOT "{source.slot}" (FAILOVER {wanted})'
    try:
        await replication.execute(statement.encode())
    except errors.Error as error:
        # Most often still held by a capture that was killed; the next start tries again.
        _log.warning("%s: failover = %s is not set: %s", source.slot, wanted, str(error).strip())
    else:
        _log.info("%s: set failover = %s on the slot %s", source.name, wanted, source.slot)


async def drop_slot(connection: Connection, source: PostgresSource) -> None:
    """Drop the slot."""
    await connection.execute("select pg_catalog.pg_drop_replication_slot(%s)", (source.slot,))


def find_gap(  # noqa: PLR0911 - one reason a return reads best
    progress: PostgresProgress,
    identity: ServerIdentity,
    slot: SlotState | None,
    *,
    publication_existed: bool,
) -> str | None:
    """Why the changes after the progress are not all to be had; None where they are."""
    if identity.system_id != progress.system_id:
        return (
            f"the server is another one (system identifier {identity.system_id}, "
            f"progress is of {progress.system_id})"
        )
    carried = carried_over(progress, identity)
    if carried is None:
        left_at = (identity.left_at or {}).get(progress.timeline)
        where = f"left it at {left_at}" if left_at is not None else "does not come from it"
        return (
            f"the server is on timeline {identity.timeline}, progress on {progress.timeline} at "
            f"{progress.commit}, and the server {where}: it was restored, or a standby was "
            "promoted that did not have everything yet"
        )
    if slot is None:
        return "the replication slot is gone"
    if slot.invalidation is not None:
        return f"the server invalidated the replication slot ({slot.invalidation})"
    if slot.confirmed > carried.end:
        return f"the replication slot is at {slot.confirmed}, ahead of progress at {carried.end}"
    if not publication_existed:
        return "the publication is gone, and with it what it published meanwhile"
    return None
