"""A call of a function as SQL. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from api.catalogue import Argument, Catalogue, CatalogueFunction, CatalogueTable
from api.errors import ApiError, UnknownNameError
from api.query_tree import Query
from api.sql_read import Counting, ReadWriter, computed_asked
from api.statement import Parameters, Statement
from events.token import Role


def choose_function(
    found: Sequence[CatalogueFunction], name: str, names: frozenset[str]
) -> CatalogueFunction:
    """The one of several functions of a name that takes these arguments.

    Raises UnknownNameError (PGRST202) where none does, ApiError (PGRST203) where several do.
    """
    fitting = [function for function in found if function.accepts(names)]
    if len(fitting) == 1:
        return fitting[0]
    given = ", ".join(sorted(names)) or "no arguments"
    if not fitting:
        takes = "; ".join(
            f"{name}({', '.join(argument.name for argument in function.arguments)})"
            for function in found
        )
        raise UnknownNameError(
            404,
            "PGRST202",
            f"Could not find the function {name}({given[:500]}) in the schema cache",
            details=f"There is {takes}" if takes else None,
            hint="Name each argument that has no default, and no other",
        )
    raise ApiError(
        300,
        "PGRST203",
        f"Could not choose the best candidate function among {len(fitting)} named {name}",
        hint="Give the functions different names, or different argument names",
    )


def call_statement(  # noqa: PLR0913 - a call and what is to be made of its result
    catalogue: Catalogue,
    function: CatalogueFunction,
    rows: CatalogueTable | None,
    query: Query,
    body: bytes | None,
    names: frozenset[str],
    *,
    rows_max: int,
    total: Counting,
    told_as: Role | None = None,
) -> Statement:
    """Call a function with a JSON object's fields, or with the query's arguments.

    `rows` is what it gives where that is rows; `told_as` as ReadWriter has it, for a table's rows.
    """
    parameters = Parameters()
    called = [argument for argument in function.arguments if argument.name in names]
    source = ""
    if body is not None and called:
        types = ", ".join(f"{argument.sql} {argument.type_sql}" for argument in called)
        place = f"{parameters.bind_bytes(body)}::pg_catalog.json"
        source = f"pg_catalog.json_to_record({place}) as a({types}), lateral "
        values = [f"a.{argument.sql}" for argument in called]
    else:
        values = [
            f"{_given(parameters, argument, query.arguments)}::{argument.type_sql}"
            for argument in called
        ]
    passed = ", ".join(
        f"{'variadic ' if argument.variadic else ''}{argument.sql} => {value}"
        for argument, value in zip(called, values, strict=True)
    )
    call = f"{source}{function.sql}({passed})"
    if rows is not None:
        writer = ReadWriter(catalogue, parameters, rows_max, told_as=told_as, made=True)
        stored = [f"f.{column.sql}" for column in rows.columns.values()]
        columns = ", ".join([*stored, *computed_asked(rows, query.selection, "f")])
        keys = told_as is not None and bool(rows.key)
        answer = writer.answer(rows, query.selection, "w", keys=keys, total=total)
        text = f"with w as (select {columns} from {call} f) {answer}"
        return parameters.statement(text, writer.reads)
    if function.returns_void:
        return parameters.statement(f"select null, null, null, null from {call} f")
    if function.returns_set:
        limit = rows_max
        if query.selection.limit is not None:
            limit = min(limit, query.selection.limit)
        bounds = f" limit {parameters.bind(str(limit))}::bigint"
        if query.selection.offset:
            bounds += f" offset {parameters.bind(str(query.selection.offset))}::bigint"
        return parameters.statement(
            "select pg_catalog.count(*)::text, coalesce(pg_catalog.json_agg(s.v), '[]')::text, "
            f"null, null from (select f.v from {call} as f(v){bounds}) s"
        )
    return parameters.statement(
        "select '1', coalesce(pg_catalog.to_json(f.v), 'null')::text, null, null "
        f"from {call} as f(v)"
    )


def _given(parameters: Parameters, argument: Argument, arguments: Sequence[tuple[str, str]]) -> str:
    """The place of an argument's value, or of all values of one that takes several."""
    values = tuple(value for name, value in arguments if name == argument.name)
    if argument.variadic and not (len(values) == 1 and values[0].startswith("{")):
        return parameters.bind_array(values)
    return parameters.bind(values[-1])
