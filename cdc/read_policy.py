"""`rowcast audit`: a row policy by which PostgreSQL itself tells of each row that is read.

A restrictive policy for SELECT calls a function that writes a logical message and says yes; the
stream then holds the read in order with the writes. It holds for every client. It would not hold
for whom row security does not hold, or beside other policies, and is refused there:
docs/read-audit.md says what it sees and what it cannot
(https://www.postgresql.org/docs/current/ddl-rowsecurity.html).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import LiteralString

from psycopg import errors, sql

from cdc.errors import CaptureConfigError
from cdc.postgres_publication import OWN_SCHEMA, drop_empty_schema
from cdc.postgres_source import Connection, PostgresSource
from cdc.read_message import READ_PREFIX
from cdc.read_policy_check import OPEN_POLICY, READ_POLICY, policy_mark, unseen_ways
from cdc.read_policy_key import key_columns, key_expression

_OPEN_MARK = "Rowcast: everybody sees every row, as without row security"
_FORCED_MARK = f"{_OPEN_MARK}, which was forced before"

# On a standby no message can be written, and reads there must not fail. Parallel workers may not
# write one, which "unsafe" (the default) tells the planner.
_FUNCTION: LiteralString = """
create schema if not exists rowcast_capture;
grant usage on schema rowcast_capture to public;
create or replace function rowcast_capture.row_read(
    relation pg_catalog.oid, key json, seen text)
returns boolean language plpgsql volatile as $$
declare
    -- What it is named by now, wherever the search path looks.
    names text[] := (pg_catalog.pg_identify_object_as_address(
        'pg_catalog.pg_class'::pg_catalog.regclass, relation, 0)).object_names;
    claims text := nullif(pg_catalog.current_setting('request.jwt.claims', true), '');
    subject text;
begin
    if not pg_catalog.pg_is_in_recovery() then
        if claims is not null then
            begin
                subject := claims::json ->> 'sub';
            exception when data_exception then
                null;  -- what a client has set must not make its reads fail
            end;
        end if;
        perform pg_catalog.pg_logical_emit_message(false, {prefix}, pg_catalog.json_build_object(
            'schema', names[1], 'table', names[2], 'key', key,
            'user', session_user, 'role', current_user,
            'application', pg_catalog.current_setting('application_name'),
            'client', pg_catalog.host(pg_catalog.inet_client_addr()),
            'subject', subject,
            'pid', pg_catalog.pg_backend_pid(),
            'seen', seen,
            'at_ms', (extract(epoch from pg_catalog.clock_timestamp()) * 1000)::bigint)::text);
    end if;
    return true;
end
$$;
comment on function rowcast_capture.row_read(pg_catalog.oid, json, text) is
    'Rowcast: tells capture of a row that was read';
"""
_TABLE: LiteralString = """
    select c.oid, c.relrowsecurity, c.relforcerowsecurity, r.rolname::text, r.rolcanlogin
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    join pg_catalog.pg_roles r on r.oid = c.relowner
    where n.nspname = %s and c.relname = %s and c.relkind in ('r', 'p')
"""
_POLICIES: LiteralString = """
    select polname::text, pg_catalog.obj_description(oid, 'pg_policy')
    from pg_catalog.pg_policy where polrelid = %s
"""
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

# As it is, and as earlier versions had it.
_ARGUMENTS: tuple[LiteralString, ...] = (
    "oid, json, text",
    "text, text, json, text",
    "text, text, json",
)
_LOCK_WAIT = "3s"
_REFUSED = (
    "refused from now on to all for whom row security holds: copy into the table (copy ... from), "
    "and reads with row_security = off, as pg_dump has it (pg_dump --enable-row-security)"
)


@dataclass(frozen=True, slots=True)
class AuditedTable:
    """A table whose reads are events; `unseen` are roles that can log in and are not seen.

    `beside` says, in words, which ways to read it are not seen, and what can no longer be done.
    """

    schema: str
    table: str
    unseen: tuple[str, ...]
    beside: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Found:
    oid: int
    row_security: bool
    forced: bool
    owner: str
    owner_logs_in: bool
    policies: frozenset[str]
    forced_before: bool


async def enable_row_audit(
    connection: Connection, source: PostgresSource, schema: str, table: str, *, force: bool
) -> AuditedTable:
    """Install the policy; a table that has it gets it anew.

    `force` holds the owner to it too. Raises CaptureConfigError where it would not hold.
    """
    found = await _find(connection, source, schema, table)
    name = sql.Identifier(schema, table)
    others = sorted(found.policies - {READ_POLICY, OPEN_POLICY})
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
    expression = await key_expression(connection, found.oid, f"{schema}.{table}")
    mark = policy_mark(await key_columns(connection, found.oid))
    function = sql.SQL(_FUNCTION).format(prefix=sql.Literal(READ_PREFIX))
    async with _as_owner(connection, f"{schema}.{table}", found.owner):
        await connection.execute(function)
        await _drop(connection, name, found)
        await connection.execute(sql.SQL("alter table {} enable row level security").format(name))
        if force:
            await connection.execute(
                sql.SQL("alter table {} force row level security").format(name)
            )
        await connection.execute(
            sql.SQL("create policy {} on {} using (true) with check (true)").format(
                sql.Identifier(OPEN_POLICY), name
            )
        )
        await connection.execute(
            sql.SQL(
                "create policy {} on {} as restrictive for select using"
                " (rowcast_capture.row_read({}::regclass, {},"
                " pg_catalog.pg_current_snapshot()::text))"
            ).format(
                *(sql.Identifier(READ_POLICY), name),
                *(sql.Literal(name.as_string(connection)), expression),
            )
        )
        for policy, said in (
            (READ_POLICY, mark),
            (OPEN_POLICY, _FORCED_MARK if found.forced_before else _OPEN_MARK),
        ):
            await connection.execute(
                sql.SQL("comment on policy {} on {} is {}").format(
                    sql.Identifier(policy), name, sql.Literal(said)
                )
            )
    unseen = tuple(row[0] for row in await _rows(connection, _BYPASSING))
    beside = await unseen_ways(connection, found.oid, f"{schema}.{table}")
    return AuditedTable(schema, table, unseen, (*beside, _REFUSED))


async def disable_row_audit(
    connection: Connection, source: PostgresSource, schema: str, table: str
) -> list[str]:
    """Take the policy away, and with the last one the function; nothing of it is left.

    What is to be told of it. Raises CaptureConfigError where the table is not audited.
    """
    try:
        found = await _find(connection, source, schema, table)
    except CaptureConfigError:
        await _drop_function(connection)  # of a table that was dropped nothing else is left
        raise
    if READ_POLICY not in found.policies:
        raise CaptureConfigError(
            found=f"{schema}.{table} without the policy {READ_POLICY}",
            expected="a table whose reads are audited by row",
            mend=f"rowcast audit list {source.name} names those that are",
        )
    name = sql.Identifier(schema, table)
    others = sorted(found.policies - {READ_POLICY, OPEN_POLICY})
    async with _as_owner(connection, f"{schema}.{table}", found.owner):
        await _drop(connection, name, found)
        if not others:
            await connection.execute(
                sql.SQL("alter table {} disable row level security").format(name)
            )
        if not (found.forced_before or others):
            await connection.execute(
                sql.SQL("alter table {} no force row level security").format(name)
            )
        await _drop_function(connection)
    if not others:
        return []
    named = ", ".join(others)
    return [f"row security stays on for {schema}.{table}: the policies {named} hold from now on"]


@asynccontextmanager
async def _as_owner(connection: Connection, table: str, owner: str) -> AsyncGenerator[None]:
    """A transaction; a table in use, and what only its owner may do, is told with the mend."""
    try:
        async with connection.transaction():
            # Whoever waits for a table's lock has all its readers wait behind it.
            await connection.execute("select set_config('lock_timeout', %s, true)", (_LOCK_WAIT,))
            yield
    except errors.LockNotAvailable as error:
        raise CaptureConfigError(
            found=f"{table} in use by a transaction for more than {_LOCK_WAIT}",
            expected="a moment in which no transaction that has used the table is open",
            mend="the same command again; pg_stat_activity shows what is open since when",
        ) from error
    except errors.InsufficientPrivilege as error:
        raise CaptureConfigError(
            found=f"a role that may not set up the audit ({str(error).strip()})",
            expected=f"a member of {owner}, which owns {table}, that may create in the database",
            mend=f'grant "{owner}" to "{connection.info.user}"; grant create on database '
            f'"{connection.info.dbname}" to "{connection.info.user}"',
        ) from error


async def _drop_function(connection: Connection) -> None:
    """Take away what no policy needs any more."""
    if await _rows(connection, _AUDITED):
        return
    for arguments in _ARGUMENTS:
        await connection.execute(
            sql.SQL("drop function if exists rowcast_capture.row_read({})").format(
                sql.SQL(arguments)
            )
        )
    await drop_empty_schema(connection)


async def audited_tables(connection: Connection) -> list[AuditedTable]:
    """All tables whose reads are audited by row."""
    unseen = tuple(row[0] for row in await _rows(connection, _BYPASSING))
    return [AuditedTable(row[0], row[1], unseen) for row in await _rows(connection, _AUDITED)]


async def _drop(connection: Connection, name: sql.Identifier, found: _Found) -> None:
    for policy in sorted(found.policies & {READ_POLICY, OPEN_POLICY}):
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
    rows = await _rows(connection, _POLICIES, oid)
    policies = frozenset(policy for policy, _ in rows)
    forced_before = (OPEN_POLICY, _FORCED_MARK) in rows
    return _Found(
        *(oid, row_security, forced, owner, owner_logs_in, policies),
        forced_before=forced_before if OPEN_POLICY in policies else forced,
    )
