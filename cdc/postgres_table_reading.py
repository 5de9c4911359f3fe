"""A table's rows put into a store as one snapshot of the database has them.

The transaction is as short as the reading; only a lock against changes of the table's columns is
held. The text of the values goes through the encoders that capture uses in the plain format.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import LiteralString

from psycopg import errors

from cdc.copy_text import split_line
from cdc.errors import CaptureConfigError
from cdc.postgres_catalogue import PostgresCatalogue
from cdc.postgres_copy import copy_out
from cdc.postgres_snapshot_plan import own_id
from cdc.postgres_snapshot_table import describe_table, lock_table
from cdc.postgres_source import Connection, PostgresSource
from cdc.row_encoder import RowEncoder
from cdc.snapshot_table import SnapshotTable
from cdc.snapshot_window import VisibleTransactions
from cdc.topic_fold import ReadingMoment, row_digest
from cdc.topic_record import parsed
from cdc.verification_store import VerificationStore
from events.lsn import Lsn

SESSION: LiteralString = """
    set row_security = off; set statement_timeout = 0; set lock_timeout = 0;
    set idle_in_transaction_session_timeout = 0; set standard_conforming_strings = on;
    set synchronous_commit = local
"""
_POSITION: LiteralString = "select pg_catalog.pg_current_wal_insert_lsn()::text"
_MOMENT: LiteralString = """
    select pg_catalog.pg_current_snapshot()::text, pg_catalog.pg_current_wal_insert_lsn()::text
"""


@dataclass(frozen=True, slots=True)
class ReadTable:
    """A table that was read: as it looked, and when."""

    table: SnapshotTable
    encoder: RowEncoder
    moment: ReadingMoment


async def read_table(
    source: PostgresSource,
    connection: Connection,
    catalogue: PostgresCatalogue,
    name: tuple[str, str],
    store: VerificationStore,
) -> ReadTable:
    """Put all rows of a table that are published into the store.

    Raises CaptureConfigError where the role may not read it, psycopg.Error otherwise.
    """
    before = await _text(connection, _POSITION)
    await connection.execute("begin isolation level repeatable read read only")
    try:
        await lock_table(connection, *name)
        cursor = await connection.execute(_MOMENT)
        snapshot, after = await cursor.fetchone() or ("", "")
        described = await describe_table(connection, source, *name, None)
        encoder = await catalogue.row_encoder(described.table.relation)
        # As it reads Connect's JSON, the topic's side is parsed; so must this one be.
        write = parsed if source.format == "connect-json" else bytes
        async with aclosing(copy_out(connection, described.table.all_rows())) as slices:
            async for lines in slices:
                store.put_rows(_rows(encoder, lines, write))
    except errors.InsufficientPrivilege as error:
        role = connection.info.user
        raise CaptureConfigError(
            found=f"the role {role} without the right to read {'.'.join(name)} "
            f"({str(error).strip()})",
            expected="SELECT on the table, past row security",
            mend=f'grant select on "{name[0]}"."{name[1]}" to "{role}" '
            "(and bypassrls where it has row security)",
        ) from error
    finally:
        await connection.execute("rollback")
    # A transaction of our own: its commit moves the end of the log past all that was visible,
    # and its id is beyond those of all that was.
    next_id = await own_id(connection)
    visible = VisibleTransactions.parse(str(snapshot))
    moment = ReadingMoment(visible, Lsn.parse(before), Lsn.parse(str(after)), next_id)
    return ReadTable(described.table, encoder, moment)


def _rows(
    encoder: RowEncoder, lines: Sequence[bytes], write: Callable[[bytes], bytes]
) -> list[tuple[bytes, bytes]]:
    found: list[tuple[bytes, bytes]] = []
    for line in lines:
        row = split_line(line)
        written = write(encoder.row_json(row))
        key = encoder.key(row)
        found.append((row_digest(written) if key is None else write(key), written))
    return found


async def _text(connection: Connection, query: LiteralString) -> str:
    cursor = await connection.execute(query)
    (value,) = await cursor.fetchone() or ("",)
    return str(value)
