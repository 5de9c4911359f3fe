"""One PostgreSQL source: its connections, its catalogue, and transactions as a caller.

Each transaction works as the role of the caller's token, with the claims where policies read them
(`current_setting('request.jwt.claims', true)::json`), within a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final, TypeAlias

import psycopg
from psycopg.pq.abc import PGresult
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from api.caller import Caller
from api.catalogue import Catalogue
from api.errors import ApiError, SourceUnavailableError
from api.postgres_catalogue import read_catalogue
from api.postgres_session import LostConnectionError, PostgresSession
from api.settings import ApiSettings, PostgresApiSource
from api.statement import Statement
from events.chain import Chain

Connected: TypeAlias = tuple[psycopg.AsyncConnection, PostgresSession]

_log = logging.getLogger(__name__)

_CONNECT_TIMEOUT_S: Final = 5
_WAIT_S: Final = 5.0
_ATTEMPTS: Final = 3
_CATALOGUE_AGE_S: Final = 60.0
_CATALOGUE_PAUSE_S: Final = 0.1

_BEGIN: Final = Statement("begin")
_COMMIT: Final = Statement("commit")
_ROLLBACK: Final = Statement("rollback")
_CONSTRAINTS: Final = Statement("set constraints all immediate")


class PostgresDatabase:
    """Opened before the first call, closed after the last."""

    def __init__(self, name: str, source: PostgresApiSource, settings: ApiSettings) -> None:
        self.name = name
        self._publication = source.publication
        self._pool = AsyncConnectionPool[psycopg.AsyncConnection](
            source.dsn,
            min_size=1,
            # One more, with which the catalogue is read.
            max_size=settings.connections_max + 1,
            open=False,
            timeout=_WAIT_S,
            # What the pool itself kept idle may have been ended too.
            check=AsyncConnectionPool.check_connection,
            kwargs={
                "autocommit": True,
                "connect_timeout": _CONNECT_TIMEOUT_S,
                # Sessions prepare on their own, and close what they prepared.
                "prepare_threshold": None,
                "application_name": "rowcast api",
            },
        )
        self._idle: list[Connected] = []
        self._waiters: deque[asyncio.Future[Connected | None]] = deque()
        self._taken = 0
        self._connections_max = settings.connections_max
        self._closed = False
        self._catalogue: Catalogue | None = None
        self._read_s = -_CATALOGUE_AGE_S
        self._reading = asyncio.Lock()
        timeout_ms = int(settings.statement_timeout_s * 1_000)
        # One statement, so that it is one of those that are prepared.
        self._context = (
            "select pg_catalog.set_config('role', $1, true), "
            "pg_catalog.set_config('request.jwt.claims', $2, true), "
            "pg_catalog.set_config('request.method', $3, true), "
            "pg_catalog.set_config('request.path', $4, true), "
            f"pg_catalog.set_config('statement_timeout', '{timeout_ms}', true), "
            "pg_catalog.set_config('transaction_read_only', $5, true)"
        )

    async def open(self) -> None:
        """Begin to connect; a database that is away is waited for behind the scenes."""
        await self._pool.open(wait=False)

    async def close(self) -> None:
        """End all connections."""
        self._closed = True
        while self._idle:
            connection, session = self._idle.pop()
            session.forget()
            await self._pool.putconn(connection)
        await self._pool.close()

    async def catalogue(self, *, since_s: float = 0.0) -> Catalogue:
        """What there is, at most a minute old, and not older than `since_s` (monotonic).

        It is not read again and again, however many ask for what there is not: they wait for one
        reading. Raises SourceUnavailableError where it cannot be read.
        """
        oldest_s = max(time.monotonic() - _CATALOGUE_AGE_S, since_s)
        if self._catalogue is None or self._read_s < oldest_s:
            async with self._reading:
                if self._catalogue is None or self._read_s < oldest_s:
                    pause_s = self._read_s + _CATALOGUE_PAUSE_S - time.monotonic()
                    await asyncio.sleep(max(0.0, pause_s))
                    begun_s = time.monotonic()
                    self._catalogue = await self._read_catalogue()
                    self._read_s = begun_s
        return self._catalogue

    async def read(self, caller: Caller, method: str, path: str, statement: Statement) -> PGresult:
        """A statement in a transaction that only reads; one round trip.

        Raises ApiError for what PostgreSQL refuses, SourceUnavailableError where it is away.
        """
        context = self._as(caller, method, path, read_only=True)
        connected, results = await self._run_first([context, statement])
        await self._end(connected)
        return results[1]

    @asynccontextmanager
    async def write(
        self,
        caller: Caller,
        method: str,
        path: str,
        statement: Statement,
        chain: Chain | None = None,
        *,
        keep: bool = True,
    ) -> AsyncGenerator[PGresult]:
        """A statement in a transaction that is committed at the end of the block.

        Without `keep` it is rolled back.

        The changes of a call that a listener made carry its `chain` on.

        Constraints that are deferred are checked before the block, so that after it only a
        broken connection is left to go wrong. Raises as `read` does; CommitUnknownError where
        the connection broke while it was committed.
        """
        context = self._as(caller, method, path, read_only=False)
        begin = [_BEGIN] if chain is None else [_BEGIN, _marked(chain)]
        connected, results = await self._run_first([*begin, context, statement, _CONSTRAINTS])
        try:
            yield results[-2]
            if not keep:
                return
            try:
                await connected[1].run([_COMMIT])
            except LostConnectionError as error:
                raise CommitUnknownError(self.name, str(error)) from error
        finally:
            await self._end(connected)

    async def _run_first(self, statements: list[Statement]) -> tuple[Connected, list[PGresult]]:
        """The first round trip of a transaction, and the connection that it is open on.

        The connection is the caller's to `_end`, unless it raises.

        Until then nothing can have been committed, so what a broken connection took along is
        asked again on another, at last on a new one: a server that ends all of them may end each
        only when it is next used.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            connected = await self._begin(look=attempt > 1, new=attempt == _ATTEMPTS)
            try:
                return connected, await connected[1].run(statements)
            except LostConnectionError as error:
                # Given up before the next is asked for, of which there may be no more.
                await self._end(connected)
                if attempt == _ATTEMPTS:
                    raise SourceUnavailableError(self.name, str(error)) from error
            except BaseException:
                await self._end(connected)
                raise
        raise AssertionError

    def _as(self, caller: Caller, method: str, path: str, *, read_only: bool) -> Statement:
        return Statement(
            self._context,
            (
                caller.role.encode(),
                caller.claims,
                method.encode(),
                path.encode(errors="replace").replace(b"\0", b""),
                b"on" if read_only else b"off",
            ),
        )

    async def _begin(self, *, look: bool, new: bool) -> Connected:
        """A connection, which is to be given to `_end` whatever becomes of it.

        With `look` it is one that the server has not ended, as far as can be seen; with `new` none
        that lay idle, of which all are given up.
        """
        while new and self._idle:
            await self._give_back(*self._idle.pop())
        connected = await self._take()
        while look and connected[1].look():
            await self._give_back(*connected)
            connected = await self._take()
        return connected

    async def _end(self, connected: Connected) -> None:
        """Give a connection back outside of any transaction, or not at all."""
        session = connected[1]
        if not session.broken and session.in_transaction:
            with contextlib.suppress(LostConnectionError, ApiError):
                await session.run([_ROLLBACK])
        if session.broken or session.in_transaction or self._closed:
            await self._give_back(*connected)
        else:
            self._pass_on(connected)

    async def _take(self) -> Connected:
        while True:
            # The one used last is the warmest, here and in the server.
            found = self._idle.pop() if self._idle else None
            if found is None and self._taken >= self._connections_max:
                found = await self._wait()
            if found is None:
                if self._taken >= self._connections_max:
                    continue
                return await self._connect()
            if not found[1].was_closed:
                return found
            await self._give_back(*found)

    async def _wait(self) -> Connected | None:
        """A connection that somebody gives back, None where there may be room for a new one."""
        waiter: asyncio.Future[Connected | None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(_WAIT_S):
                return await waiter
        except BaseException as error:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            elif waiter.done() and not waiter.cancelled():
                given = waiter.result()
                if given is not None:
                    self._pass_on(given)
            if isinstance(error, TimeoutError):
                raise SourceUnavailableError(
                    self.name, f"all {self._connections_max} connections are in use"
                ) from error
            raise

    async def _connect(self) -> Connected:
        self._taken += 1
        try:
            while True:
                connection = await self._pool.getconn()
                with contextlib.suppress(psycopg.OperationalError):
                    session = PostgresSession(connection)
                    if not session.look():
                        return connection, session
                    session.forget()
                await connection.close()
                await self._pool.putconn(connection)
        except BaseException as error:
            self._taken -= 1
            if isinstance(error, (PoolTimeout, psycopg.Error)):
                raise SourceUnavailableError(self.name, str(error)) from error
            raise

    def _pass_on(self, connected: Connected) -> None:
        """Give a connection to who has waited longest, or keep it."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(connected)
                return
        self._idle.append(connected)

    async def _give_back(
        self, connection: psycopg.AsyncConnection, session: PostgresSession
    ) -> None:
        session.forget()
        # What a session has prepared under its names would meet the next session's.
        await connection.close()
        await self._pool.putconn(connection)
        self._taken -= 1
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    async def _read_catalogue(self) -> Catalogue:
        try:
            async with self._pool.connection() as connection:
                return await read_catalogue(connection, self.name, self._publication)
        except (PoolTimeout, psycopg.OperationalError) as error:
            raise SourceUnavailableError(self.name, str(error)) from error


def _marked(chain: Chain) -> Statement:
    """What says in the transaction which chain its changes are of; capture reads it."""
    text = "select pg_catalog.pg_logical_emit_message(true, 'rowcast.chain', $1::bytea)"
    return Statement(text, (b"\\x" + chain.encode().hex().encode(),))


class CommitUnknownError(SourceUnavailableError):
    """The connection broke during the commit: the write may have been carried out."""

    def __init__(self, source: str, details: str) -> None:
        super().__init__(source, details)
        self.hint = "Whether the write was carried out is not known: look before you repeat it"
