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
from cdc.postgres_source import Connection, PostgresSource, no_replication_right
from cdc.progress import PostgresProgress
from events.json_codec import JsonObject
from events.lsn import Lsn

_log = logging.getLogger(__name__)

# As JSON, since the view's columns differ between server versions 14 and 18.
_SLOT: LiteralString = """
    select to_jsonb(s) from pg_catalog.pg_replication_slots s where slot_name = %s
"""


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """What IDENTIFY_SYSTEM tells: whose log this is."""

    system_id: str
    timeline: int
    database: str


@dataclass(frozen=True, slots=True)
class SlotState:
    """A slot as pg_replication_slots shows it.

    `invalidation` is why the server gave its log up, None where it has not.
    """

    confirmed: Lsn
    active_pid: int | None
    invalidation: str | None


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
    return ServerIdentity(str(row[0]), int(row[1]), str(row[3]))


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
    pid = slot.get("active_pid")
    return SlotState(
        confirmed=Lsn.parse(str(confirmed)) if confirmed is not None else Lsn(0),
        active_pid=pid if isinstance(pid, int) else None,
        invalidation=str(reason) if reason is not None else None,
    )


async def create_slot(connection: Connection, source: PostgresSource) -> SlotState:
    """Make the slot; it begins behind all transactions that are open now, and waits for them.

    Raises CaptureConfigError where the server has no room or the role no right.
    """
    _log.info("creating the slot %s (it waits for transactions now open)", source.slot)
    try:
        await connection.execute(
            "select pg_catalog.pg_create_logical_replication_slot(%s, 'pgoutput')",
            (source.slot,),
        )
    except errors.ConfigurationLimitExceeded as error:
        raise CaptureConfigError(
            found="all replication slots of the server in use",
            expected=f"a free one for {source.slot}",
            mend="alter system set max_replication_slots = 20, and restart the server; "
            "or drop a slot that nobody uses (select * from pg_replication_slots)",
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
    if identity.timeline != progress.timeline:
        return (
            f"the server is on timeline {identity.timeline}, progress on {progress.timeline}: "
            "it was restored or a standby was promoted"
        )
    if slot is None:
        return "the replication slot is gone"
    if slot.invalidation is not None:
        return f"the server invalidated the replication slot ({slot.invalidation})"
    if slot.confirmed > progress.end:
        return f"the replication slot is at {slot.confirmed}, ahead of progress at {progress.end}"
    if not publication_existed:
        return "the publication is gone, and with it what it published meanwhile"
    return None
