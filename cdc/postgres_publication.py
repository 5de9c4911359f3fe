"""The publication: which tables' changes the log is asked for, and that they can be updated.

PostgreSQL refuses UPDATE and DELETE on a published table that has no replica identity, in the
application that sends them. So whoever publishes all tables must see to those without a key;
the event trigger `rowcast_keyless` does for tables created later.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import LiteralString

from psycopg import errors, sql

from cdc.errors import CaptureConfigError
from cdc.postgres_source import Connection, PostgresSource

_log = logging.getLogger(__name__)

Table = tuple[str, str]
"""Schema and name."""

OWN_SCHEMA = "rowcast_capture"
"""What Rowcast keeps in a source: its tables are published with all others and never captured."""

_IS_EMPTY: LiteralString = """
    select from pg_catalog.pg_namespace n
    where n.nspname = 'rowcast_capture' and pg_catalog.pg_has_role(n.nspowner, 'usage')
      and not exists (
          select from pg_catalog.pg_depend d
          where d.refclassid = 'pg_catalog.pg_namespace'::regclass and d.refobjid = n.oid)
"""
_CAPTURABLE: LiteralString = """
    select n.nspname::text, c.relname::text
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p') and c.relpersistence = 'p' and not c.relispartition
      and n.nspname not in ('pg_catalog', 'information_schema', 'rowcast_capture')
      and n.nspname not like 'pg\\_%%'
      and (%s or pg_catalog.pg_has_role(c.relowner, 'usage'))
    order by 1, 2
"""
_PUBLISHED: LiteralString = """
    select schemaname::text, tablename::text
    from pg_catalog.pg_publication_tables
    where pubname = %s and schemaname <> 'rowcast_capture' order by 1, 2
"""
_KEYLESS: LiteralString = """
    select n.nspname::text, c.relname::text
    from pg_catalog.pg_publication p
    join lateral pg_catalog.pg_get_publication_tables(p.pubname) t on true
    join pg_catalog.pg_class root on root.oid = t.relid
    cross join lateral (
        select root.oid as oid
        union select relid from pg_catalog.pg_partition_tree(root.oid)
    ) member
    join pg_catalog.pg_class c on c.oid = member.oid
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where p.pubname = %s and c.relreplident <> 'f' and n.nspname <> 'rowcast_capture'
      and not exists (
          select from pg_catalog.pg_index i where i.indrelid = c.oid and (
              (c.relreplident = 'd' and i.indisprimary)
              or (c.relreplident = 'i' and i.indisreplident)))
    order by 1, 2
"""
# The schema must not have the name that a role may have: `"$user"` stands first in search_path, so
# every table that such a role makes would land in it.
_TRIGGER: LiteralString = """
create schema if not exists rowcast_capture;
grant usage on schema rowcast_capture to public;
create or replace function rowcast_capture.keyless() returns event_trigger language plpgsql as $$
declare
    created oid;
begin
    for created in
        select c.oid from pg_catalog.pg_event_trigger_ddl_commands() d
        join pg_catalog.pg_class c on c.oid = d.objid
        where d.classid = 'pg_catalog.pg_class'::regclass
          and c.relkind in ('r', 'p') and c.relpersistence = 'p' and c.relreplident = 'd'
          and not exists (
              select from pg_catalog.pg_index i where i.indrelid = c.oid and i.indisprimary)
    loop
        execute pg_catalog.format('alter table %s replica identity full', created::regclass);
    end loop;
end
$$;
comment on function rowcast_capture.keyless() is
    'Rowcast: a published table without a key needs REPLICA IDENTITY FULL to be updated';
drop event trigger if exists rowcast_keyless;
create event trigger rowcast_keyless on ddl_command_end
    when tag in ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO')
    execute function rowcast_capture.keyless();
"""
_LOCK_TIMEOUT = "3s"
_KIND: LiteralString = """
    select puballtables, pg_catalog.obj_description(oid, 'pg_publication')
    from pg_catalog.pg_publication where pubname = %s and not pg_catalog.pg_is_in_recovery()
"""
_OF_ONE_OWNER = "Rowcast: all tables of the role that captures"
"""Comment of a publication that we made of all that a role owns, so new ones belong into it."""


async def ensure_publication(connection: Connection, source: PostgresSource) -> bool:
    """Make the publication; whether it was there before.

    Raises CaptureConfigError where the role may not or there is no table to publish.
    """
    if await publication_exists(connection, source):
        return True
    await _create(connection, source, superuser=await is_superuser(connection))
    return False


async def publication_exists(connection: Connection, source: PostgresSource) -> bool:
    """Whether it is there."""
    cursor = await connection.execute(
        "select from pg_catalog.pg_publication where pubname = %s", (source.publication,)
    )
    return await cursor.fetchone() is not None


async def published_tables(connection: Connection, source: PostgresSource) -> list[Table]:
    """The tables whose changes come, partitions under their root."""
    cursor = await connection.execute(_PUBLISHED, (source.publication,))
    return [(row[0], row[1]) for row in await cursor.fetchall()]


async def publishes_all_tables(connection: Connection, source: PostgresSource) -> bool:
    """Whether a table is published from its creation on."""
    cursor = await connection.execute(
        "select puballtables from pg_catalog.pg_publication where pubname = %s",
        (source.publication,),
    )
    return await cursor.fetchone() == (True,)


async def keyless_tables(connection: Connection, source: PostgresSource) -> list[Table]:
    """Published tables on which UPDATE and DELETE fail, partitions among them."""
    cursor = await connection.execute(_KEYLESS, (source.publication,))
    return [(row[0], row[1]) for row in await cursor.fetchall()]


async def takes_new_tables(connection: Connection, source: PostgresSource) -> bool:
    """Whether tables that are made later have to be added to the publication, and here."""
    cursor = await connection.execute(_KIND, (source.publication,))
    row = await cursor.fetchone()
    if row is None or row[0]:
        return False
    return bool(source.tables) or row[1] == _OF_ONE_OWNER


async def is_superuser(connection: Connection) -> bool:
    """Whether the connection's role is a superuser."""
    cursor = await connection.execute(
        "select rolsuper from pg_catalog.pg_roles where rolname = current_user"
    )
    row = await cursor.fetchone()
    return row is not None and bool(row[0])


async def identify_keyless_rows(connection: Connection, source: PostgresSource) -> None:
    """Give published tables without a key REPLICA IDENTITY FULL, now and when they are made.

    Only for a superuser; says in the log what it changed and what it could not.
    """
    if not await is_superuser(connection):
        return
    cursor = await connection.execute(
        "select from pg_catalog.pg_event_trigger where evtname = 'rowcast_keyless'"
    )
    if await cursor.fetchone() is None:
        async with connection.transaction():
            await connection.execute(_TRIGGER)
        _log.info(
            "%s: created the event trigger rowcast_keyless, which gives tables made without a "
            "primary key REPLICA IDENTITY FULL (keyless_full = false in %s leaves that to you)",
            source.name,
            source.setting,
        )
    for schema, table in await keyless_tables(connection, source):
        name = sql.Identifier(schema, table)
        try:
            async with connection.transaction():
                await connection.execute(
                    sql.SQL("set local lock_timeout = {}").format(sql.Literal(_LOCK_TIMEOUT))
                )
                await connection.execute(
                    sql.SQL("alter table {} replica identity full").format(name)
                )
        except (errors.LockNotAvailable, errors.InsufficientPrivilege) as error:
            _log.warning("%s: %s.%s stays without a key: %s", source.name, schema, table, error)
        else:
            _log.info(
                "%s: %s.%s has no primary key and now has REPLICA IDENTITY FULL",
                source.name,
                schema,
                table,
            )


async def _create(connection: Connection, source: PostgresSource, *, superuser: bool) -> None:
    name = sql.Identifier(source.publication)
    if not source.tables and superuser:
        what: sql.Composable = sql.SQL("for all tables")
    else:
        tables = [
            table
            for table in await capturable_tables(connection, superuser=superuser)
            if source.wants(*table)
        ]
        if not tables:
            raise CaptureConfigError(
                found=f"no table that matches {', '.join(source.tables) or '*.*'} "
                f"and that the role {connection.info.user} owns",
                expected="at least one",
                mend=f"set tables in {source.setting} to globs over schema.table, or make the "
                f"publication yourself: create publication {source.publication} for table ... "
                "with (publish_via_partition_root = true)",
            )
        what = sql.SQL("for table {}").format(_list(tables))
    try:
        await connection.execute(
            sql.SQL("create publication {} {} with (publish_via_partition_root = true)").format(
                name, what
            )
        )
        if not source.tables and not superuser:
            await connection.execute(
                sql.SQL("comment on publication {} is {}").format(name, sql.Literal(_OF_ONE_OWNER))
            )
    except errors.DuplicateObject:
        return
    except errors.InsufficientPrivilege as error:
        raise CaptureConfigError(
            found=f"the role {connection.info.user} without the right to create the publication "
            f"{source.publication} ({error})",
            expected="CREATE on the database and ownership of the tables",
            mend=f'as a superuser: create publication "{source.publication}" for all tables '
            "with (publish_via_partition_root = true)",
        ) from error
    _log.info("%s: created the publication %s", source.name, source.publication)


async def add_tables(
    connection: Connection, source: PostgresSource, tables: Sequence[Table]
) -> list[Table]:
    """Add tables to the publication; those that were added. Says in the log what it could not."""
    added: list[Table] = []
    for table in tables:
        # One by one, since one that is gone or another's must not keep the others out.
        try:
            await connection.execute(
                sql.SQL("alter publication {} add table {}").format(
                    sql.Identifier(source.publication), sql.Identifier(*table)
                )
            )
        except (errors.InsufficientPrivilege, errors.UndefinedTable) as error:
            _log.warning(
                "%s: %s.%s is to be captured but not in the publication %s (%s); as its owner: "
                'alter publication "%s" add table "%s"."%s"',
                source.name,
                *table,
                source.publication,
                str(error).strip(),
                source.publication,
                *table,
            )
        except errors.DuplicateObject:
            pass
        else:
            added.append(table)
            _log.info("%s: added %s.%s to %s", source.name, *table, source.publication)
    return added


async def capturable_tables(connection: Connection, *, superuser: bool) -> list[Table]:
    """Tables that can be published by the role, partitions under their root."""
    cursor = await connection.execute(_CAPTURABLE, (superuser,))
    return [(row[0], row[1]) for row in await cursor.fetchall()]


def _list(tables: Sequence[Table]) -> sql.Composable:
    return sql.SQL(", ").join(sql.Identifier(*table) for table in tables)


async def drop_empty_schema(connection: Connection) -> None:
    """Take our own schema away where nothing is in it any more."""
    cursor = await connection.execute(_IS_EMPTY)
    if cursor.rowcount:
        await connection.execute(sql.SQL("drop schema {}").format(sql.Identifier(OWN_SCHEMA)))
