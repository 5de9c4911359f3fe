"""The host's side of `g`: what a guest may ask of databases, HTTP servers and the cache.

`HostCalls` is one for a pool and holds what runs share (connections, policy); `RunCalls` is one
for a run and holds what ends with it (open transactions, calls in flight, its time). The name and
the arguments of a call are whatever the guest has written: they are checked here, and nothing but
HostCallError comes out, whose message the guest reads.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Final, TypeAlias, TypeVar

import msgspec

from events.errors import MailError
from events.json_codec import JsonObject, JsonValue, decode
from events.mail import Mail
from events.run import RunRequest
from listener_runtime import cache
from listener_runtime.address_policy import AddressPolicy
from listener_runtime.api_calls import ApiArguments, ApiCalls
from listener_runtime.cache import Cache, EmbeddedCache
from listener_runtime.errors import HostCallError
from listener_runtime.host_call_steps import Steps, idempotency_key
from listener_runtime.http_calls import HttpCalls
from listener_runtime.http_request import RequestArguments
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
from listener_runtime.mongo_calls import MongoDatabase, MongoRun
from listener_runtime.own_service import OwnService
from listener_runtime.postgres_arguments import Begin, End, Execute, Fetch, FetchOne
from listener_runtime.postgres_calls import PostgresRun, PostgresTransaction
from listener_runtime.postgres_database import PostgresDatabase
from listener_runtime.postgres_statement import Statement
from listener_runtime.redis_cache import RedisCache
from listener_runtime.settings import HostSettings, PostgresAccess
from listener_runtime.smtp_sender import SmtpSender

_log = logging.getLogger(__name__)

TRANSACTIONS_MAX: Final = 4
MAILS_MAX: Final = 100

_MONGO: Final[dict[str, type[MongoArguments]]] = {
    "mongo.find": Find,
    "mongo.find_one": FindOne,
    "mongo.insert": Insert,
    "mongo.update": Update,
    "mongo.delete": Delete,
    "mongo.aggregate": Aggregate,
    "mongo.count": Count,
}
_POSTGRES: Final = (
    *("db.execute", "db.fetch", "db.fetch_one"),
    *("db.begin", "db.commit", "db.rollback"),
)
CALL_NAMES: Final = (
    *(*_POSTGRES, *_MONGO, "http.request", "api.request"),
    *("cache.get", "cache.set", "cache.delete", "mail.send"),
)

_Arguments = TypeVar("_Arguments", bound=msgspec.Struct)
_Handler: TypeAlias = "Callable[[JsonObject], Coroutine[None, None, JsonObject]]"


class HostCalls:
    """What all runs of a pool share.

    Raises SandboxError where the settings of HTTP are wrong.
    """

    def __init__(self, settings: HostSettings) -> None:
        self.http = HttpCalls(
            AddressPolicy.parse(settings.http_allow, settings.http_private),
            own=OwnService(settings.http_own, settings.chain_secret),
        )
        self.apis = ApiCalls(settings.service_url, settings.chain_secret)
        self.cache: Cache = (
            RedisCache(settings.cache, settings.cache_prefix)
            if settings.cache
            else EmbeddedCache(time.monotonic)
        )
        self.mail = SmtpSender(settings.smtp)
        self.databases: dict[str, PostgresDatabase | MongoDatabase] = {
            name: PostgresDatabase(name, access.dsn)
            if isinstance(access, PostgresAccess)
            else MongoDatabase(name, access)
            for name, access in settings.databases.items()
        }

    def open(self, run: RunRequest) -> RunCalls:
        """The calls of one run, whose time begins now."""
        return RunCalls(self, run)

    async def close(self) -> None:
        """Close all connections; runs must be closed before."""
        for database in self.databases.values():
            await database.close()
        await self.http.close()
        await self.apis.close()
        await self.cache.close()


class RunCalls:
    """The calls of one run."""

    def __init__(self, shared: HostCalls, run: RunRequest) -> None:
        self._shared = shared
        self._run = run
        self._steps = Steps()
        self._deadline_s = time.monotonic() + run.timeout_s
        self._transactions: dict[int, PostgresTransaction] = {}
        self._opened = 0
        self._opening = 0
        self._mails = 0
        self._in_flight: set[asyncio.Task[JsonObject]] = set()
        self._closed = False
        self._handlers: dict[str, _Handler] = {
            "db.execute": self._execute,
            "db.fetch": self._fetch,
            "db.fetch_one": self._fetch_one,
            "db.begin": self._begin,
            "db.commit": self._commit,
            "db.rollback": self._rollback,
            "http.request": self._request,
            "api.request": self._api_request,
            "cache.get": self._cache_get,
            "cache.set": self._cache_set,
            "cache.delete": self._cache_delete,
            "mail.send": self._send_mail,
            **{name: functools.partial(self._mongo, name) for name in _MONGO},
        }

    async def call(self, name: str, args: JsonObject) -> JsonValue:
        """Carry out what the guest asks for.

        Raises HostCallError for everything that it can be told.
        """
        if self._closed:
            raise HostCallError("the run has ended")
        handler = self._handlers.get(name)
        if handler is None:
            raise HostCallError(
                f"found the call {name[:80]!r}, expected one of {', '.join(CALL_NAMES)}"
            )
        task = asyncio.create_task(self._in_time(name, handler, args))
        self._in_flight.add(task)
        try:
            return await task
        except asyncio.CancelledError:
            if not self._closed or _is_cancelling():
                raise
            raise HostCallError("the run has ended") from None
        finally:
            self._in_flight.discard(task)

    async def close(self) -> None:
        """End what the run has left: calls in flight are cancelled, transactions rolled back."""
        self._closed = True
        in_flight = [*self._in_flight]
        for task in in_flight:
            task.cancel()
        await asyncio.gather(*in_flight, return_exceptions=True)
        for transaction in [*self._transactions.values()]:
            await transaction.abandon()
        self._transactions.clear()

    async def _in_time(self, name: str, handler: _Handler, args: JsonObject) -> JsonObject:
        limit = asyncio.timeout(max(0.0, self._deadline_s - time.monotonic()))
        try:
            async with limit:
                return await handler(args)
        except TimeoutError as error:
            raise HostCallError(
                f"{name} took longer than what was left of the run's {self._run.timeout_s} s"
            ) from error
        except HostCallError:
            raise
        except Exception as error:
            # The guest chooses the arguments; what we did not foresee must not end the pool.
            _log.exception("the call %s of %s failed unexpectedly", name, self._run.listener)
            raise HostCallError(f"{name} failed: {type(error).__name__}") from error

    async def _execute(self, args: JsonObject) -> JsonObject:
        given = _convert("db.execute", args, Execute)
        statement = Statement("execute", given.sql, tuple(given.params))
        return await self._statement("db.execute", given.source, given.tx, statement)

    async def _fetch(self, args: JsonObject) -> JsonObject:
        given = _convert("db.fetch", args, Fetch)
        statement = Statement("fetch", given.sql, tuple(given.params), given.limit)
        return await self._statement("db.fetch", given.source, given.tx, statement)

    async def _fetch_one(self, args: JsonObject) -> JsonObject:
        given = _convert("db.fetch_one", args, FetchOne)
        statement = Statement("fetch_one", given.sql, tuple(given.params))
        return await self._statement("db.fetch_one", given.source, given.tx, statement)

    async def _statement(
        self, name: str, source: str | None, tx: int | None, statement: Statement
    ) -> JsonObject:
        if tx is None:
            if source is None:
                raise HostCallError(f"{name}: found no source, expected one of {self._sources()}")
            return await self._postgres(name, source).call(statement)
        transaction = self._transaction(tx)
        if source not in {None, transaction.source}:
            raise HostCallError(
                f"{name}: the transaction is one of {transaction.source!r}, found {source!r}"
            )
        return await transaction.call(statement)

    async def _begin(self, args: JsonObject) -> JsonObject:
        given = _convert("db.begin", args, Begin)
        run = self._postgres("db.begin", given.source)
        if len(self._transactions) + self._opening >= TRANSACTIONS_MAX:
            raise HostCallError(
                f"found {TRANSACTIONS_MAX} open transactions, which is the most for one run; "
                "commit or roll back one of them"
            )
        self._opening += 1
        try:
            transaction = await run.begin()
        finally:
            self._opening -= 1
        self._opened += 1
        self._transactions[self._opened] = transaction
        return {"tx": self._opened}

    async def _commit(self, args: JsonObject) -> JsonObject:
        tx = _convert("db.commit", args, End).tx
        transaction = self._transaction(tx)
        try:
            await transaction.commit()
        finally:
            self._transactions.pop(tx, None)
        return {}

    async def _rollback(self, args: JsonObject) -> JsonObject:
        tx = _convert("db.rollback", args, End).tx
        transaction = self._transaction(tx)
        try:
            await transaction.rollback()
        finally:
            self._transactions.pop(tx, None)
        return {}

    async def _mongo(self, name: str, args: JsonObject) -> JsonObject:
        given = _convert(name, args, _MONGO[name])
        database = self._database(given.source)
        if not isinstance(database, MongoDatabase):
            raise HostCallError(
                f"{name}: the source {given.source!r} is a PostgreSQL, which is used with "
                f"{', '.join(_POSTGRES)}"
            )
        return await MongoRun(database, self._run, self._steps, self._deadline_s).call(given)

    async def _request(self, args: JsonObject) -> JsonObject:
        given = _convert("http.request", args, RequestArguments)
        return await self._shared.http.request(given, self._run, self._steps)

    async def _api_request(self, args: JsonObject) -> JsonObject:
        given = _convert("api.request", args, ApiArguments)
        return await self._shared.apis.request(given, self._run, self._steps)

    async def _cache_get(self, args: JsonObject) -> JsonObject:
        given = _convert("cache.get", args, cache.Get)
        value = await cache.get(self._shared.cache, self._run.tenant, given)
        return {} if value is None else {"value": decode(value)}

    async def _cache_set(self, args: JsonObject) -> JsonObject:
        given = _convert("cache.set", args, cache.Set)
        await cache.set_value(self._shared.cache, self._run.tenant, given, args["value"])
        return {}

    async def _cache_delete(self, args: JsonObject) -> JsonObject:
        given = _convert("cache.delete", args, cache.Delete)
        return await cache.delete(self._shared.cache, self._run.tenant, given)

    async def _send_mail(self, args: JsonObject) -> JsonObject:
        mail = _convert("mail.send", args, Mail)
        self._mails += 1
        if self._mails > MAILS_MAX:
            raise HostCallError(f"mail.send: expected {MAILS_MAX} mails of one run at most")
        step = self._steps.take("mail", args)
        key = idempotency_key(self._run.event_id, self._run.listener, step)
        try:
            receipt = await self._shared.mail.send(mail, key)
        except MailError as error:
            # Asking again in the same run is the same mail.
            self._steps.give_back(step)
            raise HostCallError(f"mail.send: {error}") from error
        return {"message_id": receipt.message_id, "refused": {**receipt.refused}}

    def check_mail(self, args: JsonObject) -> JsonObject:
        """What mail.send would answer, for a rehearsal; raises HostCallError."""
        mail = _convert("mail.send", args, Mail)
        key = idempotency_key(
            self._run.event_id, self._run.listener, self._steps.take("mail", args)
        )
        try:
            return {"message_id": self._shared.mail.write(mail, key).message_id, "refused": {}}
        except MailError as error:
            raise HostCallError(f"mail.send: {error}") from error

    def _postgres(self, name: str, source: str) -> PostgresRun:
        database = self._database(source)
        if not isinstance(database, PostgresDatabase):
            raise HostCallError(
                f"{name}: the source {source!r} is a MongoDB, which is used with "
                f"{', '.join(_MONGO)}"
            )
        return PostgresRun(database, self._run, self._steps, self._deadline_s)

    def _database(self, source: str) -> PostgresDatabase | MongoDatabase:
        database = self._shared.databases.get(source)
        if database is None:
            raise HostCallError(f"found the source {source[:80]!r}, expected {self._sources()}")
        return database

    def _transaction(self, tx: int) -> PostgresTransaction:
        transaction = self._transactions.get(tx)
        if transaction is None:
            raise HostCallError(f"found the transaction {tx}, which is not open in this run")
        return transaction

    def _sources(self) -> str:
        return ", ".join(sorted(self._shared.databases)) or "none: rowcast.toml has no [sources]"


def _is_cancelling() -> bool:
    """Whether it is the caller itself that is cancelled."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _convert(name: str, args: JsonObject, struct: type[_Arguments]) -> _Arguments:
    try:
        return msgspec.convert(args, struct)
    except msgspec.ValidationError as error:
        fields = ", ".join(struct.__struct_fields__)
        raise HostCallError(f"{name}: {error}; expected {fields}") from error
