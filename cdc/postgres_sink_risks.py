"""What would keep a stock sink from replicating the tables of a source in `connect-json`.

A sink writes rows by key, and knows of a row what its records say; both are up to the tables.
"""

from __future__ import annotations

from typing import LiteralString

from cdc.finding import Finding
from cdc.postgres_source import Connection, PostgresSource

# Tables whose rows hold large values, kept apart, that the log leaves out where they stay the same.
_LARGE: LiteralString = """
    select n.nspname::text, c.relname::text, bool_or(a.attnotnull)
    from pg_catalog.pg_publication_tables p
    join pg_catalog.pg_namespace n on n.nspname = p.schemaname
    join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = p.tablename
    join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0
        and not a.attisdropped and a.attlen = -1 and a.attstorage <> 'p'
    where p.pubname = %s and c.relreplident <> 'f' and n.nspname <> 'rowcast_capture'
      and exists (
        select from pg_catalog.pg_class m
        where (m.oid = c.oid or m.oid in (
            select relid from pg_catalog.pg_partition_tree(c.oid) where isleaf))
          and m.reltoastrelid <> 0 and pg_catalog.pg_relation_size(m.reltoastrelid) > 0)
    group by 1, 2 order by 1, 2
"""
_WITHOUT_KEY: LiteralString = """
    select n.nspname::text, c.relname::text
    from pg_catalog.pg_publication_tables p
    join pg_catalog.pg_namespace n on n.nspname = p.schemaname
    join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = p.tablename
    where p.pubname = %s and n.nspname <> 'rowcast_capture'
      and not exists (
        select from pg_catalog.pg_index i where i.indrelid = c.oid and i.indisprimary)
      and not (c.relreplident = 'i' and exists (
        select from pg_catalog.pg_index i where i.indrelid = c.oid and i.indisreplident))
    order by 1, 2
"""


async def find_sink_risks(connection: Connection, source: PostgresSource) -> list[Finding]:
    """A warning for each table that a sink cannot keep whole; none in the plain format."""
    if source.format != "connect-json":
        return []
    found: list[Finding] = []
    cursor = await connection.execute(_LARGE, (source.publication,))
    for schema, table, is_required in await cursor.fetchall():
        refused = ", and a sink whose column is NOT NULL refuses the update" if is_required else ""
        found.append(
            Finding(
                "warning",
                "sink",
                f"{schema}.{table} holds large values, and an update that leaves one as it is does "
                f"not tell it: a row whose key changes comes without it{refused}",
                "REPLICA IDENTITY FULL, where a sink writes the table",
                f'alter table "{schema}"."{table}" replica identity full',
            )
        )
    cursor = await connection.execute(_WITHOUT_KEY, (source.publication,))
    found += [
        Finding(
            "warning",
            "sink",
            f"{schema}.{table} has no primary key, so its records have none, and a sink in upsert "
            "mode stops at them",
            "a primary key, or a sink that leaves the table out",
            f'alter table "{schema}"."{table}" add primary key (...)',
        )
        for schema, table in await cursor.fetchall()
    ]
    return found
