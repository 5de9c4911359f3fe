"""One connection to PostgreSQL, on which statements are sent together and answered together.

libpq's pipeline mode without psycopg's cursors: a call of the API is one round trip, and each
statement that comes again is prepared. Statements up to a sync are one transaction even without
`begin`, so that role and claims, set first, hold for exactly this call.
https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-PIPELINING
"""

from __future__ import annotations

import asyncio
import itertools
import select
from collections.abc import Sequence
from typing import Final

import psycopg
from psycopg.pq import ConnStatus, ExecStatus, TransactionStatus
from psycopg.pq.abc import PGresult

from api.postgres_failure import statement_error
from api.statement import Statement

_PREPARED_MAX: Final = 256
_CLOSE_ALL: Final = b"deallocate all"


class LostConnectionError(Exception):
    """The connection broke; whether what was sent was carried out is not known."""


class PostgresSession:
    """The statements of one connection; psycopg.Error where it is lost already."""

    def __init__(self, connection: psycopg.AsyncConnection) -> None:
        self._pgconn = connection.pgconn
        self._prepared: dict[str, bytes] = {}
        self._names = itertools.count()
        self._seen: set[str] = set()
        self._waiter: asyncio.Future[None] | None = None
        self._watched = -1
        self.broken = False
        self.was_closed = False
        """Whether the server has ended it while it was idle."""
        self._watch()

    def look(self) -> bool:
        """Whether the server has ended it, looked for now: what it said may not be heard yet."""
        self.was_closed = self.was_closed or self._is_readable()
        return self.was_closed

    def forget(self) -> None:
        """Watch it no more; it is not used again."""
        if self._watched >= 0:
            asyncio.get_running_loop().remove_reader(self._watched)
            self._watched = -1

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self._pgconn.transaction_status != TransactionStatus.IDLE

    async def run(self, statements: Sequence[Statement]) -> list[PGresult]:
        """Send all as one pipeline; the result of each.

        Raises ApiError for the first that failed, LostConnectionError where the connection broke.
        A call that is cancelled, or whose connection broke, leaves the session `broken`.
        """
        self.broken = True
        pgconn = self._pgconn
        try:
            pgconn.enter_pipeline_mode()
            known = set(self._prepared)
            commands = [self._send(statement) for statement in statements]
            pgconn.pipeline_sync()
            await self._flush()
            results = [await self._result(count) for count in commands]
            await self._next()  # the sync's own
            pgconn.exit_pipeline_mode()
        except psycopg.Error as error:
            # libpq has closed the socket; its number may be another's the next moment.
            self.forget()
            raise LostConnectionError(str(error).strip() or type(error).__name__) from error
        self.broken = False
        if self._watched < 0:
            self._watch()
        failed: PGresult | None = None
        for statement, result in zip(statements, results, strict=True):
            if failed is None and result.status == ExecStatus.FATAL_ERROR:
                failed = result
            if failed is not None and statement.text not in known:
                # Whether it was prepared, at or after the failure, is not known: ask anew.
                self._prepared.pop(statement.text, None)
        if failed is not None:
            raise statement_error(failed)
        return results

    def _send(self, statement: Statement) -> int:
        """Send one; how many commands it took."""
        pgconn = self._pgconn
        text = statement.text
        name = self._prepared.get(text)
        if name is not None:
            pgconn.send_query_prepared(name, statement.parameters)
            return 1
        if text not in self._seen:
            # What is asked once only is not worth a place among the prepared.
            if len(self._seen) >= 4 * _PREPARED_MAX:
                self._seen.clear()
            self._seen.add(text)
            pgconn.send_query_params(text.encode(), statement.parameters)
            return 1
        commands = 2
        if len(self._prepared) >= _PREPARED_MAX:
            self._prepared.clear()
            pgconn.send_query_params(_CLOSE_ALL, ())
            commands = 3
        name = self._prepared[text] = b"rowcast_%d" % next(self._names)
        pgconn.send_prepare(name, text.encode())
        pgconn.send_query_prepared(name, statement.parameters)
        return commands

    async def _result(self, commands: int) -> PGresult:
        """The result of a statement: its last command's, or that of the one that failed."""
        failed: PGresult | None = None
        last: PGresult | None = None
        for _ in range(commands):
            while (result := await self._next()) is not None:
                last = result
                if result.status == ExecStatus.FATAL_ERROR:
                    failed = failed or result
        if last is None:
            raise psycopg.OperationalError("the server sent no answer")
        if self._pgconn.status != ConnStatus.OK:
            raise psycopg.OperationalError(last.get_error_message())
        return failed or last

    async def _next(self) -> PGresult | None:
        pgconn = self._pgconn
        while pgconn.is_busy():
            await self._ready(writing=False)
            pgconn.consume_input()
        return pgconn.get_result()

    async def _flush(self) -> None:
        pgconn = self._pgconn
        while pgconn.flush():
            await self._ready(writing=True)
            pgconn.consume_input()

    async def _ready(self, *, writing: bool) -> None:
        """Wait until the socket can be read, or written too."""
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        if self._watched < 0:
            self._watch()
        if writing:
            loop.add_writer(self._watched, self._wake)
        try:
            await self._waiter
        finally:
            self._waiter = None
            if writing and self._watched >= 0:
                loop.remove_writer(self._watched)

    def _watch(self) -> None:
        """Be told of whatever comes, once for all calls: that is cheaper than for each."""
        self._watched = self._pgconn.socket
        asyncio.get_running_loop().add_reader(self._watched, self._wake)

    def _wake(self) -> None:
        if self._waiter is not None:
            if not self._waiter.done():
                self._waiter.set_result(None)
            return
        if self._is_readable():
            # The server says nothing to an idle connection but that it closes it, and nobody
            # reads now what comes in the midst of a call. (What is read already wakes late.)
            self.was_closed = not self.broken
            self.forget()

    def _is_readable(self) -> bool:
        if self._watched < 0:
            return True  # something came already that was not asked for
        look = select.poll()
        look.register(self._watched, select.POLLIN)
        return bool(look.poll(0))
