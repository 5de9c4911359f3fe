"""Runs the code of custom APIs and hooks, in a sandbox of the HTTP service's own.

A call is to the router's contract what an event is: the run's record, what it emits, schedules,
pushes and keeps are made by the same functions, so that they read the same wherever code ran.
The sandbox and the listeners' state are there only while a definition needs them.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence

from api.call_hook import CallHook
from api.code_run import CodeRun, UnwritableError
from api.custom_api import CustomApi
from api.definition_table import DefinitionTable
from events.cluster import Cluster
from events.errors import EventsError
from events.event import Event
from events.outgoing_record import OutgoingRecord
from events.run import RunOutcome
from events.traceparent import continue_trace
from listener_runtime.errors import ImageError
from listener_runtime.pool import SandboxPool
from router.definition import Definition, ListenerCode
from router.delivery import Delivery, cycle_records, outcome_records, refuse_too_large, run_request
from router.errors import RoutingStoppedError
from router.state_feed import StateFeed
from router.state_table import StateTable

_log = logging.getLogger(__name__)

_RETRY_S = 1.0
_NO_OFFSET = -1


class CodeRunner:
    """See api.code_run.CodeRunner; `make_pool` makes the sandbox."""

    def __init__(
        self, cluster: Cluster, table: DefinitionTable, make_pool: Callable[[], SandboxPool]
    ) -> None:
        self._cluster = cluster
        self._table = table
        self._make_pool = make_pool
        self._state = StateTable()
        self._pool: SandboxPool | None = None
        self._changed = asyncio.Event()
        self._ready = asyncio.Event()
        self._error = ""
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to follow the definitions."""
        self._table.watch(self._changed.set)
        self._tasks.append(asyncio.create_task(self._follow()))

    async def close(self) -> None:
        """End the sandbox and whatever runs in it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._pool is not None:
            await self._pool.close()

    async def run(self, run: CodeRun) -> RunOutcome:
        """Run to its end; raises nothing for what the code does."""
        await self._ready.wait()
        if self._pool is None:
            return RunOutcome("failed", 0.0, f"no sandbox: {self._error}")
        code = run.code
        state = self._state.of(code.tenant, code.name)
        return await self._pool.run(
            run_request(self._delivery(run), code.code, 1, state, run.modules)
        )

    def records(self, run: CodeRun, outcome: RunOutcome, started_ms: int) -> list[OutgoingRecord]:
        """What a run leaves on Kafka; raises UnwritableError where that cannot be written."""
        topics = self._cluster.topics
        try:
            found = outcome_records(self._delivery(run), outcome, 1, started_ms, topics, _span)
        except (EventsError, TypeError) as error:
            raise UnwritableError(f"what the run leaves cannot be written: {error}") from error
        if (refusal := refuse_too_large(found)) is not None:
            raise UnwritableError(refusal)
        return found

    def cycle_records(self, run: CodeRun, now_ms: int) -> list[OutgoingRecord]:
        """What a run that is not run leaves."""
        return cycle_records(self._delivery(run), now_ms, self._cluster.topics)

    def kept(
        self,
        run: CodeRun,
        outcome: RunOutcome,
        records: Sequence[OutgoingRecord],
        offsets: list[int],
    ) -> None:
        """Take in the state of a run whose records are committed at these offsets."""
        if outcome.status != "ok" or not outcome.state:
            return
        topic = self._cluster.topics.kv
        placed = [
            offset for record, offset in zip(records, offsets, strict=True) if record.topic == topic
        ]
        written = zip(outcome.state, placed, strict=True)
        self._state.commit(run.code.tenant, run.code.name, written)

    def _delivery(self, run: CodeRun) -> Delivery:
        code = run.code
        definition = Definition(
            name=code.name,
            on=run.event_type,
            action=ListenerCode(code.code),
            tenant=code.tenant,
            timeout_s=code.timeout_s,
            cpu_s=code.cpu_s,
            memory_mb=code.memory_mb,
            reuse=code.reuse,
            recursion=code.recursion,
            version=code.version,
        )
        # The call's event is written with what the run leaves, or after it: it has no place yet.
        api = self._cluster.topics.api
        return Delivery(definition, _event(run), None, api, _NO_OFFSET, _NO_OFFSET)

    async def _follow(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            needed = bool(self._table.of(CustomApi) or self._table.of(CallHook))
            if needed and self._pool is None:
                await self._open()
            elif not needed and self._pool is not None:
                await self._end()

    async def _open(self) -> None:
        if len(self._tasks) == 1:
            self._tasks.append(asyncio.create_task(self._follow_state()))
        try:
            pool = self._make_pool()
            await pool.start()
        except ImageError as error:
            self._error = str(error)
            _log.error("custom APIs and hooks cannot run: %s", error)
        else:
            self._pool = pool
            self._error = ""
        self._ready.set()

    async def _end(self) -> None:
        self._ready.clear()
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close()

    async def _follow_state(self) -> None:
        while True:
            feed = StateFeed(self._cluster, self._state)
            try:
                await feed.start()
                await feed.run()
            except RoutingStoppedError as error:
                _log.warning("%s; trying again", error)
            finally:
                await feed.close()
            await asyncio.sleep(_RETRY_S)


def _event(run: CodeRun) -> Event:
    return Event(
        run.call_id,
        run.event_type,
        {},
        run.argument,
        run.chain,
        run.traceparent,
    )


def _span(traceparent: str | None) -> str:
    return continue_trace(traceparent, os.urandom(24))
