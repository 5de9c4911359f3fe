"""`rowcast audit ... --statements`: which tables' reads pgaudit writes to the server's log.

pgaudit's object audit logs statements on what its role (pgaudit.role) has been granted. So a table
is audited by granting SELECT on it to a role of ours, which is pgaudit's role, or is granted to
the one that there is already. A row in `rowcast_capture.read_log` says from where on in the log
capture reads; it is written before anything is granted, so no read falls between. A table that is
audited no more stands in `rowcast_capture.read_log_ended` until capture has read the log as far as
it was then, and capture takes away what is left of the last one.
"""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass
from typing import LiteralString

from psycopg import errors, sql

from cdc.errors import CaptureConfigError
from cdc.finding import Finding
from cdc.log_progress import LogPlace
from cdc.log_record import LogFormat
from cdc.postgres_log import PostgresLog
from cdc.postgres_publication import drop_empty_schema
from cdc.postgres_source import Connection, PostgresSource
from cdc.statement_audit_check import AUDIT_ROLE, check_statement_audit

_RELATION: LiteralString = """
    select c.oid, c.relkind::text from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where n.nspname = %s and c.relname = %s and c.relkind in ('r', 'p', 'v', 'm', 'f')
"""
_TABLES: LiteralString = """
    select n.nspname::text, c.relname::text
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    cross join lateral pg_catalog.aclexplode(c.relacl) a
    join pg_catalog.pg_roles r on r.oid = a.grantee
    where r.rolname = %s and a.privilege_type = 'SELECT' order by 1, 2
"""
_EXISTS: LiteralString = "select pg_catalog.to_regclass('rowcast_capture.read_log') is not null"
_STATE: LiteralString = """
    select id, file, position, head, written, (extract(epoch from since) * 1000)::bigint
    from rowcast_capture.read_log
"""
_MAKE_STATE: LiteralString = """
    create schema if not exists rowcast_capture;
    create table rowcast_capture.read_log (
        id text primary key, file text not null, position bigint not null, head text not null,
        written float8 not null, since timestamptz not null default now());
    comment on table rowcast_capture.read_log is
        'Rowcast: from where on in the server''s log reads are events';
"""
_ENDED_EXISTS: LiteralString = """
    select pg_catalog.has_table_privilege(t, 'select, delete')
    from pg_catalog.to_regclass('rowcast_capture.read_log_ended') t where t is not null
"""
# What was written before it ended reaches the file a moment later.
_ENDED: LiteralString = """
    select schema, name, at < pg_catalog.clock_timestamp() - interval '1 second'
    from rowcast_capture.read_log_ended
"""
_NOTE_ENDED: LiteralString = """
    create table if not exists rowcast_capture.read_log_ended (
        schema text, name text, at timestamptz not null, primary key (schema, name));
    comment on table rowcast_capture.read_log_ended is
        'Rowcast: tables audited no more, until capture has read the log up to then';
"""
_ROLE: LiteralString = "select current_setting('pgaudit.role', true)"
_IN_EFFECT: LiteralString = """
    select pg_catalog.pg_has_role(r.oid, %s, 'usage') from pg_catalog.pg_roles r
    where r.rolname = current_setting('pgaudit.role', true)
"""
_ROLE_EXISTS: LiteralString = "select 1 from pg_catalog.pg_roles where rolname = %s"
# Of a role that others depend on in this database or another, e.g. by a grant.
_NEEDED: LiteralString = """
    select count(*)::int from pg_catalog.pg_shdepend d
    join pg_catalog.pg_roles r on r.oid = d.refobjid
    where d.refclassid = 'pg_catalog.pg_authid'::regclass and r.rolname = %s
"""
_SET_BY_US: LiteralString = """
    select count(*)::int from pg_catalog.pg_file_settings
    where name = 'pgaudit.role' and setting = %s and sourcefile like '%%auto.conf'
"""
# Nobody audits the first table while what is left of the last one is taken away.
_LOCK: LiteralString = """
    select pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('rowcast_capture.read_log'))
"""
_IN_FORCE_S = 10.0
_POLL_S = 0.1
TOLD_WAIT_S = 10.0
"""How long to wait until capture has told what was read before an audit ended."""


@dataclass(frozen=True, slots=True)
class StatementAudit:
    """That reads are asked for: since when, from where on in the log, and of which tables.

    `id` is another each time the first table is audited. `ended` are tables whose reads are asked
    for up to now, `settled` those of them that nothing will be written of any more.
    """

    id: str
    place: LogPlace
    since_ms: int
    tables: frozenset[tuple[str, str]]
    ended: frozenset[tuple[str, str]] = frozenset()
    settled: frozenset[tuple[str, str]] = frozenset()


async def find_statement_audit(connection: Connection) -> StatementAudit | None:
    """The audit of a database, None where no table's statements are audited."""
    if await _rows(connection, _EXISTS) != [(True,)]:
        return None
    try:
        states = await _rows(connection, _STATE)
    except errors.UndefinedTable:
        return None
    if not states:
        return None
    identity, file, position, head, written, since_ms = states[0]
    place = LogPlace(str(file), int(str(position)), str(head), float(str(written)))
    tables = frozenset(await statement_tables(connection))
    ended: list[tuple[object, ...]] = []
    if await _rows(connection, _ENDED_EXISTS) == [(True,)]:
        ended = await _rows(connection, _ENDED)
    names = [((str(schema), str(name)), bool(is_settled)) for schema, name, is_settled in ended]
    return StatementAudit(
        *(str(identity), place, int(str(since_ms)), tables),
        ended=frozenset(name for name, _ in names) - tables,
        settled=frozenset(name for name, is_settled in names if is_settled),
    )


async def note_told(connection: Connection, audit: StatementAudit) -> bool:
    """Capture has told what was read of tables that are audited no more; whether that was all.

    With the last one all that is left of the audit goes. Raises what psycopg raises.
    """
    for schema, name in audit.settled:
        await connection.execute(
            "delete from rowcast_capture.read_log_ended where schema = %s and name = %s",
            (schema, name),
        )
    async with connection.transaction():
        await connection.execute(_LOCK)
        now = await find_statement_audit(connection)
        if now is None or now.tables or now.ended:
            return now is None
        await _drop_state(connection)
    return True


async def _drop_state(connection: Connection) -> None:
    await connection.execute(
        "drop table if exists rowcast_capture.read_log, rowcast_capture.read_log_ended"
    )
    await drop_empty_schema(connection)


async def statement_tables(connection: Connection) -> list[tuple[str, str]]:
    """Schema and name of each table whose statements are audited."""
    rows = await _rows(connection, _TABLES, AUDIT_ROLE)
    return [(str(schema), str(table)) for schema, table in rows]


async def find_audit_risks(connection: Connection, source: PostgresSource) -> list[Finding]:
    """For `rowcast doctor`: nothing where no statements are audited."""
    if await find_statement_audit(connection) is None:
        return []
    count = len(await statement_tables(connection))
    if not count:
        found = "none is audited any more; capture is to read the log as far as they were"
        return [Finding("ok", "reads by statement", found, "", "")]
    findings = await check_statement_audit(connection, source)
    if await _rows(connection, _IN_EFFECT, AUDIT_ROLE) != [(True,)]:
        findings.append(
            Finding(
                *("error", "reads by statement", "a pgaudit.role that is not ours"),
                f"{AUDIT_ROLE}, or a role that is a member of it",
                f"alter system set pgaudit.role = '{AUDIT_ROLE}'; select pg_reload_conf()",
            )
        )
    if not findings:
        findings.append(Finding("ok", "reads by statement", f"{count} tables are audited", "", ""))
    return findings


async def enable_statement_audit(
    connection: Connection, source: PostgresSource, schema: str, table: str
) -> list[str]:
    """Audit the statements that read a table; what the user should know of it.

    Raises CaptureConfigError with all that is missing.
    """
    await _relation(connection, source, schema, table)
    findings = await check_statement_audit(connection, source)
    wrong = [finding for finding in findings if finding.severity == "error"]
    if wrong:
        raise CaptureConfigError(
            found="; ".join(finding.found for finding in wrong),
            expected="; ".join(finding.expected for finding in wrong),
            mend="; ".join(finding.mend for finding in wrong),
        )
    try:
        async with connection.transaction():
            await connection.execute(_LOCK)
            await _note_place(connection)
            await _grant(connection, schema, table)
        await _put_in_force(connection)
    except errors.InsufficientPrivilege as error:
        raise CaptureConfigError(
            found=f"a role that may not set up the audit ({str(error).strip()})",
            expected="one that may",
            mend=f"as a superuser: create role {AUDIT_ROLE} nologin; grant select on "
            f'"{schema}"."{table}" to {AUDIT_ROLE}; alter system set pgaudit.role = '
            f"'{AUDIT_ROLE}'; select pg_reload_conf(); then this command again",
        ) from error
    return [f"{finding.found}: {finding.mend}" for finding in findings if finding.mend]


async def disable_statement_audit(
    connection: Connection,
    source: PostgresSource,
    schema: str,
    table: str,
    *,
    wait_s: float = TOLD_WAIT_S,
) -> list[str]:
    """Stop auditing a table; with the last one all that was made for it goes.

    What was read until now is told still: where capture has not done so within `wait_s`, what it
    needs for that stays, and the lines that are returned say so.
    """
    try:
        await _relation(connection, source, schema, table)
    except CaptureConfigError:
        # Of a table that was dropped the grant is gone, and perhaps it was the last one.
        await _take_back_unneeded(connection)
        raise
    if (schema, table) not in await statement_tables(connection):
        raise CaptureConfigError(
            found=f"{schema}.{table}, of which no statements are audited",
            expected="a table whose reads are audited by statement",
            mend=f"rowcast audit list {source.name} names those that are",
        )
    name, role = sql.Identifier(schema, table), sql.Identifier(AUDIT_ROLE)
    await connection.execute(_NOTE_ENDED)
    await connection.execute(
        "insert into rowcast_capture.read_log_ended values (%s, %s, clock_timestamp())"
        " on conflict (schema, name) do update set at = excluded.at",
        (schema, table),
    )
    await connection.execute(sql.SQL("revoke select on {} from {}").format(name, role))
    await _take_back_unneeded(connection)
    if await _is_told(connection, (schema, table), wait_s):
        return []
    left = (
        f"capture of {source.name} has not yet told what was read until now; it will, once it "
        "runs (rowcast status), and takes rowcast_capture.read_log_ended away: keep the server's "
        "log files until then"
    )
    return [left]


async def _is_told(connection: Connection, table: tuple[str, str], wait_s: float) -> bool:
    deadline = asyncio.get_running_loop().time() + wait_s
    while True:
        audit = await find_statement_audit(connection)
        # With the last table capture takes all of it away, a moment later.
        if audit is None or (audit.tables and table not in audit.ended):
            return True
        if asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(_POLL_S)


async def _note_place(connection: Connection) -> None:
    """Note where the log ends now, for the first table of the database."""
    if await find_statement_audit(connection) is not None:
        return  # or where capture is still to read on from, which is no later
    log = PostgresLog(connection)
    place = await log.end(LogFormat.JSON) or await log.end(LogFormat.CSV)
    if place is None:
        raise CaptureConfigError(
            found="no log that is being written",
            expected="one in jsonlog or csvlog",
            mend="select pg_reload_conf(), and look at pg_current_logfile('jsonlog')",
        )
    async with connection.transaction():
        await connection.execute("drop table if exists rowcast_capture.read_log")
        await connection.execute(_MAKE_STATE)
        await connection.execute(
            "insert into rowcast_capture.read_log values (%s, %s, %s, %s, %s)",
            (uuid.uuid4().hex, place.file, place.position, place.head, place.written),
        )


async def _grant(connection: Connection, schema: str, table: str) -> None:
    role = sql.Identifier(AUDIT_ROLE)
    if not await _rows(connection, _ROLE_EXISTS, AUDIT_ROLE):
        await connection.execute(sql.SQL("create role {} nologin").format(role))
        await connection.execute(
            sql.SQL("comment on role {} is {}").format(
                role, sql.Literal("Rowcast: what it is granted, pgaudit logs the reads of")
            )
        )
    await connection.execute(
        sql.SQL("grant select on {} to {}").format(sql.Identifier(schema, table), role)
    )


async def _put_in_force(connection: Connection) -> None:
    """Have pgaudit's role be ours, or a member of it; in open sessions as well."""
    if await _rows(connection, _IN_EFFECT, AUDIT_ROLE) == [(True,)]:
        return
    ((effective,),) = await _rows(connection, _ROLE)
    role = sql.Identifier(AUDIT_ROLE)
    if effective:
        await connection.execute(
            sql.SQL("grant {} to {}").format(role, sql.Identifier(str(effective)))
        )
        return
    await connection.execute(
        sql.SQL("alter system set pgaudit.role = {}").format(sql.Literal(AUDIT_ROLE))
    )
    await _reload(connection, AUDIT_ROLE)


async def _take_back_unneeded(connection: Connection) -> None:
    needed = await _rows(connection, _NEEDED, AUDIT_ROLE) != [(0,)]
    if not needed and not await statement_tables(connection):
        await _take_back(connection)


async def _take_back(connection: Connection) -> None:
    try:
        if await _rows(connection, _SET_BY_US, AUDIT_ROLE) != [(0,)]:
            await connection.execute("alter system reset pgaudit.role")
            await _reload(connection, "")
        await connection.execute(
            sql.SQL("drop role if exists {}").format(sql.Identifier(AUDIT_ROLE))
        )
    except errors.InsufficientPrivilege as error:
        raise CaptureConfigError(
            found=f"a role that may not take the audit's own role back ({str(error).strip()})",
            expected="one that may",
            mend=f"as a superuser: alter system reset pgaudit.role; select pg_reload_conf(); "
            f"drop role {AUDIT_ROLE}; reads are no events any more as it is",
        ) from error


async def _reload(connection: Connection, wanted: str) -> None:
    """Reload the server's settings, and wait until sessions have them, of which this is one."""
    await connection.execute("select pg_catalog.pg_reload_conf()")
    deadline = asyncio.get_running_loop().time() + _IN_FORCE_S
    while (await _rows(connection, _ROLE))[0][0] != wanted:
        if asyncio.get_running_loop().time() > deadline:
            raise CaptureConfigError(
                found="a server that has not taken pgaudit.role over",
                expected=f"pgaudit.role = '{wanted}' in new sessions",
                mend="look for pgaudit.role in pg_file_settings and pg_db_role_setting",
            )
        await asyncio.sleep(0.05)


async def _relation(
    connection: Connection, source: PostgresSource, schema: str, table: str
) -> None:
    if not await _rows(connection, _RELATION, schema, table):
        raise CaptureConfigError(
            found=f"no table {schema}.{table} in the database of {source.name}",
            expected="a table or a view",
            mend="write it as schema.table, or as table where its schema is public",
        )


async def _rows(
    connection: Connection, query: LiteralString, *parameters: object
) -> list[tuple[object, ...]]:
    cursor = await connection.execute(query, parameters or None)
    return [tuple(row) for row in await cursor.fetchall()]
