"""The data API over one PostgreSQL source: requests to statements, results to answers."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

from psycopg.pq.abc import PGresult

from api.answer import Answer
from api.api_event import ApiCall
from api.catalogue import Catalogue, CatalogueFunction, CatalogueTable
from api.content_range import with_range
from api.data_request import DataRequest
from api.data_source import Commit
from api.errors import ApiError, UnknownNameError
from api.postgres_database import PostgresDatabase
from api.query_parser import is_filter, parse_query
from api.query_tree import Condition, Query
from api.read_plan import ReadPlan, ReadPlans, Shape
from api.request_body import RequestBody, read_body
from api.rows_answer import KEYS_COLUMN, Rows, call_answer, read_answer, write_answer
from api.settings import PostgresApiSource
from api.sql_call import call_statement, choose_function
from api.sql_read import Counting, read_statement
from api.sql_write import (
    Answering,
    Upsert,
    delete_statement,
    insert_statement,
    update_statement,
)
from api.statement import Statement
from api.table_read import ReadPlace, TableRead, Telling, distinct_keys
from events.json_codec import decode
from events.token import Role

_OF_A_TYPE = frozenset(("22P02", "22003", "22007", "22008", "22001", "42804"))


class PostgresData:
    """Answers calls on the tables and functions of one source."""

    def __init__(
        self, database: PostgresDatabase, source: PostgresApiSource, rows_max: int
    ) -> None:
        self._database = database
        self._database_name = source.database
        self.telling: Telling = source.reads
        self._rows_max = rows_max
        self._plans = ReadPlans()
        self._planned_for: Catalogue | None = None
        # Nobody can send it, so that no value of a query is taken for a mark.
        self._marker = f"\x01{secrets.token_hex(16)}."

    @property
    def name(self) -> str:
        """The source's."""
        return self._database.name

    @property
    def default_schema(self) -> str:
        """Where a name without a schema is looked for."""
        return "public"

    async def open(self) -> None:
        """Begin to connect."""
        await self._database.open()

    async def close(self) -> None:
        """End all connections."""
        await self._database.close()

    async def catalogue(self, *, since_s: float = 0.0) -> Catalogue:
        """What there is."""
        return await self._database.catalogue(since_s=since_s)

    async def has(self, request: DataRequest, *, since_s: float) -> bool:
        """Whether the table or function is here."""
        catalogue = await self.catalogue(since_s=since_s)
        place = (request.schema or "public", request.name)
        return place in (catalogue.functions if request.is_function else catalogue.tables)

    async def has_schema(self, schema: str) -> bool:
        """Whether something of this source is in a schema."""
        return schema in (await self.catalogue()).schemas

    async def answer(self, request: DataRequest, call: ApiCall, commit: Commit) -> Answer:
        """Carry out a call; what is learnt of it on the way is noted in `call`.

        Raises ApiError where it is refused or fails.
        """
        begun_s = time.monotonic()
        catalogue = await self.catalogue()
        try:
            return await self._answer(catalogue, request, call, commit)
        except UnknownNameError:
            fresh = await self.catalogue(since_s=begun_s)
            if fresh is catalogue:
                raise
        except ApiError as error:
            # Of a type that a column had, perhaps. Looked up once a second at most: most values
            # that are refused are wrong.
            if error.code not in _OF_A_TYPE:
                raise
            fresh = await self.catalogue(since_s=begun_s - 1.0)
            if fresh == catalogue:
                raise
        return await self._answer(fresh, request, call, commit)

    async def _answer(
        self, catalogue: Catalogue, request: DataRequest, call: ApiCall, commit: Commit
    ) -> Answer:
        schema = request.schema or "public"
        if request.is_function:
            found = catalogue.functions.get((schema, request.name), ())
            return await self._call(catalogue, found, request, call, commit)
        table = catalogue.tables.get((schema, request.name))
        if table is None:
            raise UnknownNameError(
                404,
                "PGRST205",
                f"Could not find the table '{schema}.{request.name[:200]}' in the schema cache",
                hint=_tables_hint(catalogue, schema),
            )
        if request.read_only:
            return await self._read(catalogue, table, request, call)
        query = parse_query(request.parameters)
        return await self._write(catalogue, table, query, request, call, commit)

    async def _read(
        self,
        catalogue: Catalogue,
        table: CatalogueTable,
        request: DataRequest,
        call: ApiCall,
    ) -> Answer:
        statement, offset = self._read_statement(catalogue, table, request)
        result = await self._run(request, statement)
        rows = Rows.of(result)
        if rows.total is not None:
            rows = replace(rows, total=max(rows.total, rows.count))
        call.rows, call.keys = rows.count, rows.keys
        call.reads = self._reads(statement, result)
        return read_answer(request, rows, offset)

    def _read_statement(
        self, catalogue: Catalogue, table: CatalogueTable, request: DataRequest
    ) -> tuple[Statement, int]:
        """The statement of a read, and how many rows it leaves out first."""
        counting = _counting(request)
        keys = table.may_return_key(request.caller.role)

        def make(parameters: Sequence[tuple[str, str]]) -> tuple[Statement, int]:
            found = parse_query(parameters).selection
            selection = with_range(found, request.headers.get("range", ""))
            statement = read_statement(
                *(catalogue, table, selection),
                rows_max=self._rows_max,
                keys=keys,
                total=counting,
                told_as=self._told_as(request),
            )
            return statement, selection.offset

        if "range" in request.headers:
            return make(request.parameters)
        shape = Shape.of(request.parameters)
        # The role decides which keys of embedded rows may be read.
        key = (table.place, request.caller.role, counting, shape.key)
        plans = self._plans_of(catalogue)
        plan = plans.find(key)
        if plan is None:
            try:
                marked, offset = make(shape.marked(self._marker))
            except ApiError:
                return make(request.parameters)  # whose error tells what was asked
            plan = ReadPlan.of(marked, shape, self._marker, offset)
            if plan is None:
                return make(request.parameters)
            plans.keep(key, plan)
        return plan.fill(shape), plan.offset

    def _plans_of(self, catalogue: Catalogue) -> ReadPlans:
        if catalogue is not self._planned_for:
            self._plans, self._planned_for = ReadPlans(), catalogue
        return self._plans

    async def _write(
        self,
        catalogue: Catalogue,
        table: CatalogueTable,
        query: Query,
        request: DataRequest,
        call: ApiCall,
        commit: Commit,
    ) -> Answer:
        statement = _write_statement(catalogue, table, query, request, self._told_as(request))
        async with self._written(request, statement, call) as result:
            rows = Rows.of(result)
            call.rows, call.keys = rows.count, rows.keys
            answer = write_answer(table.name, request, rows)
            await self._end(statement, result, request, call, answer, commit)
        return answer

    def _written(
        self, request: DataRequest, statement: Statement, call: ApiCall
    ) -> AbstractAsyncContextManager[PGresult]:
        return self._database.write(
            *(request.caller, request.method, request.path, statement, call.chain),
            keep=not request.preferences.rollback,
        )

    async def _end(
        self,
        statement: Statement,
        result: PGresult,
        request: DataRequest,
        call: ApiCall,
        answer: Answer,
        commit: Commit,
        *,
        called: bool = False,
    ) -> None:
        """Before a write is committed: its event; one that is undone tells of nothing else."""
        if request.preferences.rollback:
            call.rolled_back = True
            return
        call.reads = self._reads(statement, result, called=called)
        await commit(answer)

    async def _call(
        self,
        catalogue: Catalogue,
        found: Sequence[CatalogueFunction],
        request: DataRequest,
        call: ApiCall,
        commit: Commit,
    ) -> Answer:
        if request.method not in ("GET", "HEAD", "POST"):
            raise ApiError(405, "PGRST101", "Only GET, HEAD and POST are allowed for functions")
        body: bytes | None = None
        if request.method == "POST":
            given = _arguments(request)
            body, names = given.text, frozenset(given.names)
            query = parse_query(request.parameters)
        else:
            given_names = {name for name, value in request.parameters if not is_filter(name, value)}
            known = {argument.name for one in found for argument in one.arguments}
            query = parse_query(request.parameters, known | given_names)
            names = frozenset(name for name, _ in query.arguments)
        function = choose_function(found, request.name, names)
        rows = function.rows
        if rows is not None and function.result is not None:
            rows = catalogue.tables.get(function.result, rows)
        query = replace(
            query, selection=with_range(query.selection, request.headers.get("range", ""))
        )
        statement = call_statement(
            catalogue,
            function,
            rows,
            query,
            body,
            names,
            rows_max=self._rows_max,
            total="exact" if request.preferences.count is not None else None,
            told_as=self._told_as(request) if function.result in catalogue.tables else None,
        )
        if request.read_only or not function.volatile:
            result = await self._run(request, statement)
            call.rows, call.keys = _rows_of(function, result)
            call.reads = self._reads(statement, result, called=True)
            return call_answer(function, request, result, query.selection.offset)
        async with self._written(request, statement, call) as result:
            call.rows, call.keys = _rows_of(function, result)
            answer = call_answer(function, request, result, query.selection.offset)
            await self._end(statement, result, request, call, answer, commit, called=True)
        return answer

    def _told_as(self, request: DataRequest) -> Role | None:
        return None if self.telling == "off" else request.caller.role

    def _reads(
        self, statement: Statement, result: PGresult, *, called: bool = False
    ) -> tuple[TableRead, ...]:
        """The rows in an answer that no policy tells of.

        A function may read as its owner, whom policies need not hold: its rows are told here.
        """
        found: list[TableRead] = []
        for read in statement.reads:
            if not called and read.told is not None and result.get_value(0, read.told) == b"t":
                continue
            place = ReadPlace(
                *("postgresql", self.name, self._database_name), read.schema, read.table
            )
            keys = result.get_value(0, read.keys)
            if read.keys == KEYS_COLUMN:
                found.append(TableRead(place, int(result.get_value(0, 0) or b"0"), keys))
            elif keys is not None:
                found.append(TableRead(place, *distinct_keys(keys)))
        return tuple(found)

    async def _run(self, request: DataRequest, statement: Statement) -> PGresult:
        return await self._database.read(request.caller, request.method, request.path, statement)


def _counting(request: DataRequest) -> Counting:
    count = request.preferences.count
    return "exact" if count == "exact" else "estimated" if count is not None else None


def _write_statement(
    catalogue: Catalogue,
    table: CatalogueTable,
    query: Query,
    request: DataRequest,
    told_as: Role | None,
) -> Statement:
    representation = request.preferences.returned == "representation"
    keys = table.may_return_key(request.caller.role)
    picks = request.method in ("PATCH", "DELETE") and bool(query.selection.where)
    if table.row_security and not representation and not picks:
        # Giving back the key of a row that the caller may write and not read is refused by
        # PostgreSQL; who asks for nothing back must not be refused for it.
        keys = request.caller.role == "service_role" and keys
    answering = Answering(representation, keys, told_as if representation else None)
    if request.method == "DELETE":
        return delete_statement(catalogue, table, query, answering=answering)
    body = read_body(request.body, request.headers.get("content-type", ""))
    names = query.columns if query.columns is not None else body.names
    if request.method == "PATCH":
        if body.count != 1:
            raise ApiError(
                400, "PGRST102", "Empty or invalid json", details="PATCH takes one object"
            )
        if not names:
            return Statement("select '0', '[]', null, null")
        return update_statement(catalogue, table, query, body.text, names, answering=answering)
    upsert = _upsert(table, query, request)
    if request.method == "PUT":
        upsert = _checked_put(table, query, body)
    if not body.alike and query.columns is None and not request.preferences.missing_default:
        raise ApiError(
            400,
            "PGRST102",
            "All object keys must match",
            hint="Give each object the same keys, name the columns with ?columns=, or send "
            "Prefer: missing=default",
        )
    if body.count == 0 or (not names and body.count > 1):
        return Statement("select '0', '[]', null, null")
    return insert_statement(
        catalogue,
        table,
        query,
        body.text,
        names,
        defaults=request.preferences.missing_default,
        upsert=upsert,
        answering=answering,
    )


def _upsert(table: CatalogueTable, query: Query, request: DataRequest) -> Upsert | None:
    resolution = request.preferences.resolution
    if resolution is None:
        return None
    return Upsert(query.on_conflict or table.key, resolution == "merge-duplicates")


def _checked_put(table: CatalogueTable, query: Query, body: RequestBody) -> Upsert:
    """A PUT replaces the one row whose key stands in the address and in the body."""
    selection = query.selection
    if selection.limit is not None or selection.offset:
        raise ApiError(
            400, "PGRST114", "limit/offset querystring parameters are not allowed for PUT"
        )
    asked = {
        one.field.name: one.value
        for one in selection.where
        if isinstance(one, Condition)
        and one.operator == "eq"
        and not one.negated
        and not one.field.path
        and one.quantifier is None
    }
    if not table.key or len(asked) != len(selection.where) or set(asked) != set(table.key):
        raise ApiError(
            405,
            "PGRST105",
            "Filters must include all and only primary key columns with 'eq' operators",
        )
    value = decode(body.text)
    found = value[0] if isinstance(value, list) and len(value) == 1 else value
    if not isinstance(found, dict) or any(
        _plain(found.get(name)) != asked[name] for name in table.key
    ):
        raise ApiError(
            400,
            "PGRST115",
            "Payload values do not match URL in primary key column(s)",
        )
    return Upsert(table.key, True)


def _rows_of(function: CatalogueFunction, result: PGresult) -> tuple[int | None, bytes | None]:
    """How many rows a function gave, and their keys where they are a table's."""
    if function.rows is None:
        return None, None
    rows = Rows.of(result)
    return rows.count, rows.keys if function.result is not None else None


def _plain(value: object) -> str:
    return value if isinstance(value, str) else str(value)


def _arguments(request: DataRequest) -> RequestBody:
    if not request.body.strip():
        return RequestBody(b"{}", 1, (), False)
    body = read_body(request.body, request.headers.get("content-type", ""))
    if body.is_array:
        raise ApiError(
            400,
            "PGRST102",
            "Empty or invalid json",
            details="found an array, expected an object with the function's arguments",
        )
    return body


def _tables_hint(catalogue: Catalogue, schema: str) -> str:
    names = [name for place, name in catalogue.tables if place == schema]
    return f"The tables of {schema} in {catalogue.source} are: {', '.join(names) or 'none'}"[:1000]
