"""What a start of capture is to load of a PostgreSQL source, and whether it can."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Collection, Sequence
from typing import LiteralString

from psycopg import Error

from cdc.errors import CaptureConfigError
from cdc.postgres_new_tables import whole_tables
from cdc.postgres_publication import Table, published_tables
from cdc.postgres_source import Connection, PostgresSource
from cdc.snapshot_chunk import Note
from cdc.snapshot_outcome import outcome_note
from cdc.snapshot_plan import SnapshotQueue
from cdc.snapshot_state import TableSnapshot
from cdc.snapshot_table import quote_name
from cdc.snapshot_window import VisibleTransactions

_log = logging.getLogger(__name__)

_RIGHTS: LiteralString = """
    select pg_catalog.pg_is_in_recovery(), pg_catalog.has_function_privilege(%s, 'execute')
"""
_OWN_ID: LiteralString = """
    select case when pg_catalog.pg_is_in_recovery() then 0
        else pg_catalog.pg_current_xact_id()::text::bigint end
"""
_VISIBLE: LiteralString = "select pg_catalog.pg_current_snapshot()::text"
_GONE = "the table was dropped or is no longer published"
_FLUSH_SINCE = 170_000
_QUIET_TRIES = 20
_QUIET_POLL_S = 0.05


async def plan_snapshots(
    source: PostgresSource,
    connection: Connection,
    queue: SnapshotQueue,
    events_topic: str,
    just_published: Collection[Table],
) -> list[Note]:
    """Decide what this start of capture is to load; returns the records that say so.

    `just_published` came into the publication at this start.

    Raises CaptureConfigError where something is to be loaded from a server or by a role that
    cannot.
    """
    wanted = just_published if source.snapshot == "initial" else ()
    added, notes = await plan_tables(source, connection, queue, events_topic, wanted)
    if added:
        await check_rights(source, connection)
        empty = await _empty_tables(connection, added)
        now_ms = time.time_ns() // 1_000_000
        added = [
            one.advanced(0, (), now_ms, complete=True) if one in empty else one for one in added
        ]
    elif queue.has_work:
        await check_rights(source, connection)
    return [*notes, *queue.enter(added)]


async def plan_tables(
    source: PostgresSource,
    connection: Connection,
    queue: SnapshotQueue,
    events_topic: str,
    just_added: Collection[Table] = (),
) -> tuple[list[TableSnapshot], list[Note]]:
    """Tables of the publication that are new to us, and the records for what changes.

    `just_added` were made while capture ran, and what is in them is to be told in any case.
    """
    published = await published_tables(connection, source)
    now_ms = time.time_ns() // 1_000_000
    events = [
        outcome_note(events_topic, source.name, state.failed(_GONE, now_ms))
        for state in queue.unfinished_beside(published)
    ]
    added, notes = queue.plan(
        published,
        secrets.token_hex(4),
        await own_id(connection),
        enabled=source.snapshot == "initial",
        whole=await whole_tables(connection, source),
        just_added=just_added,
    )
    return added, [*events, *notes]


async def own_id(connection: Connection) -> int:
    """The id of a transaction of our own, newer than all that are open now; 0 on a standby.

    The xmax of a snapshot would not do: the newest that is open may bear it.
    """
    cursor = await connection.execute(_OWN_ID)
    (xid,) = await cursor.fetchone() or (0,)
    return int(xid)


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
            mend=f"set primary_dsn in {source.setting} to the primary, where rows are then read, "
            'or snapshot = "never"',
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

    Certain is what is seen once all transactions open now have ended. Rows written to them from
    now on come by the stream alone and not a second time by a snapshot.
    """
    limit = await own_id(connection)
    for _ in range(_QUIET_TRIES):
        await connection.execute("begin isolation level repeatable read read only")
        try:
            cursor = await connection.execute(_VISIBLE)
            (text,) = await cursor.fetchone() or ("",)
            visible = VisibleTransactions.parse(str(text))
            if visible.xmin > limit:
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
