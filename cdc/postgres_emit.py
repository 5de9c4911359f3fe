"""`rowcast.emit` in a captured database: a custom event from SQL, if its transaction commits.

The function writes a transactional logical message; cdc/message_encoder.py makes the event of it.
Installed by a superuser or whoever may create schemas; where it may not be, capture goes on and
says how to make it.
"""

from __future__ import annotations

import logging
from typing import LiteralString

import psycopg

from cdc.message_encoder import EMIT_PREFIX
from cdc.postgres_source import Connection, PostgresSource

_log = logging.getLogger(__name__)

_FUNCTION: LiteralString = """
create schema if not exists rowcast;
grant usage on schema rowcast to public;
create or replace function rowcast.emit(type text, data jsonb default '{}', key text default null)
returns pg_lsn language plpgsql volatile as $$
begin
    if type is null or type !~ '^custom([.][A-Za-z0-9_-]+)+$' then
        raise exception using errcode = '22023',
            message = pg_catalog.format('found the event type %L, expected custom.<name>', type),
            hint = 'Names are of letters, digits, _ and -, joined by dots';
    end if;
    return pg_catalog.pg_logical_emit_message(true, 'rowcast.emit',
        pg_catalog.json_build_object('type', type, 'key', key)::text || E'\\n'
        || coalesce(data, 'null'::jsonb)::text);
end
$$;
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
    select from pg_catalog.pg_proc p
    where p.oid = pg_catalog.to_regprocedure('rowcast.emit(text, jsonb, text)')
      and p.prosrc like %s
"""


async def ensure_emit_function(connection: Connection, source: PostgresSource) -> None:
    """Make the function where it is missing; a refusal is said in the log and stops nothing."""
    cursor = await connection.execute(_PRESENT, (f"%{EMIT_PREFIX}%",))
    if await cursor.fetchone() is not None:
        return
    cursor = await connection.execute(_ASTRAY)
    if await cursor.fetchone() is not None:
        _log.warning(
            "%s: rowcast.emit is not installed: the role rowcast would make its tables in a schema "
            "of its own name. Run `alter role rowcast set search_path = public`, then start "
            "capture again",
            source.name,
        )
        return
    try:
        async with connection.transaction():
            await connection.execute(_FUNCTION)
    except psycopg.Error as error:
        _log.warning(
            "%s: rowcast.emit could not be installed (%s); grant create on the database to the "
            "role that captures, or make the function yourself: docs/api.md",
            source.name,
            str(error).strip(),
        )
    else:
        _log.info("%s: installed rowcast.emit, custom events from SQL", source.name)
