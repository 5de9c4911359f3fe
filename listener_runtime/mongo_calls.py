"""What runs do to one MongoDB source: the `mongo.*` calls.

A write is a transaction whose first operation inserts a marker into `rowcast_chain`: its field
`chain` tells capture which listeners caused what follows (cdc/mongo_stream reads it). The marker
is also the record of the effect: its _id is (listener, event, step), so a retry finds that the
step was taken and gets the answer of then. An index lets markers go after a week.
https://www.mongodb.com/docs/manual/core/transactions/
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final, TypeAlias, cast

from bson import CodecOptions
from bson.errors import BSONError
from bson.raw_bson import RawBSONDocument
from pymongo import AsyncMongoClient
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.command_cursor import AsyncCommandCursor
from pymongo.asynchronous.cursor import AsyncCursor
from pymongo.errors import DuplicateKeyError, OperationFailure, PyMongoError

from events.json_codec import JsonObject, JsonValue, decode_object, encode
from events.run import RunRequest
from listener_runtime.errors import HostCallError
from listener_runtime.host_call_steps import Steps
from listener_runtime.mongo_abandoned import APP_NAME, end_abandoned_transactions
from listener_runtime.mongo_arguments import (
    Aggregate,
    Count,
    Delete,
    Find,
    FindOne,
    Insert,
    MongoArguments,
    Update,
)
from listener_runtime.mongo_documents import (
    CHAIN_COLLECTION,
    collection_name,
    document,
    json_document,
    json_value,
    pipeline,
    sort_keys,
    update_document,
)
from listener_runtime.mongo_failure import host_call_error
from listener_runtime.settings import MongoAccess

_log = logging.getLogger(__name__)

DOCUMENTS_MAX: Final = 10_000
RESULT_BYTES_MAX: Final = 8 * 1024 * 1024
_KEPT_S: Final = 7 * 24 * 3600
_ATTEMPTS: Final = 10
_FIRST_PAUSE_S: Final = 0.01
_LOOKED_FROM: Final = 7
"""From this attempt on, after more than a second, transactions left open are looked for."""
_SELECTION_TIMEOUT: Final = re.compile(r"[?&]serverselectiontimeoutms=(\d+)", re.IGNORECASE)
_SELECTION_TIMEOUT_MS: Final = 3_000
_NOT_IN_TRANSACTION: Final = 263
_RAW: Final = CodecOptions[Mapping[str, object]](document_class=RawBSONDocument)

Bson: TypeAlias = "Mapping[str, object]"
Collection: TypeAlias = "AsyncCollection[Bson]"
Effect: TypeAlias = "Callable[[AsyncClientSession], Awaitable[JsonObject]]"


class MongoDatabase:
    """A source as all runs share it: its client, and whether its markers are looked after."""

    def __init__(self, source: str, access: MongoAccess) -> None:
        self.source = source
        self._access = access
        self._client: AsyncMongoClient[Bson] | None = None
        self._markers_expire = False

    @property
    def client(self) -> AsyncMongoClient[Bson]:
        """The client, made in the event loop that uses it."""
        if self._client is None:
            uri = self._access.uri
            set_ms = _SELECTION_TIMEOUT.search(uri)
            self._client = AsyncMongoClient(
                uri,
                appname=APP_NAME,
                tz_aware=True,
                serverSelectionTimeoutMS=int(set_ms[1]) if set_ms else _SELECTION_TIMEOUT_MS,
            )
        return self._client

    def collection(self, name: str) -> Collection:
        """A collection, whose documents are read as they are."""
        return self.client[self._access.database].get_collection(name, codec_options=_RAW)

    async def expire_markers(self) -> None:
        """See to it once that markers do not pile up."""
        if self._markers_expire:
            return
        try:
            await self.collection(CHAIN_COLLECTION).create_index(
                "at", name="at", expireAfterSeconds=_KEPT_S
            )
        except OperationFailure as error:
            _log.warning(
                "%s: markers in %s will not go by themselves, for want of an index on `at`: %s",
                self.source,
                CHAIN_COLLECTION,
                error,
            )
        self._markers_expire = True

    async def create(self, name: str) -> None:
        """Make a collection that cannot be made inside a transaction."""
        await self.client[self._access.database].create_collection(name, check_exists=False)

    async def close(self) -> None:
        """Close all connections."""
        if self._client is not None:
            await self._client.close()


class MongoRun:
    """A run's use of a source; `deadline_s` is when it must be over, by time.monotonic()."""

    def __init__(
        self, database: MongoDatabase, run: RunRequest, steps: Steps, deadline_s: float
    ) -> None:
        self._database = database
        self._run = run
        self._steps = steps
        self._deadline_s = deadline_s

    async def call(self, arguments: MongoArguments) -> JsonObject:
        """Carry a call out; raises HostCallError where it cannot be."""
        with self._told():
            collection = self._database.collection(collection_name(arguments.collection))
            match arguments:
                case Insert():
                    return await self._insert(collection, arguments)
                case Update():
                    return await self._update(collection, arguments)
                case Delete():
                    return await self._delete(collection, arguments)
                case _:
                    return await self._read(collection, arguments)

    async def _read(
        self, collection: Collection, arguments: Find | FindOne | Count | Aggregate
    ) -> JsonObject:
        match arguments:
            case Find():
                return {"documents": [*await self._find(collection, arguments)]}
            case FindOne():
                found = await self._find(collection, arguments)
                return {"document": found[0] if found else None}
            case Count():
                wanted = _filter(arguments.filter)
                count = await collection.count_documents(wanted, maxTimeMS=self._left_ms)
                return {"count": count}
            case Aggregate():
                stages = pipeline(arguments.pipeline)
                cursor = await collection.aggregate(stages, maxTimeMS=self._left_ms)
                return {"documents": [*await _documents(cursor)]}

    async def _find(self, collection: Collection, arguments: Find | FindOne) -> list[JsonObject]:
        limit = arguments.limit if isinstance(arguments, Find) else 1
        if limit == 0:
            return []
        cursor = collection.find(
            _filter(arguments.filter),
            None if arguments.projection is None else document(arguments.projection, "projection"),
            skip=arguments.skip,
            limit=limit or 0,
            max_time_ms=self._left_ms,
        )
        if arguments.sort:
            cursor = cursor.sort(sort_keys(arguments.sort))
        return await _documents(cursor)

    async def _insert(self, collection: Collection, arguments: Insert) -> JsonObject:
        documents = [document(value, "a document") for value in arguments.documents]
        if not documents:
            return {"ids": []}

        async def insert(session: AsyncClientSession) -> JsonObject:
            done = await collection.insert_many(documents, session=session)
            return {"ids": [json_value(key) for key in cast("list[object]", done.inserted_ids)]}

        return await self._write(arguments, insert)

    async def _update(self, collection: Collection, arguments: Update) -> JsonObject:
        wanted, change = _filter(arguments.filter), update_document(arguments.update)

        async def update(session: AsyncClientSession) -> JsonObject:
            carry_out = collection.update_many if arguments.many else collection.update_one
            done = await carry_out(wanted, change, upsert=arguments.upsert, session=session)
            upserted: JsonValue = (
                None if done.upserted_id is None else json_value(cast("object", done.upserted_id))
            )
            return {
                "matched": done.matched_count,
                "modified": done.modified_count or 0,
                "upserted": upserted,
            }

        return await self._write(arguments, update)

    async def _delete(self, collection: Collection, arguments: Delete) -> JsonObject:
        wanted = _filter(arguments.filter)

        async def delete(session: AsyncClientSession) -> JsonObject:
            carry_out = collection.delete_many if arguments.many else collection.delete_one
            done = await carry_out(wanted, session=session)
            return {"deleted": done.deleted_count}

        return await self._write(arguments, delete)

    async def _write(self, arguments: Insert | Update | Delete, effect: Effect) -> JsonObject:
        """The effect in a transaction of its own, tried again where MongoDB says so."""
        step = self._steps.take(self._database.source, *arguments.content())
        done = False
        try:
            await self._database.expire_markers()
            answer = await self._write_step(arguments.collection, step, effect)
            done = True
        finally:
            if not done:
                self._steps.give_back(step)
        return answer

    async def _write_step(self, collection: str, step: str, effect: Effect) -> JsonObject:
        pause_s = _FIRST_PAUSE_S
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return await self._write_once(step, effect)
            except OperationFailure as error:
                if attempt == _ATTEMPTS:
                    raise
                if error.code == _NOT_IN_TRANSACTION:
                    await self._database.create(collection)
                elif not error.has_error_label("TransientTransactionError"):
                    raise
            except PyMongoError as error:
                if attempt == _ATTEMPTS or not error.has_error_label("TransientTransactionError"):
                    raise
            if attempt >= _LOOKED_FROM:
                await end_abandoned_transactions(self._database.client)
            await asyncio.sleep(pause_s * random.uniform(0.8, 1.2))  # noqa: S311 - jitter
            pause_s *= 2
        raise AssertionError("the last attempt returns or raises")

    async def _write_once(self, step: str, effect: Effect) -> JsonObject:
        markers = self._database.collection(CHAIN_COLLECTION)
        chain = self._run.chain.extended(self._run.listener)
        key = {"listener": self._run.listener, "event": self._run.event_id, "step": step}
        marker = {
            "_id": key,
            "chain": {"root": chain.root, "path": list(chain.path)},
            "at": datetime.now(UTC),
        }
        async with self._database.client.start_session() as session:
            await session.start_transaction()
            try:
                await markers.insert_one(marker, session=session)
            except DuplicateKeyError:
                await session.abort_transaction()
                return await self._recorded(markers, key)
            # An error inside aborts: leaving the session's block does.
            answer = await effect(session)
            kept = {"$set": {"result": encode(answer).decode()}}
            await markers.update_one({"_id": key}, kept, session=session)
            await _commit(session)
        return answer

    async def _recorded(self, markers: Collection, key: Bson) -> JsonObject:
        found = await markers.find_one({"_id": key})
        result = found.get("result") if found is not None else None
        if not isinstance(result, str):
            raise HostCallError("the record of this call is gone; run it again")
        return decode_object(result)

    @property
    def _left_ms(self) -> int:
        """What the server is told; a call that is cancelled closes its connection besides."""
        return max(1, round((self._deadline_s - time.monotonic()) * 1_000))

    @contextmanager
    def _told(self) -> Generator[None]:
        """Errors of PyMongo as what the guest is told."""
        try:
            yield
        except (PyMongoError, BSONError, OverflowError, TypeError, ValueError) as error:
            # PyMongo checks arguments with the latter two.
            raise host_call_error(self._database.source, error) from error


async def _commit(session: AsyncClientSession) -> None:
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            await session.commit_transaction()
        except PyMongoError as error:
            if attempt == _ATTEMPTS or not error.has_error_label("UnknownTransactionCommitResult"):
                raise
        else:
            return


async def _documents(cursor: AsyncCursor[Bson] | AsyncCommandCursor[Bson]) -> list[JsonObject]:
    """What a cursor gives, no more than a guest may have."""
    found: list[JsonObject] = []
    left = RESULT_BYTES_MAX
    async with cursor:
        async for each in cursor:
            raw = cast("RawBSONDocument", each)
            left -= len(raw.raw)
            if len(found) >= DOCUMENTS_MAX or left < 0:
                raise HostCallError(
                    f"found more than {DOCUMENTS_MAX} documents or {RESULT_BYTES_MAX} bytes, "
                    "expected fewer: give a limit, a projection or a narrower filter"
                )
            found.append(json_document(raw))
    return found


def _filter(value: object) -> Bson:
    return document(value, "filter")
