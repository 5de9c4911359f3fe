"""A table's name as a user writes it: `orders`, `public.orders`, `"Ward X"."Beds.Table"`.

Without quotes a name is taken as it is, dots and capitals too.
"""

from __future__ import annotations

import re
from typing import Final, LiteralString

from cdc.postgres_source import Connection

_QUOTED: Final = r'"(?:[^"]|"")+"'
_NAME: Final = re.compile(rf'(?:({_QUOTED}|[^".]+)\.)?({_QUOTED}|[^".]+)')
_EXISTING: Final[LiteralString] = """
    select wanted.schema, wanted.name
    from unnest(%s::text[], %s::text[]) with ordinality wanted (schema, name, place)
    join pg_catalog.pg_namespace n on n.nspname = wanted.schema
    join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = wanted.name
    order by wanted.place limit 1
"""


def possible_names(text: str) -> list[tuple[str, str]]:
    """Schema and name of each table that may be meant, the likeliest first."""
    quoted = _NAME.fullmatch(text) if '"' in text else None
    if quoted is not None:
        schema, name = quoted.groups()
        return [(_unquoted(schema or "public"), _unquoted(name))]
    dots = [place for place, letter in enumerate(text) if letter == "."]
    split = [(text[:place], text[place + 1 :]) for place in reversed(dots)]
    return [*(pair for pair in split if all(pair)), ("public", text)]


async def find_name(connection: Connection, text: str) -> tuple[str, str]:
    """Schema and name of the table that is meant; the likeliest where there is none."""
    names = possible_names(text)
    schemas, tables = [schema for schema, _ in names], [name for _, name in names]
    cursor = await connection.execute(_EXISTING, (schemas, tables))
    found = await cursor.fetchone()
    return names[0] if found is None else (str(found[0]), str(found[1]))


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
