"""Tables that are created while a source is captured, and come into its publication.

In a publication of all tables they are from their first row on. In one of some tables an event
trigger adds what fits the source's globs, in the transaction that creates it, so that nothing is
missing either; the table `rowcast_capture.followed` says which those are. Where the role may not
make one, or a table came into being another way (filled as it was created, renamed into a glob),
capture notices within a heartbeat: it adds the table and loads it.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import LiteralString

from psycopg import Error

from cdc.postgres_publication import (
    Table,
    add_tables,
    capturable_tables,
    is_superuser,
    published_tables,
    publishes_all_tables,
    takes_new_tables,
)
from cdc.postgres_source import Connection, PostgresSource

_log = logging.getLogger(__name__)

# Security definer: whoever creates a table need not own the publication. What goes wrong is left
# to the heartbeat, since an error would forbid the user's own statement.
_TRIGGER: LiteralString = """
create schema if not exists rowcast_capture;
grant usage on schema rowcast_capture to public;
create table if not exists rowcast_capture.publications (
    publication name primary key, pattern text not null);
create table if not exists rowcast_capture.followed (
    publication name, relation oid, primary key (publication, relation));
create or replace function rowcast_capture.follow() returns event_trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    created record;
begin
    for created in
        select p.publication, c.oid, n.nspname, c.relname
        from pg_catalog.pg_event_trigger_ddl_commands() d
        join pg_catalog.pg_class c on c.oid = d.objid
        join pg_catalog.pg_namespace n on n.oid = c.relnamespace
        join rowcast_capture.publications p on (n.nspname || '.' || c.relname) ~ p.pattern
        join pg_catalog.pg_publication known on known.pubname = p.publication
            and not known.puballtables
        where d.classid = 'pg_catalog.pg_class'::regclass
          and c.relkind in ('r', 'p') and c.relpersistence = 'p' and not c.relispartition
          and n.nspname not in ('pg_catalog', 'information_schema', 'rowcast_capture')
    loop
        execute format('alter publication %I add table %I.%I',
            created.publication, created.nspname, created.relname);
        insert into rowcast_capture.followed values (created.publication, created.oid)
        on conflict do nothing;
    end loop;
exception when others then
    raise warning 'rowcast: new tables are not in their publications yet: %', sqlerrm;
end
$$;
comment on function rowcast_capture.follow() is
    'Rowcast: adds new tables to the publications whose globs they fit';
drop event trigger if exists rowcast_publish;
create event trigger rowcast_publish on ddl_command_end
    when tag in ('CREATE TABLE')
    execute function rowcast_capture.follow();
"""
_SET_PATTERN: LiteralString = """
    insert into rowcast_capture.publications values (%s, %s)
    on conflict (publication) do update set pattern = excluded.pattern
    where publications.pattern <> excluded.pattern
"""
_FOLLOWED: LiteralString = """
    select n.nspname::text, c.relname::text
    from rowcast_capture.followed f
    join pg_catalog.pg_class c on c.oid = f.relation
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where f.publication = %s
"""
_FORGET: LiteralString = """
    delete from rowcast_capture.followed f
    where publication = %s and not exists (
        select from pg_catalog.pg_class c where c.oid = f.relation)
"""


async def follow_new_tables(connection: Connection, source: PostgresSource) -> None:
    """Make the event trigger, where tables have to be added and the role is a superuser."""
    if not source.tables or not await takes_new_tables(connection, source):
        return
    if not await is_superuser(connection):
        _log.info(
            "%s: tables made from now on are noticed within %g s; an event trigger, which only a "
            "superuser can make, would publish them from their first row on",
            source.name,
            source.heartbeat_s,
        )
        return
    cursor = await connection.execute(
        "select from pg_catalog.pg_event_trigger where evtname = 'rowcast_publish'"
    )
    if await cursor.fetchone() is None:
        async with connection.transaction():
            await connection.execute(_TRIGGER)
        _log.info(
            "%s: created the event trigger rowcast_publish, which adds new tables to the "
            "publications whose globs they fit",
            source.name,
        )
    pattern = globs_pattern(source.tables)
    await connection.execute(_SET_PATTERN, (source.publication, pattern))
    await connection.execute(_FORGET, (source.publication,))


async def publish_missing(
    connection: Connection, source: PostgresSource, told: set[Table]
) -> list[Table]:
    """Add tables that belong into the publication; those added. `told`: that could not be."""
    missing = await missing_tables(connection, source)
    added = await add_tables(connection, source, [one for one in missing if one not in told])
    told.update(one for one in missing if one not in added)
    return added


async def missing_tables(connection: Connection, source: PostgresSource) -> list[Table]:
    """Tables that are to be captured and the role's to publish, and are not published."""
    if not await takes_new_tables(connection, source):
        return []
    published = set(await published_tables(connection, source))
    superuser = await is_superuser(connection)
    return [
        table
        for table in await capturable_tables(connection, superuser=superuser)
        if source.wants(*table) and table not in published
    ]


async def whole_tables(connection: Connection, source: PostgresSource) -> Collection[Table]:
    """Published tables of which the stream has every row, since they were empty when added."""
    if await publishes_all_tables(connection, source):
        return await published_tables(connection, source)
    cursor = await connection.execute("select to_regclass('rowcast_capture.followed')")
    if await cursor.fetchone() == (None,):
        return ()
    try:
        async with connection.transaction():
            cursor = await connection.execute(_FOLLOWED, (source.publication,))
            return [(row[0], row[1]) for row in await cursor.fetchall()]
    except Error as error:
        # A role that may not read it: such tables are loaded once more than they need be.
        _log.info("%s: not looking at followed tables: %s", source.name, str(error).strip())
        return ()


def globs_pattern(globs: Collection[str]) -> str:
    """PostgreSQL's regular expression of what fits one of the globs, as fnmatch has them.

    Without the globs that have a class (`[a-f]*`): what one means is fnmatch's own, so they are
    left to the heartbeat.
    """
    return f"^(?:{'|'.join(_pattern(glob) for glob in globs if '[' not in glob)})$"


def _pattern(glob: str) -> str:
    return "".join(
        _WILD.get(character, character if character.isalnum() else f"\\{character}")
        for character in glob
    )


_WILD = {"*": ".*", "?": ".", "_": "_"}
