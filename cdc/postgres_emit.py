"""`rowcast.emit` in a captured database: a custom event from SQL, if its transaction commits.

The function writes a transactional logical message; cdc/message_encoder.py makes the event of it.
Each capture that starts puts it and the schemas of [event_schemas] in place, so a database that
was down, or is new, is in step as soon as it is captured. Installed by a superuser or whoever may
create schemas; where it may not be, capture goes on and says so.
"""

from __future__ import annotations

import logging
from typing import Final, LiteralString

import psycopg
from psycopg import sql

from cdc.emit_functions import FUNCTIONS, SqlFunction, emit_function
from cdc.postgres_source import Connection, PostgresSource
from cdc.sql_schema import sql_schema
from cdc.topic_creation import MAX_RECORD_BYTES
from events.json_codec import JsonObject, encode

_log = logging.getLogger(__name__)

LARGEST_DATA_BYTES: Final = MAX_RECORD_BYTES - 64 * 1024
"""What stands around the data in a record has room in the rest."""

_SCHEMA: LiteralString = (
    "create schema if not exists rowcast; grant usage on schema rowcast to public"
)
_COMMENT: LiteralString = """
comment on function rowcast.emit(text, jsonb, text) is
    'Rowcast: a custom event, on Kafka if this transaction commits'
"""
# A role of the schema's name has it first in its search path: its tables would land there.
_ASTRAY: LiteralString = """
    select from pg_catalog.pg_roles r
    where r.rolname = 'rowcast' and r.rolcanlogin and not exists (
        select from pg_catalog.pg_db_role_setting s
        cross join lateral pg_catalog.unnest(s.setconfig) as one(setting)
        where s.setrole in (r.oid, 0) and one.setting like 'search_path=%%'
          and one.setting not like '%%$user%%')
"""
_PRESENT: LiteralString = """
    select p.proname, p.prosrc
    from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
    where n.nspname = 'rowcast'
"""


async def ensure_emit_function(connection: Connection, source: PostgresSource) -> None:
    """Make the functions where they are missing or old; a refusal is said and stops nothing."""
    wanted = (
        *FUNCTIONS,
        await _event_schema(connection, source),
        emit_function(LARGEST_DATA_BYTES),
    )
    cursor = await connection.execute(_PRESENT)
    present = {(str(name), str(body)) for name, body in await cursor.fetchall()}
    missing = [one for one in wanted if (one.name, one.body) not in present]
    if not missing:
        return
    cursor = await connection.execute(_ASTRAY)
    if not present and await cursor.fetchone() is not None:
        _log.warning(
            "%s: rowcast.emit is not installed: the role rowcast would make its tables in a schema "
            "of its own name. Run `alter role rowcast set search_path = public`, then start "
            "capture again",
            source.name,
        )
        return
    try:
        async with connection.transaction():
            if not present:
                await connection.execute(_SCHEMA)
            for function in missing:
                await connection.execute(function_creation(function))
            await connection.execute(_COMMENT)
    except psycopg.Error as error:
        _log.warning(
            "%s: rowcast.emit could not be installed or brought up to date (%s), so SQL emits "
            "nothing, or checks old schemas; grant create on the database to the role that "
            "captures, make it the owner of the functions in the schema rowcast, or let a "
            "superuser capture once",
            source.name,
            str(error).strip(),
        )
    else:
        _log.info("%s: installed rowcast.emit, custom events from SQL", source.name)


def function_creation(function: SqlFunction) -> sql.Composed:
    """The statement that makes a function, or makes it anew."""
    # The schemas' own function is of SQL, which PostgreSQL inlines.
    language = sql.SQL("sql" if function.name == "event_schema" else "plpgsql")
    return sql.SQL("create or replace function rowcast.{}{} language {} as {}").format(
        sql.SQL(function.name), sql.SQL(function.head), language, sql.Literal(function.body)
    )


async def _event_schema(connection: Connection, source: PostgresSource) -> SqlFunction:
    forms: JsonObject = {}
    for event_type, schema in source.schemas.items():
        made = sql_schema(schema)
        unchecked = [*made.unchecked]
        if made.form is not None:
            refusal = await _refusal(connection, made.form, made.patterns)
            if refusal is None:
                forms[event_type] = made.form
            else:
                unchecked.append(refusal)
        if unchecked:
            _log.warning(
                "%s: rowcast.emit does not check %s of the schema of %s%s; %s, and all that "
                "other ways emit is",
                source.name,
                ", ".join(unchecked),
                event_type,
                " and so nothing of it" if event_type not in forms else "",
                "the rest is checked" if event_type in forms else "no data of it is checked in SQL",
            )
    body = f"select {sql.quote(encode(forms).decode())}::pg_catalog.jsonb -> $1"
    return SqlFunction("event_schema", "(type text) returns jsonb immutable", body)


async def _refusal(
    connection: Connection, form: JsonObject, patterns: tuple[str, ...]
) -> str | None:
    """Why the server cannot use a schema: its patterns, or text that jsonb cannot hold."""
    try:
        async with connection.transaction():
            await connection.execute("select %s::jsonb", (encode(form).decode(),))
            for pattern in patterns:
                await connection.execute("select '' ~ %s", (pattern,))
    except psycopg.Error as error:
        return f"$: {str(error).strip()}"
    return None
