"""What the catalogue tells of the tables in the log: their record key and their types.

Asked when a Relation message announces a table, on a connection of its own. It answers for now,
the log speaks of then: a type dropped since is encoded as text, and a primary key made since
(REPLICA IDENTITY FULL) becomes the record key.
"""

from __future__ import annotations

from typing import LiteralString

from cdc.change_encoder import ChangeEncoder, Format
from cdc.connect_encoder import ConnectEncoder
from cdc.connect_types import connect_type
from cdc.pgoutput import Relation
from cdc.postgres_source import Connection
from cdc.row_encoder import RowEncoder
from events.values.types import TypeCatalogue, TypeRow

_TYPES: LiteralString = """
    select oid::bigint, typtype::text, typbasetype::bigint, typelem::bigint,
           typcategory::text, typdelim::text
    from pg_catalog.pg_type where oid = any(%s::oid[])
"""
_TYPE_NAMES: LiteralString = """
    select pg_catalog.format_type(oid, modifier)
    from unnest(%s::oid[], %s::int[]) with ordinality as t (oid, modifier, place) order by place
"""
_PRIMARY_KEY: LiteralString = """
    select a.attname::text
    from pg_catalog.pg_index i
    join pg_catalog.pg_attribute a on a.attrelid = i.indrelid
        and a.attnum = any((i.indkey::int2[])[0:i.indnkeyatts - 1])
    where i.indrelid = %s::oid and i.indisprimary
"""


class PostgresCatalogue:
    """Encoders for relations, over one connection."""

    def __init__(
        self, connection: Connection, source: str, database: str, form: Format = "json"
    ) -> None:
        self._connection = connection
        self._format = form
        self._source = source
        self._database = database
        self._types = TypeCatalogue()

    async def encoder(self, relation: Relation) -> ChangeEncoder:
        """The encoder of a relation's rows."""
        if self._format == "json":
            return await self.row_encoder(relation)
        keys, names = await self._learn_columns(relation)
        types = [
            connect_type(
                column.type_oid,
                self._types.built_in(column.type_oid),
                column.type_modifier,
                name,
            )
            for column, name in zip(relation.columns, names, strict=True)
        ]
        return ConnectEncoder(self._source, self._database, relation, keys, types, names)

    async def row_encoder(self, relation: Relation) -> RowEncoder:
        """The encoder of a relation's rows in the plain format."""
        keys, names = await self._learn_columns(relation)
        encoders = [self._types.encoder(column.type_oid) for column in relation.columns]
        return RowEncoder(self._source, self._database, relation, keys, encoders, names)

    async def _learn_columns(self, relation: Relation) -> tuple[list[str], list[str]]:
        """Know the columns' types; the key columns, and what PostgreSQL calls the types."""
        await self._learn([column.type_oid for column in relation.columns])
        return await self._key_columns(relation), await self._type_names(relation)

    async def _learn(self, type_oids: list[int]) -> None:
        asked: set[int] = set()
        while missing := self._types.unknown(type_oids) - asked:
            asked |= missing
            cursor = await self._connection.execute(_TYPES, (sorted(missing),))
            self._types.add([TypeRow(*row) for row in await cursor.fetchall()])

    async def _type_names(self, relation: Relation) -> list[str]:
        oids = [column.type_oid for column in relation.columns]
        modifiers = [column.type_modifier for column in relation.columns]
        cursor = await self._connection.execute(_TYPE_NAMES, (oids, modifiers))
        return [row[0] for row in await cursor.fetchall()]

    async def _key_columns(self, relation: Relation) -> list[str]:
        if relation.replica_identity in "di":
            # What the log's old rows tell is the only key that deletes can be written under.
            return [column.name for column in relation.columns if column.is_key]
        cursor = await self._connection.execute(_PRIMARY_KEY, (relation.oid,))
        primary: list[str] = [row[0] for row in await cursor.fetchall()]
        published = {column.name for column in relation.columns}
        return primary if published.issuperset(primary) else []
