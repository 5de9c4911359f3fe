"""One connection to PostgreSQL, for calls that know how many round trips they take.

Requests are sent together in libpq's pipeline mode and answered together; rows come one by one
into a collector, which bounds them. psycopg's cursors do neither of the two at once. A session
whose exchange was broken off in the middle, for whatever reason, is never used again: what still
runs on it is cancelled, then it is closed.
https://www.postgresql.org/docs/current/libpq-pipeline-mode.html
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import select
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg import waiting
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import ConnStatus, ExecStatus, TransactionStatus
from psycopg.pq.abc import PGconn, PGresult
from psycopg.waiting import Ready, Wait

from events.values import SESSION_SETTINGS
from listener_runtime.errors import HostCallError
from listener_runtime.postgres_failure import statement_error
from listener_runtime.postgres_rows import RowCollector

_log = logging.getLogger(__name__)

_CONNECT_TIMEOUT_S: Final = 5
_CANCEL_TIMEOUT_S: Final = 2.0
_CHECK_INTERVAL_S: Final = 0.1
_COPIES: Final = frozenset((ExecStatus.COPY_IN, ExecStatus.COPY_OUT, ExecStatus.COPY_BOTH))


@dataclass(frozen=True, slots=True)
class Request:
    """One thing to send; `sql` is for the error, `rows` takes what comes."""

    sql: str
    send: Callable[[PGconn], None]
    rows: RowCollector | None = None


def query(
    sql: str,
    params: Sequence[bytes | None] = (),
    rows: RowCollector | None = None,
    oids: Sequence[int] = (),
) -> Request:
    """A statement with its parameters; a type of 0, or none, is left to PostgreSQL."""
    text = sql.encode()
    return Request(sql, lambda pgconn: pgconn.send_query_params(text, params, oids or None), rows)


def describe(sql: str, oids: Sequence[int] = ()) -> tuple[Request, Request]:
    """Two requests, the second of which tells a statement's parameter types."""
    text = sql.encode()
    return (
        Request(sql, lambda pgconn: pgconn.send_prepare(b"", text, oids or None)),
        Request(sql, lambda pgconn: pgconn.send_describe_prepared(b"")),
    )


SYNC: Final = Request("", lambda pgconn: pgconn.pipeline_sync())
"""Ends what stands before it as a transaction of its own."""


class LostSessionError(HostCallError):
    """The connection broke; whether what was sent was carried out is not known."""


class PostgresSession:
    """One connection; `owner` is the run that used it last."""

    def __init__(self, connection: psycopg.AsyncConnection, source: str) -> None:
        self._connection = connection
        self._pgconn = connection.pgconn
        self._source = source
        self._reset = False
        self._ending: asyncio.Task[None] | None = None
        self.owner = ""

    @classmethod
    async def connect(cls, source: str, dsn: str) -> PostgresSession:
        """A new one; raises HostCallError where the server is not reached."""
        try:
            given = str(conninfo_to_dict(dsn).get("options") or "")
            ours = " ".join(f"-c {name}={value}" for name, value in SESSION_SETTINGS.items())
            connection = await psycopg.AsyncConnection.connect(
                dsn,
                autocommit=True,
                options=f"{given} {ours}".strip(),
                application_name="rowcast listener",
                connect_timeout=_CONNECT_TIMEOUT_S,
            )
        except psycopg.Error as error:
            raise HostCallError(f"the source {source!r} was not reached: {error}") from error
        return cls(connection, source)

    @property
    def is_idle(self) -> bool:
        """Whether it can be given to another call: whole, and in no transaction."""
        return (
            self._ending is None
            and self._pgconn.status == ConnStatus.OK
            and self._pgconn.transaction_status == TransactionStatus.IDLE
        )

    @property
    def is_whole(self) -> bool:
        """Whether it can be used at all."""
        return self._ending is None and self._pgconn.status == ConnStatus.OK

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open and has not failed."""
        return self._ending is None and self._pgconn.transaction_status == TransactionStatus.INTRANS

    def take_over(self, owner: str) -> bool:
        """Give it to a run; False where the server has closed it in the meantime."""
        # The server says nothing to an idle connection but that it closes it.
        watch = select.poll()
        watch.register(self._pgconn.socket, select.POLLIN)
        if watch.poll(0):
            return False
        # What a run has set (search_path, advisory locks, temporary tables) ends with it.
        self._reset = self._reset or self.owner != owner
        self.owner = owner
        return self.is_idle

    async def exchange(self, requests: Sequence[Request]) -> list[PGresult]:
        """Send all, and return the last result of each.

        Raises StatementError for the first that failed, HostCallError where the rows are too many
        or the connection is lost. After the latter two, and when cancelled, the session is ended.
        """
        if self._reset:
            requests = (query("discard all"), SYNC, *requests)
        whole = False
        try:
            results = await waiting.wait_async(
                _exchange(self._pgconn, requests), self._pgconn.socket, interval=_CHECK_INTERVAL_S
            )
            whole = results is not None
        except psycopg.Error as error:
            raise LostSessionError(
                f"the connection to the source {self._source!r} was lost during the call "
                f"({str(error).strip() or type(error).__name__})"
            ) from error
        finally:
            if not whole:
                await self.end()
        if results is None:
            # The collector has what it wanted.
            return []
        if self._reset:
            if results[0].status == ExecStatus.FATAL_ERROR:
                await self.end()
                raise statement_error(results[0], "discard all")
            self._reset = False
            requests, results = requests[2:], results[2:]
        for request, result in zip(requests, results, strict=True):
            if result.status == ExecStatus.FATAL_ERROR:
                raise statement_error(result, request.sql)
        return results

    async def end(self) -> None:
        """Cancel what runs and close; safe to call again, and to be cancelled in."""
        if self._ending is None:
            self._ending = asyncio.create_task(self._cancel_and_close())
        await asyncio.shield(self._ending)

    async def _cancel_and_close(self) -> None:
        if self._pgconn.transaction_status == TransactionStatus.ACTIVE:
            try:
                await self._connection.cancel_safe(timeout=_CANCEL_TIMEOUT_S)
            except psycopg.Error as error:
                _log.warning("%s: a statement could not be cancelled: %s", self._source, error)
        with contextlib.suppress(psycopg.Error):
            await self._connection.close()


def _exchange(
    pgconn: PGconn, requests: Sequence[Request]
) -> Generator[Wait, Ready | int, list[PGresult] | None]:
    """The last result of each request, None where a collector wanted no more."""
    pgconn.enter_pipeline_mode()
    for request in requests:
        request.send(pgconn)
    pgconn.pipeline_sync()
    while pgconn.flush():
        if (yield Wait.RW) & Ready.R:
            pgconn.consume_input()
    results: list[PGresult] = []
    failed = False
    for request in (*requests, SYNC):
        if request is SYNC:
            last = yield from _next_result(pgconn)
            failed = False
        else:
            if request.rows is not None and not failed:
                pgconn.set_single_row_mode()
            last = yield from _last_result(pgconn, request.rows)
        if last is None:
            # The collector has enough, and the rest is still on its way.
            return None
        failed = failed or last.status == ExecStatus.FATAL_ERROR
        results.append(last)
    pgconn.exit_pipeline_mode()
    return results[:-1]


def _last_result(
    pgconn: PGconn, rows: RowCollector | None
) -> Generator[Wait, Ready | int, PGresult | None]:
    """The last result of one request, None where the collector wanted no more."""
    last: PGresult | None = None
    while (result := (yield from _next_result(pgconn))) is not None:
        last = result
        if result.status in _COPIES:
            raise psycopg.NotSupportedError("COPY cannot be used by a listener")
        if rows is not None and not rows.take(result):
            return None
    if last is None:
        raise psycopg.OperationalError("the server sent no answer")
    if pgconn.status != ConnStatus.OK:
        raise psycopg.OperationalError(last.get_error_message())
    return last


def _next_result(pgconn: PGconn) -> Generator[Wait, Ready | int, PGresult | None]:
    while pgconn.is_busy():
        yield Wait.R
        pgconn.consume_input()
    while pgconn.notifies() is not None:
        pass
    return pgconn.get_result()
