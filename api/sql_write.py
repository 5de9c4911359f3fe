"""Writing as SQL: one statement that writes rows and gives back what the client asked for.

The body of the request is one parameter; PostgreSQL reads it as rows of the table's own types.
Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from psycopg import sql

from api.catalogue import Catalogue, CatalogueColumn, CatalogueTable
from api.errors import UnknownNameError
from api.query_tree import Query, Selection
from api.sql_condition import ConditionWriter
from api.sql_read import ReadWriter, columns_asked, computed_asked, key_sql
from api.statement import Parameters, ReadColumns, Statement
from events.token import Role

_ALL_ROWS = 2**62
"""What was written is given back whole, however much a read would be given."""


@dataclass(frozen=True, slots=True)
class Answering:
    """What a write gives back: the rows as JSON, or only their number, and their keys.

    `told_as` as ReadWriter has it.
    """

    representation: bool
    keys: bool
    told_as: Role | None = None


@dataclass(frozen=True, slots=True)
class Upsert:
    """What happens to a row that is there already: updated, or left as it is."""

    columns: tuple[str, ...]
    merge: bool


def insert_statement(  # noqa: PLR0913 - what to insert, and what to give back
    catalogue: Catalogue,
    table: CatalogueTable,
    query: Query,
    body: bytes,
    names: Sequence[str],
    *,
    defaults: bool,
    upsert: Upsert | None,
    answering: Answering,
) -> Statement:
    """Insert the objects of a JSON array, or one object, into the columns `names`.

    With `defaults` a key that an object lacks is the column's default, else null. Raises
    UnknownNameError for a column that is not there.
    """
    columns = [writable_column(table, name) for name in names]
    parameters = Parameters()
    if columns:
        source = _rows(columns, parameters.bind_bytes(body), defaults=defaults)
        into = ", ".join(column.sql for column in columns)
        values = ", ".join(f"r.{column.sql}" for column in columns)
        head = f"insert into {table.sql} as t ({into}) select {values} from {source} r"
    else:
        head = f"insert into {table.sql} as t default values"
    if upsert is not None:
        head += _on_conflict(table, upsert, columns)
    return parameters.statement(
        *_answer(catalogue, table, query.selection, parameters, head, answering)
    )


def update_statement(
    catalogue: Catalogue,
    table: CatalogueTable,
    query: Query,
    body: bytes,
    names: Sequence[str],
    *,
    answering: Answering,
) -> Statement:
    """Update the rows that match with the values of one JSON object."""
    columns = [writable_column(table, name) for name in names]
    parameters = Parameters()
    place = parameters.bind_bytes(body)
    source = _rows(columns, place, defaults=False)
    values = ", ".join(f"{column.sql} = r.{column.sql}" for column in columns)
    where = _where(table, query.selection, parameters)
    head = f"update {table.sql} as t set {values} from {source} r{where}"
    return parameters.statement(
        *_answer(catalogue, table, query.selection, parameters, head, answering)
    )


def delete_statement(
    catalogue: Catalogue, table: CatalogueTable, query: Query, *, answering: Answering
) -> Statement:
    """Delete the rows that match."""
    parameters = Parameters()
    where = _where(table, query.selection, parameters)
    head = f"delete from {table.sql} as t{where}"
    return parameters.statement(
        *_answer(catalogue, table, query.selection, parameters, head, answering)
    )


def writable_column(table: CatalogueTable, name: str) -> CatalogueColumn:
    """The column that a key of the body means.

    Raises UnknownNameError (PGRST204) where there is none.
    """
    column = table.columns.get(name)
    if column is None:
        raise UnknownNameError(
            400,
            "PGRST204",
            f"Could not find the '{name[:200]}' column of '{table.name}' in the schema cache",
            hint=f"The columns of {table.name} are {', '.join(table.columns)}"[:1000],
        )
    return column


def _rows(columns: Sequence[CatalogueColumn], place: str, *, defaults: bool) -> str:
    """The body as rows of these columns."""
    types = ", ".join(f"{column.sql} {column.type_sql}" for column in columns)
    body = f"{place}::pg_catalog.json"
    array = (
        f"case when pg_catalog.json_typeof({body}) = 'array' then {body} "
        f"else pg_catalog.json_build_array({body}) end"
    )
    if defaults:
        given = ", ".join(
            f"{sql.Literal(column.name).as_string()}, {column.default}"
            for column in columns
            if column.default is not None
        )
        # The default is made anew for each row that lacks the key.
        lacking = f"pg_catalog.jsonb_build_object({given}) || e.value"
        array = (
            f"(select pg_catalog.json_agg({lacking}) from pg_catalog.jsonb_array_elements("
            f"({array})::pg_catalog.jsonb) e)"
        )
    return f"(select * from pg_catalog.json_to_recordset({array}) as _({types}))"


def _on_conflict(table: CatalogueTable, upsert: Upsert, columns: Sequence[CatalogueColumn]) -> str:
    if not upsert.columns:
        return ""
    target = ", ".join(writable_column(table, name).sql for name in upsert.columns)
    if not upsert.merge or not columns:
        return f" on conflict ({target}) do nothing"
    values = ", ".join(f"{column.sql} = excluded.{column.sql}" for column in columns)
    return f" on conflict ({target}) do update set {values}"


def _where(table: CatalogueTable, selection: Selection, parameters: Parameters) -> str:
    writer = ConditionWriter(table.name, "t", table.readable, parameters)
    written = [f"({writer.write(logic)})" for logic in selection.where]
    return f" where {' and '.join(written)}" if written else ""


def _answer(
    catalogue: Catalogue,
    table: CatalogueTable,
    selection: Selection,
    parameters: Parameters,
    head: str,
    answering: Answering,
) -> tuple[str, tuple[ReadColumns, ...]]:
    if not answering.representation:
        if not answering.keys:
            written = f"with w as ({head} returning 1)"
            return f"{written} select pg_catalog.count(*)::text, null, null, null from w", ()
        key = key_sql(table, "t")
        return (
            f"with w as ({head} returning {key} as k) select pg_catalog.count(*)::text, null, "
            "pg_catalog.string_agg(k, $$,$$), null from w"
        ), ()
    asked = set(columns_asked(catalogue, table, selection))
    if answering.keys:
        asked.update(table.key)
    stored = [f"t.{column.sql}" for name, column in table.columns.items() if name in asked]
    returned = ", ".join([*stored, *computed_asked(table, selection, "t")])
    writer = ReadWriter(catalogue, parameters, _ALL_ROWS, told_as=answering.told_as, made=True)
    # Rows are picked by the statement itself: what is given back is all that was written.
    given_back = replace(selection, where=(), limit=None, offset=0)
    answer = writer.answer(table, given_back, "w", keys=answering.keys, total=None)
    return f"with w as ({head} returning {returned or '1'}) {answer}", writer.reads
