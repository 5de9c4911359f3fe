"""The data API over the collections of one MongoDB database, which must be a replica set.

A write is a transaction that is committed once its event is on Kafka. MongoDB knows no policies: a
collection is open to service_role, and to other roles as the configuration names it.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias, cast

from bson import json_util
from bson.errors import BSONError
from pymongo import AsyncMongoClient
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import (
    BulkWriteError,
    ConnectionFailure,
    InvalidOperation,
    OperationFailure,
    PyMongoError,
)

from api.answer import Answer
from api.api_event import ApiCall
from api.catalogue import Collections
from api.content_range import with_range
from api.data_request import DataRequest
from api.data_source import Commit
from api.errors import ApiError, SourceUnavailableError, UnknownNameError
from api.mongo_change import MongoChange
from api.mongo_query import (
    OPTIONS,
    Document,
    filter_document,
    keys_of,
    shown_document,
    sort_keys,
)
from api.query_parser import parse_query
from api.query_tree import Query
from api.rows_answer import Rows, read_answer, write_answer
from api.settings import ApiSettings, MongoApiSource
from api.table_read import ReadPlace, TableRead, Telling
from events.call_mark import mark_call
from events.json_codec import JsonObject, decode_object, encode

_SELECTION_MS: Final = 5_000
_KNOWN_S: Final = 2.0
_TIMED_OUT: Final = 50
_WRITE_CONFLICT: Final = 112
_STATUSES: Final = {11000: 409, 11001: 409, 50: 504, 121: 400, 13: 403, 112: 503}

Collection = AsyncCollection[Document]
Mending: TypeAlias = Callable[[AsyncMongoClient[Document]], Awaitable[int]]
"""Ends transactions that a killed process left open, which conflicts come from; says how many."""


class MongoData:
    """Answers calls on the collections of one source."""

    def __init__(
        self,
        name: str,
        source: MongoApiSource,
        settings: ApiSettings,
        mending: Mending | None = None,
    ) -> None:
        self._mending = mending
        self.name = name
        self.default_schema = source.database
        self._source = source
        self.telling: Telling = source.reads
        self._marks = source.reads != "off"
        self._secret = settings.chain_secret
        self._rows_max = settings.rows_max
        self._timeout_ms = int(settings.statement_timeout_s * 1_000)
        self._client: AsyncMongoClient[Document] | None = None
        self._names: frozenset[str] = frozenset()
        self._looked_s = -1e9

    async def open(self) -> None:
        """Connections are made when they are needed."""
        self._client = AsyncMongoClient(
            self._source.uri,
            serverSelectionTimeoutMS=_SELECTION_MS,
            tz_aware=True,
            appname="rowcast api",
        )

    async def close(self) -> None:
        """End all connections."""
        if self._client is not None:
            await self._client.close()

    async def catalogue(self) -> Collections:
        """The collections there are now."""
        await self._look()
        return Collections(self.name, tuple(sorted(self._names)), self._source.access)

    async def has(self, request: DataRequest, *, since_s: float) -> bool:
        """Whether the collection is here."""
        if request.is_function:
            return False
        if self._looked_s < max(time.monotonic() - _KNOWN_S, since_s):
            await self._look()
        return request.name in self._names

    async def has_schema(self, schema: str) -> bool:
        """Whether it is the database's name."""
        return schema == self._source.database

    async def answer(self, request: DataRequest, call: ApiCall, commit: Commit) -> Answer:
        """Carry out a call; what is learnt of it on the way is noted in `call`.

        Raises ApiError where it is refused or fails.
        """
        if request.is_function:
            raise ApiError(404, "PGRST202", "MongoDB has no functions to call")
        self._check_role(request)
        if request.schema not in ("", self._source.database) or not await self.has(
            request, since_s=0.0
        ):
            raise UnknownNameError(
                404,
                "PGRST205",
                f"Could not find the collection '{request.name[:200]}' in {self.name}",
                hint=f"The collections are: {', '.join(sorted(self._names))}"[:1_000],
            )
        query = parse_query(request.parameters)
        collection = self._database()[request.name]
        try:
            # What the data API tells of itself, MongoDB's profiler need not tell again.
            mark = mark_call(call.id, self._secret, call.begun_ms) if self._marks else None
            if request.read_only:
                return await self._read(collection, query, request, call, mark)
            try:
                return await self._write(collection, query, request, call, commit, mark)
            except OperationFailure as error:
                if not await self._mended(error):
                    raise
                return await self._write(collection, query, request, call, commit, mark)
        except PyMongoError as error:
            raise _failure(self.name, error) from error
        except (BSONError, OverflowError, RecursionError) as error:
            raise ApiError(
                400, "PGRST102", "BSON cannot hold what was sent", details=str(error)[:500]
            ) from error

    async def _mended(self, error: OperationFailure) -> bool:
        """Whether what a write met has been ended, so that it can be tried again."""
        if self._mending is None or self._client is None or error.code != _WRITE_CONFLICT:
            return False
        return await self._mending(self._client) > 0

    async def _look(self) -> None:
        looked_s = time.monotonic()
        try:
            names = await self._database().list_collection_names()
        except PyMongoError as error:
            raise _failure(self.name, error) from error
        self._names = frozenset(one for one in cast("list[str]", names) if _is_users(one))
        self._looked_s = looked_s

    async def _read(
        self,
        collection: Collection,
        query: Query,
        request: DataRequest,
        call: ApiCall,
        mark: str | None,
    ) -> Answer:
        selection = with_range(query.selection, request.headers.get("range", ""))
        wanted = filter_document(selection)
        limit = min(self._rows_max, self._rows_max if selection.limit is None else selection.limit)
        found: list[Document] = []
        if limit:
            cursor = collection.find(
                wanted,
                sort=sort_keys(selection.order) or None,
                skip=selection.offset,
                limit=limit,
                max_time_ms=self._timeout_ms,
                comment=mark,
            )
            found = await cursor.to_list()
        total: int | None = None
        if request.preferences.count == "exact" or (request.preferences.count and wanted):
            total = await collection.count_documents(
                wanted, maxTimeMS=self._timeout_ms, comment=mark
            )
        elif request.preferences.count:
            total = await collection.estimated_document_count(
                maxTimeMS=self._timeout_ms, comment=mark
            )
        rows = _rows(found, query, total)
        call.rows, call.keys = rows.count, rows.keys
        call.reads = self._reads(request, rows)
        return read_answer(request, rows, selection.offset)

    async def _write(
        self,
        collection: Collection,
        query: Query,
        request: DataRequest,
        call: ApiCall,
        commit: Commit,
        mark: str | None,
    ) -> Answer:
        # Before anything is written, so that a bad one is refused whatever it finds.
        change = MongoChange.of(query, request)
        async with (
            self._database().client.start_session() as session,
            await session.start_transaction(),
        ):
            if call.chain is not None:
                await self._mark(session, call)
            written = await change.run(collection, session, self._timeout_ms, mark)
            rows = _rows(written, query, None)
            call.rows, call.keys = rows.count, rows.keys
            answer = write_answer(request.name, request, rows)
            if request.preferences.rollback:
                call.rolled_back = True
                await session.abort_transaction()
                return answer
            if request.preferences.returned == "representation":
                call.reads = self._reads(request, rows)
            await commit(answer)
        return answer

    def _reads(self, request: DataRequest, rows: Rows) -> tuple[TableRead, ...]:
        database = self._source.database
        place = ReadPlace("mongodb", self.name, database, database, request.name)
        return (TableRead(place, rows.count, rows.keys),)

    async def _mark(self, session: AsyncClientSession, call: ApiCall) -> None:
        """Say in the transaction which chain its changes are of; capture reads it."""
        chain = call.chain
        if chain is not None:
            marker: Document = {
                "_id": {"call": call.id},
                "chain": {"root": chain.root, "path": list(chain.path)},
            }
            await self._database()["rowcast_chain"].insert_one(marker, session=session)

    def _check_role(self, request: DataRequest) -> None:
        role = request.caller.role
        writing = not request.read_only
        if not self._source.access.allows(role, request.name, writing=writing):
            key = "api_read" if request.read_only else "api_write"
            raise ApiError(
                403,
                "42501",
                f"permission denied for collection {request.name[:200]}",
                hint=f'Open it to the role in rowcast.toml: {key} = {{ {role} = ["..."] }} in '
                f"[sources.{self.name}], or use a token of service_role",
            )

    def _database(self) -> Any:
        if self._client is None:
            raise SourceUnavailableError(self.name, "it is not open")
        return self._client[self._source.database]


def _is_users(name: str) -> bool:
    return not name.startswith(("system.", "rowcast_"))


def _rows(found: list[Document], query: Query, total: int | None) -> Rows:
    shown = [shown_document(_json(document), query.selection) for document in found]
    return Rows(len(found), encode(shown), keys_of(found), total)


def _json(document: Document) -> JsonObject:
    return decode_object(json_util.dumps(document, json_options=OPTIONS))


def _failure(source: str, error: PyMongoError) -> ApiError:
    """What MongoDB says, as the client reads it."""
    if isinstance(error, ConnectionFailure):
        return SourceUnavailableError(source, str(error)[:500])
    code = error.code if isinstance(error, OperationFailure) else None
    message = str(error).partition(", full error")[0]
    if isinstance(error, BulkWriteError):
        first = cast("list[Document]", (error.details or {}).get("writeErrors") or [{}])[0]
        code, message = cast("int", first.get("code", code)), str(first.get("errmsg", message))
    if error.has_error_label("TransientTransactionError"):
        return ApiError(503, "RC503", "The transaction met another one", hint="Repeat the call")
    if isinstance(error, InvalidOperation) or code is None:
        return ApiError(400, "RC400", message[:1_000])
    return ApiError(_STATUSES.get(code, 400), f"MONGO{code}", message[:1_000])
