"""What the catalogue tells of a table that a snapshot is to read.

Asked in the transaction of each chunk, with the table locked against changes of its columns, so
that a chunk is never read under one shape and encoded under another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import LiteralString, cast

from psycopg import errors

from cdc.pgoutput import Column, Relation
from cdc.postgres_source import Connection, PostgresSource
from cdc.snapshot_table import Member, SnapshotTable, quote_name
from events.json_codec import JsonObject

_TABLE: LiteralString = """
    select c.oid::bigint, c.relkind::text, c.relreplident::text,
           (select sum(l.reltuples)::bigint from pg_catalog.pg_class l
            where l.reltuples >= 0 and (l.oid = c.oid or l.oid in (
                select relid from pg_catalog.pg_partition_tree(c.oid) where isleaf)))
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where n.nspname = %s and c.relname = %s
"""
# As JSON, since the columns `attnames` and `rowfilter` come with version 15.
_PUBLISHED: LiteralString = """
    select to_jsonb(t) from pg_catalog.pg_publication_tables t
    where pubname = %s and schemaname = %s and tablename = %s
"""
_COLUMNS: LiteralString = """
    select attname::text, atttypid::bigint, atttypmod, attnum::int, attgenerated <> ''
    from pg_catalog.pg_attribute
    where attrelid = %s::oid and attnum > 0 and not attisdropped order by attnum
"""
_INDEX: LiteralString = """
    select array_agg(k.attnum::int order by k.place)
    from pg_catalog.pg_index i
    cross join lateral unnest(i.indkey::int2[]) with ordinality k(attnum, place)
    where i.indrelid = %s::oid and k.place <= i.indnkeyatts
      and case %s when 'i' then i.indisreplident else i.indisprimary end
    group by i.indexrelid
"""
_MEMBERS: LiteralString = """
    select c.oid::bigint, n.nspname::text, c.relname::text,
           pg_catalog.pg_relation_filenode(c.oid)::bigint,
           (pg_catalog.pg_relation_size(c.oid)
            / pg_catalog.current_setting('block_size')::int)::bigint
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where c.relkind = 'r' and (c.oid = %s::oid or c.oid in (
        select relid from pg_catalog.pg_partition_tree(%s::oid) where isleaf))
    order by c.oid
"""
_GENERATED_SINCE = 180_000


async def lock_table(connection: Connection, schema: str, table: str) -> None:
    """Hold a table's shape until the end of the transaction; reads and writes go on."""
    name = f"{quote_name(schema)}.{quote_name(table)}"
    await connection.execute(f"lock table {name} in access share mode".encode())


@dataclass(frozen=True, slots=True)
class DescribedTable:
    """A table, and what it was made of: `attributes` as in _COLUMNS, `published` in _PUBLISHED."""

    table: SnapshotTable
    attributes: list[tuple[object, ...]]
    published: JsonObject


async def describe_table(
    connection: Connection,
    source: PostgresSource,
    schema: str,
    table: str,
    before: DescribedTable | None,
) -> DescribedTable:
    """The table as it is now, with what of it is published; `before` as it was a chunk ago.

    Raises psycopg's UndefinedTable where it is gone or not published.
    """
    cursor = await connection.execute(_TABLE, (schema, table))
    row = await cursor.fetchone()
    if row is None:
        raise errors.UndefinedTable(f'the table "{schema}"."{table}" is gone')
    oid, kind, identity, estimated = int(row[0]), str(row[1]), str(row[2]), row[3]
    cursor = await connection.execute(_COLUMNS, (oid,))
    attributes = await cursor.fetchall()
    if before is not None and before.attributes == attributes:
        published = before.published
    else:
        published = await _published_as(connection, source, schema, table)
    cursor = await connection.execute(_INDEX, (oid, identity))
    index = await cursor.fetchone()
    key_numbers: list[int] = list(index[0]) if index is not None else []
    columns: list[Column] = []
    names: dict[int, str] = {}
    for name, type_oid, modifier, number, is_generated in attributes:
        if _is_published(connection, name, published, is_generated=is_generated):
            is_key = identity == "f" or (identity in "di" and number in key_numbers)
            columns.append(Column(name, is_key, type_oid, modifier))
            names[number] = name
    order = tuple(names[number] for number in key_numbers if number in names)
    if len(order) != len(key_numbers):
        order = ()
    members: tuple[Member, ...] = ()
    if not order:
        cursor = await connection.execute(_MEMBERS, (oid, oid))
        members = tuple(Member(*member) for member in await cursor.fetchall())
    row_filter = published.get("rowfilter")
    described = SnapshotTable(
        Relation(oid, schema, table, identity, tuple(columns)),
        order,
        str(row_filter) if row_filter else "",
        kind == "p",
        members,
        int(estimated) if estimated is not None else None,
    )
    return DescribedTable(described, attributes, published)


async def _published_as(
    connection: Connection, source: PostgresSource, schema: str, table: str
) -> JsonObject:
    cursor = await connection.execute(_PUBLISHED, (source.publication, schema, table))
    row = await cursor.fetchone()
    if row is None:
        raise errors.UndefinedTable(
            f'the table "{schema}"."{table}" is not in the publication {source.publication}'
        )
    return cast("JsonObject", row[0])


def _is_published(
    connection: Connection, name: str, published: JsonObject, *, is_generated: bool
) -> bool:
    listed = published.get("attnames")
    if is_generated and (
        connection.info.server_version < _GENERATED_SINCE or not isinstance(listed, list)
    ):
        return False
    return not isinstance(listed, list) or name in listed
