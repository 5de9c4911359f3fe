"""Reading the catalogue of a PostgreSQL source: what is captured, and the functions beside it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from api.catalogue import (
    Argument,
    Catalogue,
    CatalogueColumn,
    CatalogueFunction,
    CatalogueTable,
    ForeignKey,
)
from events.json_codec import encode

Row = dict[str, Any]

# A table that is in the publication is captured; where there is no publication yet, as before
# capture's first start, every table that it would take.
_TABLES: LiteralString = """
    select c.oid::bigint as oid, n.nspname as schema, c.relname as name,
        c.relrowsecurity as row_security, obj_description(c.oid, 'pg_class') as description,
        (select coalesce(array_agg(a.attname order by k.place), '{}')
         from pg_index i
         cross join lateral unnest((i.indkey::int2[])[0:i.indnkeyatts - 1])
             with ordinality as k(attnum, place)
         join pg_attribute a on a.attrelid = c.oid and a.attnum = k.attnum
         where i.indrelid = c.oid and i.indisprimary)::text[] as key,
        array(select r.rolname || ' ' || p.privilege
              from pg_roles r cross join unnest(array['select','insert','update','delete'])
                  as p(privilege)
              where r.rolname in ('anon', 'authenticated', 'service_role')
                and (has_table_privilege(r.oid, c.oid, p.privilege)
                     or (p.privilege <> 'delete'
                         and has_any_column_privilege(r.oid, c.oid, p.privilege)))
        )::text[] as privileges
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p') and c.relpersistence = 'p' and not c.relispartition
      and n.nspname not in ('pg_catalog', 'information_schema', 'rowcast_capture', 'rowcast')
      and n.nspname not like 'pg\\_%%'
      and (not exists (select from pg_publication where pubname = %(publication)s)
           or exists (select from pg_publication_tables p
                      where p.pubname = %(publication)s
                        and p.schemaname = n.nspname and p.tablename = c.relname))
    order by n.nspname, c.relname
"""
_COLUMNS: LiteralString = """
    select a.attrelid::bigint as oid, a.attname as name,
        format_type(a.atttypid, a.atttypmod) as type_sql, t.typname as type_name,
        a.attnotnull and a.attidentity = '' and a.attgenerated = '' and not a.atthasdef as required,
        case when a.attgenerated <> '' then null
             when a.attidentity <> '' then format('nextval(%%L::regclass)',
                 pg_get_serial_sequence(a.attrelid::regclass::text, a.attname))
             else pg_get_expr(d.adbin, d.adrelid) end as default_sql,
        a.attgenerated = '' and a.attidentity <> 'a' as writable,
        t.typcategory = 'A' as is_array, col_description(a.attrelid, a.attnum) as description,
        (select coalesce(array_agg(e.enumlabel order by e.enumsortorder), '{}')
         from pg_enum e where e.enumtypid = a.atttypid)::text[] as labels,
        array(select r.rolname from pg_roles r
              where r.rolname in ('anon', 'authenticated', 'service_role')
                and has_column_privilege(r.oid, a.attrelid, a.attnum, 'select'))::text[]
            as selectable_by
    from pg_attribute a
    join pg_type t on t.oid = a.atttypid
    left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where a.attrelid = any(%s::oid[]) and a.attnum > 0 and not a.attisdropped
    order by a.attrelid, a.attnum
"""
_FOREIGN_KEYS: LiteralString = """
    select c.conname as name, c.conrelid::bigint as oid, c.confrelid::bigint as target,
        array(select a.attname from unnest(c.conkey) with ordinality k(attnum, place)
              join pg_attribute a on a.attrelid = c.conrelid and a.attnum = k.attnum
              order by k.place)::text[] as columns,
        array(select a.attname from unnest(c.confkey) with ordinality k(attnum, place)
              join pg_attribute a on a.attrelid = c.confrelid and a.attnum = k.attnum
              order by k.place)::text[] as target_columns,
        exists (select from pg_index i
                where i.indrelid = c.conrelid and i.indisunique and i.indpred is null
                  and (i.indkey::int2[])[0:i.indnkeyatts - 1] <@ c.conkey) as is_unique
    from pg_constraint c
    where c.contype = 'f' and c.conparentid = 0
      and c.conrelid = any(%(oids)s::oid[]) and c.confrelid = any(%(oids)s::oid[])
    order by c.conname
"""
_FUNCTIONS: LiteralString = """
    select n.nspname as schema, p.proname as name, p.provolatile = 'v' as volatile,
        p.proretset as returns_set, p.pronargs as inputs, p.pronargdefaults as defaults,
        coalesce(p.proargnames, '{}')::text[] as names,
        coalesce(p.proargmodes::text[], '{}') as modes,
        array(select format_type(k.type, null) from unnest(
                  coalesce(p.proallargtypes, p.proargtypes::oid[]))
              with ordinality k(type, place) order by k.place)::text[] as types,
        p.provariadic <> 0 as variadic,
        p.prorettype = 'void'::regtype as returns_void,
        t.typtype = 'c' or p.prorettype = 'record'::regtype as returns_rows,
        t.typrelid::bigint as result, t.typname as result_name,
        format_type(p.prorettype, null) as result_type,
        (select a.typrelid from pg_type a where a.oid = p.proargtypes[0])::bigint as of_row,
        obj_description(p.oid, 'pg_proc') as description
    from pg_proc p
    join pg_namespace n on n.oid = p.pronamespace
    join pg_type t on t.oid = p.prorettype
    where p.prokind = 'f' and n.nspname = any(%s::text[])
      and p.prorettype not in ('trigger'::regtype, 'event_trigger'::regtype)
      and not exists (select from pg_depend d
                      where d.classid = 'pg_proc'::regclass and d.objid = p.oid
                        and d.deptype = 'e')
    order by n.nspname, p.proname, p.oid
"""
_CASTS: LiteralString = """
    select typname as name, format_type(oid, null) as type_sql
    from pg_type
    where typtype in ('b', 'd', 'e', 'r', 'm') and typcategory not in ('A', 'Z', 'P')
      and pg_type_is_visible(oid)
"""


async def read_catalogue(
    connection: psycopg.AsyncConnection, source: str, publication: str
) -> Catalogue:
    """The catalogue as it is now, in about five short statements."""
    async with connection.cursor(row_factory=dict_row) as cursor:

        async def rows(query: LiteralString, parameters: Any = None) -> list[Row]:
            await cursor.execute(query, parameters)
            return await cursor.fetchall()

        found = await rows(_TABLES, {"publication": publication})
        oids = [row["oid"] for row in found]
        places = {row["oid"]: (row["schema"], row["name"]) for row in found}
        schemas = sorted({"public", *(row["schema"] for row in found)})
        functions = await rows(_FUNCTIONS, (schemas,))
        results = [row["result"] for row in functions if row["result"]]
        columns: dict[int, list[Row]] = {}
        for row in await rows(_COLUMNS, ([*oids, *results],)):
            columns.setdefault(row["oid"], []).append(row)
        keys = await rows(_FOREIGN_KEYS, {"oids": oids})
        casts = await rows(_CASTS)
    computed = _computed(functions, places)
    return Catalogue(
        source,
        {
            places[row["oid"]]: _table(row, columns.get(row["oid"], []), computed.get(row["oid"]))
            for row in found
        },
        tuple(_foreign_key(row, places) for row in keys),
        _functions(functions, columns, places),
        {name: row["type_sql"] for row in casts for name in (row["name"], row["type_sql"])},
    )


def _computed(
    rows: list[Row], places: dict[int, tuple[str, str]]
) -> dict[int, dict[str, CatalogueColumn]]:
    """What functions of one argument, a row of a table in their schema, make of it."""
    found: dict[int, dict[str, CatalogueColumn]] = {}
    for row in rows:
        oid = row["of_row"]
        whole = row["returns_set"] or row["returns_rows"] or row["returns_void"]
        if row["inputs"] != 1 or oid not in places or places[oid][0] != row["schema"] or whole:
            continue
        function = sql.Identifier(row["schema"], row["name"]).as_string()
        quoted = sql.Identifier(row["name"]).as_string()
        column = _given(row["name"], quoted, row["result_type"])
        found.setdefault(oid, {})[row["name"]] = replace(
            column, type_name=row["result_name"], computed_by=function
        )
    return found


def _table(
    row: Row, columns: list[Row], computed: dict[str, CatalogueColumn] | None
) -> CatalogueTable:
    key = tuple(row["key"])
    privileges: dict[str, set[str]] = {}
    for text in row["privileges"]:
        role, privilege = text.split(" ")
        privileges.setdefault(role, set()).add(privilege)
    return CatalogueTable(
        schema=row["schema"],
        name=row["name"],
        sql=sql.Identifier(row["schema"], row["name"]).as_string(),
        columns={column["name"]: _column(column) for column in columns},
        key=key,
        key_labels=tuple(sql.Literal(encode(name).decode() + ":").as_string() for name in key),
        row_security=row["row_security"],
        description=row["description"],
        privileges={role: frozenset(found) for role, found in privileges.items()},
        computed=computed or {},
    )


def _column(row: Row) -> CatalogueColumn:
    return CatalogueColumn(
        name=row["name"],
        sql=sql.Identifier(row["name"]).as_string(),
        type_sql=row["type_sql"],
        type_name=row["type_name"],
        required=row["required"],
        default=row["default_sql"],
        writable=row["writable"],
        is_array=row["is_array"],
        labels=tuple(row["labels"]),
        description=row["description"],
        selectable_by=frozenset(row["selectable_by"]),
    )


def _foreign_key(row: Row, places: dict[int, tuple[str, str]]) -> ForeignKey:
    return ForeignKey(
        name=row["name"],
        table=places[row["oid"]],
        columns=tuple(row["columns"]),
        target=places[row["target"]],
        target_columns=tuple(row["target_columns"]),
        unique=row["is_unique"],
    )


def _functions(
    rows: list[Row], columns: dict[int, list[Row]], places: dict[int, tuple[str, str]]
) -> dict[tuple[str, str], tuple[CatalogueFunction, ...]]:
    found: dict[tuple[str, str], tuple[CatalogueFunction, ...]] = {}
    for row in rows:
        function = _function(row, columns, places)
        if function is not None:
            place = (function.schema, function.name)
            found[place] = (*found.get(place, ()), function)
    return found


def _function(
    row: Row, columns: dict[int, list[Row]], places: dict[int, tuple[str, str]]
) -> CatalogueFunction | None:
    modes = row["modes"] or ["i"] * row["inputs"]
    names = row["names"] or [""] * len(modes)
    arguments: list[Argument] = []
    given: list[CatalogueColumn] = []
    inputs = [place for place, mode in enumerate(modes) if mode in "ibv"]
    for place, (mode, name, type_sql) in enumerate(zip(modes, names, row["types"], strict=True)):
        quoted = sql.Identifier(name).as_string() if name else ""
        if mode in "ibv":
            if not name:
                return None  # arguments are passed by name
            required = inputs.index(place) < len(inputs) - row["defaults"]
            arguments.append(Argument(name, quoted, type_sql, required, mode == "v"))
        if mode in "obt" and name:
            given.append(_given(name, quoted, type_sql))
    result_columns = {column.name: column for column in given}
    if not result_columns:
        result_columns = {
            column["name"]: _column(column) for column in columns.get(row["result"], [])
        }
    rows_given = row["returns_rows"] and bool(result_columns)
    table = CatalogueTable(
        schema=row["schema"],
        name=row["name"],
        sql="w",
        columns=result_columns,
        key=(),
        key_labels=(),
        row_security=False,
        description=None,
        privileges={},
    )
    return CatalogueFunction(
        schema=row["schema"],
        name=row["name"],
        sql=sql.Identifier(row["schema"], row["name"]).as_string(),
        arguments=tuple(arguments),
        volatile=row["volatile"],
        returns_set=row["returns_set"],
        returns_void=row["returns_void"],
        rows=table if rows_given else None,
        result=places.get(row["result"]),
        description=row["description"],
    )


def _given(name: str, quoted: str, type_sql: str) -> CatalogueColumn:
    """A column of what a function gives."""
    return CatalogueColumn(
        name=name,
        sql=quoted,
        type_sql=type_sql,
        type_name=type_sql,
        required=False,
        default=None,
        writable=False,
        is_array=type_sql.endswith("[]"),
        labels=(),
        description=None,
        selectable_by=frozenset(),
    )
