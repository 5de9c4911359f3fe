"""A snapshot that a user asks for: looked at before it is written to where capture finds it."""

from __future__ import annotations

import psycopg

from cdc.errors import CaptureConfigError
from cdc.postgres_publication import published_tables
from cdc.postgres_snapshot_plan import check_rights
from cdc.postgres_source import PostgresSource, connect
from cdc.snapshot_state import SnapshotRequest
from cdc.snapshot_table import quote_name

_SHOWN = 8


async def check_request(source: PostgresSource, table: str, where: str) -> SnapshotRequest:
    """The request for a table, named `schema.table` or, in `public`, by its name alone.

    Raises CaptureConfigError where the table is not captured or the condition is no SQL for it.
    """
    connection = await connect(source.at_primary)
    try:
        published = await published_tables(connection, source)
        found = next(
            (name for name in published if table in (".".join(name), _short(name))),
            None,
        )
        if found is None:
            known = ", ".join(map(".".join, published[:_SHOWN])) or "none"
            more = ", ..." if len(published) > _SHOWN else ""
            raise CaptureConfigError(
                found=f"the table {table!r}, which is not in the publication {source.publication}",
                expected=f"one of {known}{more}",
                mend=f'alter publication "{source.publication}" add table ..., or correct the name',
            )
        await check_rights(source, connection)
        condition = f"where ({where}\n)" if where else ""
        name = f"{quote_name(found[0])}.{quote_name(found[1])}"
        query = f"explain select from {name} {condition}"
        try:
            await connection.execute(query.encode())
        except psycopg.errors.ProgrammingError as error:
            raise CaptureConfigError(
                found=f"PostgreSQL refusing to read the rows: {str(error).strip()}",
                expected="a condition in SQL over the table's columns, and the right to read it",
                mend="""correct --where, e.g. --where "status = 'paid'", or grant select""",
            ) from error
        return SnapshotRequest(*found, where)
    finally:
        await connection.close()


def _short(name: tuple[str, str]) -> str | None:
    return name[1] if name[0] == "public" else None
