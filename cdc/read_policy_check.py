"""What an audit by row does not see, what it makes impossible, and what has made it stale since.

Row security holds for whom a table is looked at as: the owner of a view, not who reads it, and the
table that a query names, not its partitions. Nothing is changed here.
"""

from __future__ import annotations

from typing import Final, Literal, LiteralString

from cdc.finding import Finding
from cdc.postgres_source import Connection, PostgresSource
from cdc.read_policy_key import key_columns

READ_POLICY: Final = "rowcast_read"
OPEN_POLICY: Final = "rowcast_read_open"
_SUBJECT: Final = "reads by row"

# A view that looks at the table as a role for which row security does not hold.
_VIEWS: LiteralString = """
    select distinct pg_catalog.format('%%I.%%I', n.nspname, v.relname), v.relkind::text,
        o.rolname::text
    from pg_catalog.pg_depend d
    join pg_catalog.pg_rewrite w on w.oid = d.objid
    join pg_catalog.pg_class v on v.oid = w.ev_class
    join pg_catalog.pg_namespace n on n.oid = v.relnamespace
    join pg_catalog.pg_roles o on o.oid = v.relowner
    join pg_catalog.pg_class t on t.oid = d.refobjid
    where d.classid = 'pg_catalog.pg_rewrite'::regclass and d.refobjid = %s and v.oid <> t.oid
      and (v.relkind = 'm' or v.relkind = 'v'
        and not coalesce(v.reloptions && array['security_invoker=true', 'security_invoker=on',
            'security_invoker=1', 'security_invoker=yes'], false)
        and (o.rolsuper or o.rolbypassrls
            or not t.relforcerowsecurity and pg_catalog.pg_has_role(o.oid, t.relowner, 'usage')))
    order by 1
"""
_CHILDREN: LiteralString = """
    select inhrelid::regclass::text from pg_catalog.pg_inherits where inhparent = %s order by 1
"""
_PARENTS: LiteralString = """
    select inhparent::regclass::text from pg_catalog.pg_inherits where inhrelid = %s order by 1
"""
_AUDITED: LiteralString = """
    select c.oid::bigint, n.nspname || '.' || c.relname, c.relrowsecurity,
        c.relforcerowsecurity or not r.rolcanlogin, r.rolname::text,
        pg_catalog.obj_description(p.oid, 'pg_policy'),
        (select string_agg(q.polname, ', ' order by 1) from pg_catalog.pg_policy q
            where q.polrelid = c.oid and q.polname not in ('rowcast_read', 'rowcast_read_open'))
    from pg_catalog.pg_policy p
    join pg_catalog.pg_class c on c.oid = p.polrelid
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    join pg_catalog.pg_roles r on r.oid = c.relowner
    where p.polname = 'rowcast_read' order by 2
"""
_MARK = "Rowcast: reads of this table are events; rowcast audit disable takes it away"


def policy_mark(columns: list[str]) -> str:
    """The policy's comment, which says whose values it tells."""
    return f"{_MARK}; key: {', '.join(columns)}"


async def unseen_ways(connection: Connection, relation: int, table: str) -> list[str]:
    """The ways around a table's policy that there are now, in words."""
    lines: list[str] = []
    for view, kind, owner in await _rows(connection, _VIEWS, relation):
        if kind == "m":
            lines.append(f"not seen: reads of the materialized view {view}, which is a copy")
        else:
            lines.append(
                f"not seen: reads through the view {view}, which looks at {table} as {owner}: "
                f"alter view {view} set (security_invoker = on) makes it look as who reads"
            )
    children = [str(row[0]) for row in await _rows(connection, _CHILDREN, relation)]
    if children:
        lines.append(f"not seen: reads of {', '.join(children)} by their own names")
    parents = [str(row[0]) for row in await _rows(connection, _PARENTS, relation)]
    if parents:
        lines.append(f"not seen: reads of its rows through {', '.join(parents)}")
    return lines


async def find_row_audit_risks(connection: Connection, source: PostgresSource) -> list[Finding]:
    """For `rowcast doctor`: what has changed since an audit was enabled, and takes it its worth."""
    findings: list[Finding] = []
    rows = await _rows(connection, _AUDITED)
    for oid, table, on, held, owner, mark, others in rows:
        again = f"rowcast audit enable {source.name} {table} --rows"
        if not on:
            findings.append(
                _finding("error", f"{table} with row security off, so no read is told", again)
            )
        if not held:
            findings.append(
                _finding(
                    "warning", f"{table} owned by {owner}, which is not seen", f"{again} --force"
                )
            )
        columns = await key_columns(connection, int(str(oid)))
        if "; key: " in str(mark) and mark != policy_mark(columns):
            findings.append(_finding("error", f"{table} with another key than was audited", again))
        if others:
            findings.append(
                Finding(
                    *("warning", _SUBJECT, f"the policies {others} beside the audit's on {table}"),
                    f"the audit's alone: {OPEN_POLICY} lets every row through, so permissive ones "
                    "hide nothing, and rows that restrictive ones hide are told as read",
                    f"rowcast audit disable {source.name} {table}, and audit by statement",
                )
            )
    if rows and not findings:
        findings.append(Finding("ok", _SUBJECT, f"{len(rows)} tables are audited", "", ""))
    return findings


def _finding(severity: Literal["error", "warning"], found: str, mend: str) -> Finding:
    return Finding(severity, _SUBJECT, found, "a policy that tells of each read", mend)


async def _rows(
    connection: Connection, query: LiteralString, *parameters: object
) -> list[tuple[object, ...]]:
    cursor = await connection.execute(query, parameters)
    return [tuple(row) for row in await cursor.fetchall()]
