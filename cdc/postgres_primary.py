"""The primary of a standby that is captured: what has to be written is written there.

A standby decodes its log (version 16 and later) and has slots of its own, but publications,
watermarks and the loading of rows need the primary, at `primary_dsn`. Rows are loaded from there
too: a standby's pg_current_snapshot() does not name the transactions that are open, and a row
that was read with one of them half seen would be told behind its change.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import LiteralString

from psycopg import Error

from cdc.errors import CaptureConfigError
from cdc.postgres_source import Connection, PostgresSource, connect
from cdc.timeline import ServerIdentity

_log = logging.getLogger(__name__)

_RECOVERS: LiteralString = "select pg_catalog.pg_is_in_recovery()"
_IDENTITY: LiteralString = "select system_identifier::text from pg_catalog.pg_control_system()"
_WRITTEN: LiteralString = "select pg_catalog.pg_current_wal_insert_lsn()::text"
_REPLAYED: LiteralString = "select pg_catalog.pg_last_wal_replay_lsn() >= %s::pg_lsn"
_LOG_SNAPSHOT: LiteralString = "select pg_catalog.pg_log_standby_snapshot()"
_REPLAY_LIMIT_S = 60.0
_POLL_S = 0.05
_SNAPSHOT_EVERY_S = 0.5


async def recovers(connection: Connection) -> bool:
    """Whether the server is a standby."""
    cursor = await connection.execute(_RECOVERS)
    return await cursor.fetchone() == (True,)


async def connect_to_write(source: PostgresSource) -> Connection:
    """A connection to the source's server, or to the primary where that is a standby.

    Raises CaptureConfigError where nobody says which one that is, or it does not answer.
    """
    connection = await connect(source)
    if not await recovers(connection):
        return connection
    await connection.close()
    if not source.primary_dsn:
        raise CaptureConfigError(
            found=f"a standby ({source.name})",
            expected="its primary, where can be written",
            mend=f"set primary_dsn in {source.setting}",
        )
    return await connect(source.at_primary)


async def primary_of(
    source: PostgresSource, connection: Connection, identity: ServerIdentity
) -> Connection | None:
    """A connection to where can be written: the one given, or one to the primary of a standby.

    None for a standby without `primary_dsn`. Raises CaptureConfigError where that is no primary
    of it.
    """
    if not await recovers(connection):
        return connection
    if not source.primary_dsn:
        return None
    primary = await connect(source.at_primary)
    try:
        cursor = await primary.execute(_IDENTITY)
        (system_id,) = await cursor.fetchone() or ("",)
        is_standby = await recovers(primary)
    except BaseException:
        await primary.close()
        raise
    if is_standby or system_id != identity.system_id:
        await primary.close()
        raise CaptureConfigError(
            found="a standby" if is_standby else "a server of another system at primary_dsn",
            expected="the primary of the standby at dsn",
            mend=f"set primary_dsn in {source.setting} to it",
        )
    return primary


async def await_replay(connection: Connection, primary: Connection) -> None:
    """Wait until a standby has what stands on its primary now; at once where both are one."""
    if primary is connection:
        return
    cursor = await primary.execute(_WRITTEN)
    (position,) = await cursor.fetchone() or ("0/0",)
    deadline_s = time.monotonic() + _REPLAY_LIMIT_S
    while True:
        cursor = await connection.execute(_REPLAYED, (position,))
        if await cursor.fetchone() == (True,):
            return
        if time.monotonic() > deadline_s:
            raise CaptureConfigError(
                found=f"a standby that has not replayed {position} within {_REPLAY_LIMIT_S:.0f} s",
                expected="one that follows its primary",
                mend="select * from pg_stat_wal_receiver on the standby says why it lags",
            )
        await asyncio.sleep(_POLL_S)


@asynccontextmanager
async def running_transactions_logged(
    source: PostgresSource, connection: Connection, primary: Connection | None
) -> AsyncGenerator[None]:
    """Have the primary write into its log who runs, which a slot on a standby waits for."""
    if primary is connection:
        yield
        return
    if primary is None:
        _log.info(
            "%s: a slot on a standby waits for its primary to log who runs; if it takes long: "
            "select pg_log_standby_snapshot() there, or set primary_dsn in %s",
            source.name,
            source.setting,
        )
        yield
        return
    task = asyncio.create_task(_log_snapshots(primary))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _log_snapshots(primary: Connection) -> None:
    with contextlib.suppress(Error):
        while True:
            await primary.execute(_LOG_SNAPSHOT)
            await asyncio.sleep(_SNAPSHOT_EVERY_S)
