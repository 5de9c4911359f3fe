"""`rowcast audit`: reads of a table become events."""

from __future__ import annotations

from cdc.postgres_source import PostgresSource, connect
from cdc.read_policy import (
    AuditedTable,
    audited_tables,
    disable_row_audit,
    enable_row_audit,
)
from events.topic import reads_topic
from rowcast.errors import ConfigurationError
from rowcast.installation import Installation


async def enable(installation: Installation, source: str, table: str, *, force: bool) -> str:
    """Make reads of a table events, by row; what to tell the user."""
    postgres, schema, name = _table(installation, source, table)
    connection = await connect(postgres)
    try:
        audited = await enable_row_audit(connection, postgres, schema, name, force=force)
    finally:
        await connection.close()
    topic = reads_topic(source, schema, name)
    lines = [f"reads of {schema}.{name} are events on {topic} from now on"]
    return "\n".join([*lines, *_unseen_lines(audited)])


async def disable(installation: Installation, source: str, table: str) -> str:
    """Make them events no longer; what to tell the user."""
    postgres, schema, name = _table(installation, source, table)
    connection = await connect(postgres)
    try:
        await disable_row_audit(connection, postgres, schema, name)
    finally:
        await connection.close()
    return f"reads of {schema}.{name} are no events any more; nothing of the audit is left on it"


async def audited(installation: Installation, source: str) -> str:
    """The tables of a source whose reads are events by row."""
    connection = await connect(_postgres(installation, source))
    try:
        tables = await audited_tables(connection)
    finally:
        await connection.close()
    if not tables:
        return f"no table of {source} is audited: rowcast audit enable {source} TABLE --rows"
    lines = [f"{table.schema}.{table.table}  by row" for table in tables]
    return "\n".join([*lines, *_unseen_lines(tables[0])])


def _postgres(installation: Installation, source: str) -> PostgresSource:
    if installation.source(source).kind != "postgres":
        raise ConfigurationError(
            f"found the source {source!r} of kind mongo, expected one of kind postgres: "
            "reads are audited by row in PostgreSQL only"
        )
    return installation.postgres_source(source)


def _table(installation: Installation, source: str, table: str) -> tuple[PostgresSource, str, str]:
    schema, _, name = table.rpartition(".")
    return _postgres(installation, source), schema or "public", name


def _unseen_lines(table: AuditedTable) -> list[str]:
    if not table.unseen:
        return []
    roles = ", ".join(table.unseen)
    return [f"not seen: reads as {roles}: row security does not hold for such roles"]
