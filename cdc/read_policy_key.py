"""The key of a row in a policy's expression, as the change records of the table have it.

Whatever the reader's session is set to: time zone, DateStyle, bytea_output. Types whose text cannot
be made independent of these, and composite ones, are refused.
"""

from __future__ import annotations

from typing import Final, LiteralString

from psycopg import sql

from cdc.errors import CaptureConfigError
from cdc.postgres_source import Connection

# Of a domain the type below it, and of an array that of its elements too.
_COLUMNS: Final[LiteralString] = """
    with recursive below (attnum, name, shown, type) as (
        select a.attnum, a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod),
            a.atttypid
        from pg_catalog.pg_index i
        join pg_catalog.pg_attribute a on a.attrelid = i.indrelid
            and a.attnum = any((i.indkey::int2[])[0:i.indnkeyatts - 1])
        where i.indrelid = %s and i.indisprimary
        union all
        select b.attnum, b.name, b.shown, t.typbasetype from below b
        join pg_catalog.pg_type t on t.oid = b.type where t.typtype = 'd'
    )
    select b.name, b.shown, t.oid::bigint, t.typtype::text,
        (case when t.typcategory = 'A' then t.typelem else 0 end)::bigint
    from below b join pg_catalog.pg_type t on t.oid = b.type
    where t.typtype <> 'd' order by b.attnum
"""
# interval; of timestamps the ranges and multiranges; money; jsonb, whose text has blanks there.
_OF_THE_SESSION = frozenset({1186, 3908, 3910, 4533, 4534, 790, 3802})
# bool, int2, int4, int8, char, name, text, varchar, bpchar, date, uuid.
_PLAIN_ELEMENTS = frozenset({16, 21, 23, 20, 18, 19, 25, 1043, 1042, 1082, 2950})
_PLAIN: Final[LiteralString] = "{c}"
# Infinite, before our era and beyond the year 9999 they are as PostgreSQL writes them in ISO style.
_SHOWN: Final[dict[int, LiteralString]] = {
    26: "{c}::bigint",
    1700: "{c}::text",
    17: "translate(encode({c}, 'base64'), e'\\n', '')",
    1114: """
        case when {c} >= timestamp '0001-01-01' and {c} < timestamp '10000-01-01'
        then to_char({c}, 'YYYY-MM-DD"T"HH24:MI:SS.US')
        else replace(to_json({c}) #>> '{{}}', 'T', ' ') end""",
    1184: """
        case when {c} >= timestamptz '0001-01-01 00:00+00'
            and {c} < timestamptz '10000-01-01 00:00+00'
        then to_char({c} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US') || 'Z'
        when not isfinite({c}) then {c}::text
        else regexp_replace(
            replace(to_json({c} at time zone 'UTC') #>> '{{}}', 'T', ' '), '( BC)?$', '+00\\1')
        end""",
}


async def key_columns(connection: Connection, relation: int) -> list[str]:
    """The names of a table's key columns as they are now."""
    cursor = await connection.execute(_COLUMNS, (relation,))
    return [str(row[0]) for row in await cursor.fetchall()]


async def key_expression(connection: Connection, relation: int, table: str) -> sql.Composable:
    """SQL of a JSON object of a row's key; raises CaptureConfigError where there cannot be one."""
    cursor = await connection.execute(_COLUMNS, (relation,))
    columns = await cursor.fetchall()
    if not columns:
        raise CaptureConfigError(
            found=f"{table} without a primary key",
            expected="one: a read names the row by it",
            mend="add a primary key, or audit by statement (docs/read-audit.md)",
        )
    parts: list[sql.Composable] = []
    for name, shown, type_oid, kind, element in columns:
        odd_array = bool(element) and element not in _PLAIN_ELEMENTS
        if type_oid in _OF_THE_SESSION or kind == "c" or odd_array:
            raise CaptureConfigError(
                found=f"{table} with {name} of type {shown} in its primary key",
                expected="a type with one text, whatever the reader's session is set to",
                mend="audit by statement (docs/read-audit.md)",
            )
        value = sql.SQL(_SHOWN.get(int(str(type_oid)), _PLAIN)).format(c=sql.Identifier(str(name)))
        parts += [sql.Literal(name), value]
    return sql.SQL("json_build_object({})").format(sql.SQL(", ").join(parts))
