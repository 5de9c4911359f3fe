"""What one run does to one PostgreSQL source: `db.*` calls and transactions.

Whatever writes begins with a logical message that carries the chain, so that capture knows which
listeners caused what follows (cdc/transaction_assembly reads it). A fetch is tried in a read-only
transaction first, which writes nothing to the log and cannot change anything unseen; PostgreSQL
itself says when a statement writes after all, and it is then repeated in a writing one.
What a writing call did is recorded in its transaction (postgres_effects).
"""

from __future__ import annotations

import asyncio
import time
from typing import Final, LiteralString

from psycopg.pq.abc import PGresult

from events.json_codec import JsonObject, decode_object, encode
from events.run import RunRequest
from listener_runtime.errors import HostCallError
from listener_runtime.host_call_steps import Steps
from listener_runtime.postgres_database import PostgresDatabase
from listener_runtime.postgres_effects import CLAIM, KEEP, RESULT, STEPS
from listener_runtime.postgres_failure import (
    READ_ONLY_TRANSACTION,
    UNIQUE_VIOLATION,
    StatementError,
)
from listener_runtime.postgres_rows import RowCollector
from listener_runtime.postgres_session import PostgresSession, Request, query
from listener_runtime.postgres_statement import TRANSACTION_TAGS, Statement

_READ: Final[LiteralString] = "select pg_catalog.set_config('statement_timeout', $1, true)"
_WRITE: Final[LiteralString] = (
    "select pg_catalog.set_config('statement_timeout', $1, true),"
    " pg_catalog.pg_logical_emit_message(true, 'rowcast.chain', $2::bytea)"
)


class PostgresRun:
    """A run's use of a source; `deadline_s` is when it must be over, by time.monotonic()."""

    def __init__(
        self, database: PostgresDatabase, run: RunRequest, steps: Steps, deadline_s: float
    ) -> None:
        self.database = database
        self.steps = steps
        self._run = run
        self._deadline_s = deadline_s
        self._chain = b"\\x" + run.chain.extended(run.listener).encode().hex().encode()

    async def call(self, statement: Statement) -> JsonObject:
        """Carry a statement out in a transaction of its own.

        Raises HostCallError where it cannot be.
        """
        statement.check()
        async with self.database.pool.session(self._run.run_id) as session:
            if statement.kind != "execute" and not self.database.writes(statement):
                try:
                    return await self._read(session, statement)
                except StatementError as error:
                    if error.sqlstate != READ_ONLY_TRANSACTION:
                        raise
                    self.database.note_writing(statement)
            return await self._write(session, statement)

    async def begin(self) -> PostgresTransaction:
        """Open a transaction; whoever has it must end it."""
        session = await self.database.pool.acquire(self._run.run_id)
        try:
            recorded: set[str] | None = None
            if await self.database.keeps_effects(session):
                results = await session.exchange(
                    [*self.opening(), query(STEPS, self.identity()[:2])]
                )
                recorded = {
                    (results[-1].get_value(row, 0) or b"").decode()
                    for row in range(results[-1].ntuples)
                }
            else:
                await session.exchange(self.opening())
        except BaseException:
            await session.end()
            await self.database.pool.release(session)
            raise
        return PostgresTransaction(self, session, recorded)

    def opening(self) -> tuple[Request, ...]:
        """What every writing transaction begins with."""
        return (query("begin"), query(_WRITE, (self._left_ms(), self._chain)))

    def identity(self, step: str = "") -> tuple[bytes, bytes, bytes]:
        """What a record of an effect is found by."""
        return (self._run.listener.encode(), self._run.event_id.encode(), step.encode())

    def step(self, statement: Statement) -> str:
        """The step that a statement is."""
        try:
            return self.steps.take(
                self.database.source,
                statement.kind,
                statement.sql,
                list(statement.params),
                statement.limit,
            )
        except TypeError as error:
            raise HostCallError(f"a parameter cannot be written as JSON: {error}") from error

    async def answer(
        self,
        session: PostgresSession,
        statement: Statement,
        result: PGresult | None,
        rows: RowCollector,
    ) -> JsonObject:
        """The guest's answer, whose types are asked for where they are not known yet."""
        catalogue = self.database.types.catalogue
        if result is not None:
            await self.database.learn(session, catalogue.unknown(rows.type_oids))
        return statement.answer(result, rows, self.database.types)

    async def recorded(self, session: PostgresSession, step: str) -> JsonObject:
        """The answer that was given when the step was taken the first time."""
        (result,) = await session.exchange([query(RESULT, self.identity(step))])
        kept = result.get_value(0, 0) if result.ntuples else None
        if kept is None:
            raise HostCallError("the record of this call is gone; run it again")
        return decode_object(kept)

    async def _read(self, session: PostgresSession, statement: Statement) -> JsonObject:
        rows = statement.collector(may_cut=True)
        request = await self.database.request(session, statement, rows)
        begin, timeout = query("begin read only"), query(_READ, (self._left_ms(),))
        try:
            results = await session.exchange([begin, timeout, request, query("commit")])
        except StatementError:
            self.database.forget(statement)
            await session.exchange([query("rollback")])
            raise
        return await self.answer(session, statement, results[2] if results else None, rows)

    async def _write(self, session: PostgresSession, statement: Statement) -> JsonObject:
        step = self.step(statement)
        done = False
        try:
            answer = await self._write_once(session, statement, step)
            done = True
        finally:
            if not done:
                self.steps.give_back(step)
        return answer

    async def _write_once(
        self, session: PostgresSession, statement: Statement, step: str
    ) -> JsonObject:
        rows = statement.collector(may_cut=False)
        keeps = await self.database.keeps_effects(session)
        request = await self.database.request(session, statement, rows)
        claim = (query(CLAIM, self.identity(step)),) if keeps else ()
        try:
            result = (await session.exchange([*self.opening(), *claim, request]))[-1]
            refuse_transaction_tag(result)
            answer = await self.answer(session, statement, result, rows)
            ending = [query(KEEP, (*self.identity(step), encode(answer)))] if keeps else []
            await session.exchange([*ending, query("commit")])
        except StatementError as error:
            self.database.forget(statement)
            await session.exchange([query("rollback")])
            if error.sql == CLAIM and error.sqlstate == UNIQUE_VIOLATION:
                return await self.recorded(session, step)
            raise
        if keeps:
            self.database.purge_effects()
        return answer

    def _left_ms(self) -> bytes:
        return b"%d" % max(1, round((self._deadline_s - time.monotonic()) * 1_000))


class PostgresTransaction:
    """An open transaction of a run; its calls are carried out one after the other.

    Its fetches are recorded as well, so that a retry that finds the transaction done computes
    from them what the first run computed. `recorded` holds the steps taken before, None where no
    effects are kept.
    """

    def __init__(
        self, run: PostgresRun, session: PostgresSession, recorded: set[str] | None
    ) -> None:
        self._run = run
        self._session = session
        self._recorded = recorded
        self._steps: list[str] = []
        self._unkept: list[Request] = []
        self._turn = asyncio.Lock()
        self._over = ""

    @property
    def source(self) -> str:
        """The source that it is of."""
        return self._run.database.source

    async def call(self, statement: Statement) -> JsonObject:
        """Carry a statement out; raises HostCallError where it cannot be."""
        statement.check()
        async with self._turn:
            self._refuse_if_over()
            step = self._run.step(statement)
            if self._recorded is not None and step in self._recorded:
                return await self._run.recorded(self._session, step)
            try:
                answer = await self._carry_out(statement, step)
            except BaseException:
                self._run.steps.give_back(step)
                if not self._session.is_whole:
                    await self._end("it was lost with its connection")
                raise
            self._steps.append(step)
            return answer

    async def commit(self) -> None:
        """Make it durable; raises HostCallError where it was not."""
        async with self._turn:
            self._refuse_if_over()
            committed = False
            try:
                # A transaction that failed takes no record; its commit says so by its tag.
                unkept = self._unkept if self._session.in_transaction else []
                results = await self._session.exchange([*unkept, query("commit")])
                committed = results[-1].command_status == b"COMMIT"
            finally:
                if not committed:
                    self._give_steps_back()
                await self._end("it was committed already" if committed else "its commit failed")
        if not committed:
            raise HostCallError(
                "the transaction was rolled back, since a statement in it had failed; nothing of "
                "it was kept"
            )
        if self._recorded is not None:
            self._run.database.purge_effects()

    async def rollback(self) -> None:
        """Undo it; nothing happens where it is over."""
        async with self._turn:
            if self._over:
                return
            self._give_steps_back()
            try:
                await self._session.exchange([query("rollback")])
            finally:
                await self._end("it was rolled back already")

    async def abandon(self) -> None:
        """Undo it whatever it is doing, at the end of its run."""
        if not self._over:
            self._give_steps_back()
            await self._session.end()
            await self._end("its run has ended")

    async def _carry_out(self, statement: Statement, step: str) -> JsonObject:
        database, session = self._run.database, self._session
        rows = statement.collector(may_cut=False)
        request = await database.request(session, statement, rows)
        claim: list[Request] = []
        if self._recorded is not None:
            claim = [query(CLAIM, self._run.identity(step))]
        try:
            result = (await session.exchange([*self._unkept, *claim, request]))[-1]
        except StatementError as error:
            database.forget(statement)
            if error.sql == CLAIM and error.sqlstate == UNIQUE_VIOLATION:
                raise HostCallError(
                    "another run does the same for this event at this moment; roll back"
                ) from error
            raise
        self._unkept = []
        try:
            refuse_transaction_tag(result)
        except HostCallError:
            await session.end()
            raise
        answer = await self._run.answer(session, statement, result, rows)
        if self._recorded is not None:
            self._unkept = [query(KEEP, (*self._run.identity(step), encode(answer)))]
        return answer

    def _refuse_if_over(self) -> None:
        if self._over:
            raise HostCallError(f"the transaction is over: {self._over}")

    def _give_steps_back(self) -> None:
        while self._steps:
            self._run.steps.give_back(self._steps.pop())

    async def _end(self, reason: str) -> None:
        if not self._over:
            self._over = reason
            await self._run.database.pool.release(self._session)


def refuse_transaction_tag(result: PGresult) -> None:
    """Raise HostCallError where a statement began or ended a transaction behind our back."""
    if result.command_status in TRANSACTION_TAGS:
        raise HostCallError("a statement ended the transaction, expected commit or rollback of g")
