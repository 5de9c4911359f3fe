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
    """The statements of one connection."""

    def __init__(self, connection: psycopg.AsyncConnection) -> None:
        self._pgconn = connection.pgconn
        self._prepared: dict[str, bytes] = {}
        self._names = itertools.count()
        self._seen: set[str] = set()
        self.broken = False

    @property
    def was_closed(self) -> bool:
        """Whether the server has ended it in the meantime."""
        # The server says nothing to an idle connection but that it closes it.
        watch = select.poll()
        watch.register(self._pgconn.socket, select.POLLIN)
        return bool(watch.poll(0))

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
            raise LostConnectionError(str(error).strip() or type(error).__name__) from error
        self.broken = False
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
        socket = self._pgconn.socket
        ready: asyncio.Future[None] = loop.create_future()
        loop.add_reader(socket, _wake, ready)
        if writing:
            loop.add_writer(socket, _wake, ready)
        try:
            await ready
        finally:
            loop.remove_reader(socket)
            if writing:
                loop.remove_writer(socket)


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
