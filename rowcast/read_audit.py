"""`rowcast audit`: reads of a table become events."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from cdc.postgres_primary import connect_to_write
from cdc.postgres_source import connect
from cdc.read_policy import (
    audited_tables,
    disable_row_audit,
    enable_row_audit,
)
from cdc.statement_audit import (
    disable_statement_audit,
    enable_statement_audit,
    statement_tables,
)
from cdc.table_name import find_name
from events.topic import reads_topic
from rowcast import mongo_audit
from rowcast.errors import ConfigurationError
from rowcast.installation import Installation


async def enable(
    installation: Installation,
    source: str,
    table: str,
    *,
    rows: bool,
    statements: bool,
    force: bool,
) -> str:
    """Make reads of a table events, by row or by statement or both; what to tell the user."""
    if not (rows or statements):
        raise ConfigurationError(
            "found neither --rows nor --statements, expected one or both: each row that is read, "
            "or each statement that reads (docs/read-audit.md)"
        )
    if installation.source(source).kind == "mongo":
        _check_statements(source, rows=rows, force=force)
        return "\n".join(await mongo_audit.enable(installation.mongo_source(source), table))
    postgres = installation.postgres_source(source)
    lines: list[str] = []
    connection = await connect_to_write(postgres)
    try:
        schema, name = await find_name(connection, table)
        # First what asks the most of the server: where it is refused, nothing was done.
        if statements:
            lines += await enable_statement_audit(connection, postgres, schema, name)
        if rows:
            audited = await enable_row_audit(connection, postgres, schema, name, force=force)
            lines += [*_unseen_lines(audited.unseen), *audited.beside]
    finally:
        await connection.close()
    topic = reads_topic(source, schema, name)
    how = _how(rows=rows, statements=statements)
    return "\n".join([f"reads of {schema}.{name} are events {how} on {topic} from now on", *lines])


async def disable(
    installation: Installation,
    source: str,
    table: str,
    *,
    rows: bool,
    statements: bool,
    lose_unread: bool = False,
) -> str:
    """Make them events no longer, by row, by statement, or as they are; what to tell the user.

    `lose_unread` ends it though capture of a MongoDB does not run; a PostgreSQL loses nothing.
    """
    if installation.source(source).kind == "mongo":
        _check_statements(source, rows=rows, force=False)
        mongo = installation.mongo_source(source)
        ended = mongo_audit.disable(mongo, installation.cluster, table, lose_unread=lose_unread)
        return "\n".join(await ended)
    postgres = installation.postgres_source(source)
    asked = _how(rows=rows, statements=statements)
    lines: list[str] = []
    connection = await connect_to_write(postgres)
    try:
        schema, name = await find_name(connection, table)
        if not asked:
            statements = (schema, name) in await statement_tables(connection)
            rows = not statements or any(
                (one.schema, one.table) == (schema, name)
                for one in await audited_tables(connection)
            )
        if rows:
            lines += await disable_row_audit(connection, postgres, schema, name)
        if statements:
            lines += await disable_statement_audit(connection, postgres, schema, name)
    finally:
        await connection.close()
    said = f"reads of {schema}.{name} are no events {asked + ' ' if asked else ''}any more"
    left = f"; nothing of {'that' if asked else 'the'} audit is left on it"
    return "\n".join([said if lines else said + left, *lines])


class AuditedTables(msgspec.Struct, frozen=True):
    """Tables of a source whose reads are events; reads as roles in `unseen` are not, by row.

    `told` is of a MongoDB, in words; None for a PostgreSQL.
    """

    by_row: list[str]
    by_statement: list[str]
    unseen: list[str]
    told: list[str] | None = None


async def audited(installation: Installation, source: str) -> AuditedTables:
    """The tables of a source whose reads are events, and how."""
    if installation.source(source).kind == "mongo":
        return AuditedTables(
            [], [], [], await mongo_audit.audited(installation.mongo_source(source))
        )
    connection = await connect(installation.postgres_source(source))
    try:
        tables = await audited_tables(connection)
        by_statement = await statement_tables(connection)
    finally:
        await connection.close()
    return AuditedTables(
        [f"{table.schema}.{table.table}" for table in tables],
        [f"{schema}.{name}" for schema, name in by_statement],
        list(tables[0].unseen) if tables else [],
    )


def audited_text(source: str, tables: AuditedTables) -> str:
    """What to print of them."""
    if tables.told is not None:
        none = f"no collection of {source} is audited: rowcast audit enable {source} COLLECTION "
        return "\n".join(tables.told) if tables.told else f"{none}--statements"
    if not tables.by_row and not tables.by_statement:
        return (
            f"no table of {source} is audited: rowcast audit enable {source} TABLE --rows, "
            "or --statements"
        )
    lines = [f"{table}  by row" for table in tables.by_row]
    lines += [f"{table}  by statement" for table in tables.by_statement]
    return "\n".join([*lines, *_unseen_lines(tables.unseen)])


def _check_statements(source: str, *, rows: bool, force: bool) -> None:
    if rows or force:
        raise ConfigurationError(
            f"found {'--rows' if rows else '--force'} for the source {source!r} of kind mongo, "
            "expected --statements: MongoDB tells which statements read, not which documents"
        )


def _how(*, rows: bool, statements: bool) -> str:
    named = (*(("by row",) if rows else ()), *(("by statement",) if statements else ()))
    return " and ".join(named)


def _unseen_lines(unseen: Sequence[str]) -> list[str]:
    if not unseen:
        return []
    roles = ", ".join(unseen)
    return [f"not seen: reads as {roles}: row security does not hold for such roles"]
