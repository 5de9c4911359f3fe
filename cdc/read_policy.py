"""`rowcast audit`: a row policy by which PostgreSQL itself tells of each row that is read.

A restrictive policy for SELECT calls a function that writes a logical message and says yes; the
stream then holds the read in order with the writes. It holds for every client. It would not hold
for whom row security does not hold, or beside other policies, and is refused there:
docs/read-audit.md says what it sees and what it cannot
(https://www.postgresql.org/docs/current/ddl-rowsecurity.html).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import LiteralString

from psycopg import sql

from cdc.errors import CaptureConfigError
from cdc.postgres_publication import OWN_SCHEMA
from cdc.postgres_source import Connection, PostgresSource
from cdc.read_message import READ_PREFIX

_POLICY = "rowcast_read"
_OPEN_POLICY = "rowcast_read_open"
_MARK = "Rowcast: reads of this table are events; rowcast audit disable takes it away"

# On a standby no message can be written, and reads there must not fail. Parallel workers may not
# write one, which "unsafe" (the default) tells the planner.
_FUNCTION: LiteralString = """
create schema if not exists rowcast_capture;
grant usage on schema rowcast_capture to public;
create or replace function rowcast_capture.row_read(
    schema text, name text, key json, seen text)
returns boolean language plpgsql volatile as $$
begin
    if not pg_catalog.pg_is_in_recovery() then
        perform pg_catalog.pg_logical_emit_message(false, {prefix}, pg_catalog.json_build_object(
            'schema', schema, 'table', name, 'key', key,
            'user', session_user, 'role', current_user,
            'application', pg_catalog.current_setting('application_name'),
            'client', pg_catalog.host(pg_catalog.inet_client_addr()),
            'subject', nullif(pg_catalog.current_setting('request.jwt.claims', true), '')::json
                ->> 'sub',
            'pid', pg_catalog.pg_backend_pid(),
            'seen', seen,
            'at_ms', (extract(epoch from pg_catalog.clock_timestamp()) * 1000)::bigint)::text);
    end if;
    return true;
end
$$;
comment on function rowcast_capture.row_read(text, text, json, text) is
    'Rowcast: tells capture of a row that was read';
"""
_TABLE: LiteralString = """
    select c.oid, c.relrowsecurity, c.relforcerowsecurity, r.rolname::text, r.rolcanlogin
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    join pg_catalog.pg_roles r on r.oid = c.relowner
    where n.nspname = %s and c.relname = %s and c.relkind in ('r', 'p')
"""
_KEY: LiteralString = """
    select a.attname::text, a.atttypid::bigint
    from pg_catalog.pg_index i
    join pg_catalog.pg_attribute a on a.attrelid = i.indrelid
        and a.attnum = any((i.indkey::int2[])[0:i.indnkeyatts - 1])
    where i.indrelid = %s and i.indisprimary order by a.attnum
"""
_POLICIES: LiteralString = "select polname::text from pg_catalog.pg_policy where polrelid = %s"
_BYPASSING: LiteralString = """
    select rolname::text from pg_catalog.pg_roles
    where rolcanlogin and (rolsuper or rolbypassrls) order by 1
"""
_AUDITED: LiteralString = """
    select n.nspname::text, c.relname::text
    from pg_catalog.pg_policy p
    join pg_catalog.pg_class c on c.oid = p.polrelid
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where p.polname = 'rowcast_read' order by 1, 2
"""

_INTEGERS = (20, 21, 23, 26)
_TIMESTAMP, _TIMESTAMPTZ, _NUMERIC, _BYTEA = 1114, 1184, 1700, 17
_ISO = """'YYYY-MM-DD"T"HH24:MI:SS.US'"""


@dataclass(frozen=True, slots=True)
class AuditedTable:
    """A table whose reads are events; `unseen` are roles that can log in and are not seen."""

    schema: str
    table: str
    unseen: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Found:
    oid: int
    row_security: bool
    forced: bool
    owner: str
    owner_logs_in: bool
    policies: frozenset[str]


async def enable_row_audit(
    connection: Connection, source: PostgresSource, schema: str, table: str, *, force: bool
) -> AuditedTable:
    """Install the policy; a table that has it gets it anew.

    `force` holds the owner to it too. Raises CaptureConfigError where it would not hold.
    """
    found = await _find(connection, source, schema, table)
    name = sql.Identifier(schema, table)
    others = sorted(found.policies - {_POLICY, _OPEN_POLICY})
    if others or (found.row_security and not found.policies):
        what = f"the policies {', '.join(others)}" if others else "row security without a policy"
        raise CaptureConfigError(
            found=f"{what} on {schema}.{table}",
            expected="a table without policies: beside others, rows that they hide would be told "
            "as read",
            mend="audit by statement (docs/read-audit.md), or drop them and call "
            f"{OWN_SCHEMA}.row_read in policies of your own",
        )
    if found.owner_logs_in and not (force or found.forced):
        raise CaptureConfigError(
            found=f"{schema}.{table} owned by {found.owner}, which can log in and is not held to "
            "row policies",
            expected="an owner that nobody reads as, or one that is held to them",
            mend="add --force (alter table ... force row level security), or give the table to a "
            f"role without login: alter table {schema}.{table} owner to ...",
        )
    expression = await _key_expression(connection, found.oid, f"{schema}.{table}")
    function = sql.SQL(_FUNCTION).format(prefix=sql.Literal(READ_PREFIX))
    async with connection.transaction():
        await connection.execute(function)
        await _drop(connection, name, found)
        await connection.execute(sql.SQL("alter table {} enable row level security").format(name))
        if force:
            await connection.execute(
                sql.SQL("alter table {} force row level security").format(name)
            )
        await connection.execute(
            sql.SQL("create policy {} on {} using (true) with check (true)").format(
                sql.Identifier(_OPEN_POLICY), name
            )
        )
        await connection.execute(
            sql.SQL(
                "create policy {} on {} as restrictive for select using"
                " (rowcast_capture.row_read({}, {}, {},"
                " pg_catalog.pg_current_snapshot()::text))"
            ).format(
                *(sql.Identifier(_POLICY), name),
                *(sql.Literal(schema), sql.Literal(table), expression),
            )
        )
        await connection.execute(
            sql.SQL("comment on policy {} on {} is {}").format(
                sql.Identifier(_POLICY), name, sql.Literal(_MARK)
            )
        )
    unseen = tuple(row[0] for row in await _rows(connection, _BYPASSING))
    return AuditedTable(schema, table, unseen)


async def disable_row_audit(
    connection: Connection, source: PostgresSource, schema: str, table: str
) -> None:
    """Take the policy away, and with the last one the function; nothing of it is left.

    Raises CaptureConfigError where the table is not audited.
    """
    found = await _find(connection, source, schema, table)
    if _POLICY not in found.policies:
        raise CaptureConfigError(
            found=f"{schema}.{table} without the policy {_POLICY}",
            expected="a table whose reads are audited by row",
            mend=f"rowcast audit list {source.name} names those that are",
        )
    name = sql.Identifier(schema, table)
    async with connection.transaction():
        await _drop(connection, name, found)
        await connection.execute(
            sql.SQL(
                "alter table {} disable row level security, no force row level security"
            ).format(name)
        )
        if not await _rows(connection, _AUDITED):
            for arguments in (sql.SQL("text, text, json, text"), sql.SQL("text, text, json")):
                await connection.execute(
                    sql.SQL("drop function if exists rowcast_capture.row_read({})").format(
                        arguments
                    )
                )


async def audited_tables(connection: Connection) -> list[AuditedTable]:
    """All tables whose reads are audited by row."""
    unseen = tuple(row[0] for row in await _rows(connection, _BYPASSING))
    return [AuditedTable(row[0], row[1], unseen) for row in await _rows(connection, _AUDITED)]


async def _drop(connection: Connection, name: sql.Identifier, found: _Found) -> None:
    for policy in sorted(found.policies & {_POLICY, _OPEN_POLICY}):
        await connection.execute(
            sql.SQL("drop policy {} on {}").format(sql.Identifier(policy), name)
        )


async def _rows(
    connection: Connection, query: LiteralString, *parameters: object
) -> list[tuple[str, ...]]:
    cursor = await connection.execute(query, parameters)
    return [tuple(row) for row in await cursor.fetchall()]


async def _find(connection: Connection, source: PostgresSource, schema: str, table: str) -> _Found:
    cursor = await connection.execute(_TABLE, (schema, table))
    row = await cursor.fetchone()
    if row is None:
        raise CaptureConfigError(
            found=f"no table {schema}.{table} in the database of {source.name}",
            expected="an ordinary or partitioned table",
            mend="write it as schema.table, or as table where its schema is public",
        )
    oid, row_security, forced, owner, owner_logs_in = row
    policies = frozenset(name for (name,) in await _rows(connection, _POLICIES, oid))
    return _Found(oid, row_security, forced, owner, owner_logs_in, policies)


async def _key_expression(connection: Connection, oid: int, table: str) -> sql.Composable:
    cursor = await connection.execute(_KEY, (oid,))
    columns = await cursor.fetchall()
    if not columns:
        raise CaptureConfigError(
            found=f"{table} without a primary key",
            expected="one: a read names the row by it",
            mend="add a primary key, or audit by statement (docs/read-audit.md)",
        )
    parts: list[sql.Composable] = []
    for name, type_oid in columns:
        parts += [sql.Literal(name), _key_value(sql.Identifier(name), type_oid)]
    return sql.SQL("json_build_object({})").format(sql.SQL(", ").join(parts))


def _key_value(column: sql.Identifier, type_oid: int) -> sql.Composable:
    """The value as record keys have it, whatever the reader's session is set to."""
    if type_oid in _INTEGERS:
        return column
    if type_oid == _NUMERIC:
        return sql.SQL("{}::text").format(column)
    if type_oid == _TIMESTAMP:
        return sql.SQL(f"to_char({{}}, {_ISO})").format(column)
    if type_oid == _TIMESTAMPTZ:
        return sql.SQL(f"to_char({{}} at time zone 'UTC', {_ISO}) || 'Z'").format(column)
    if type_oid == _BYTEA:
        return sql.SQL("translate(encode({}, 'base64'), e'\\n', '')").format(column)
    return column
