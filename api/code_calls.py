"""One run for a call: queue, bounds, and what it leaves on Kafka before anything goes on.

Custom APIs and hooks differ in what the result of the code means; what they share is here.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import replace
from typing import Final

from api.call_commit import CallCommit
from api.code_run import CodeRun, CodeRunner, UnwritableError
from api.definition_table import DefinitionTable
from api.errors import ApiError
from events.outgoing_record import OutgoingRecord
from events.run import RunOutcome

_AT_ONCE: Final = 512
_AT_ONCE_OF_ONE: Final = 128
_QUEUE_S: Final = 15.0


class CodeCalls:
    """Runs code for calls; one of it serves a service."""

    def __init__(self, runner: CodeRunner, commit: CallCommit, table: DefinitionTable) -> None:
        self._runner = runner
        self._commit = commit
        self._table = table
        self._under_way: Counter[str] = Counter()

    def check(self) -> None:
        """Raise EventsUnavailableError where Kafka is known to be away."""
        self._commit.check()

    def modules(self, run_uses: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
        """Names and code of modules; raises ApiError (500) where one is not applied."""
        present = self._table.modules
        missing = [name for name in run_uses if name not in present]
        if missing:
            raise ApiError(
                500, "RC500", "The code names a module that is not applied", details=missing[0]
            )
        return tuple((name, present[name]) for name in run_uses)

    async def run(self, run: CodeRun) -> RunOutcome:
        """Run code; raises ApiError where too much runs already or it would be a cycle."""
        name = run.code.name
        if run.is_cycle:
            await self._commit.commit(self._runner.cycle_records(run, _now_ms()))
            raise ApiError(
                508,
                "RC508",
                f"{name} stands in the chain of this call already, so it was not run again",
                hint="`recursion = n` in its header allows it n times more",
            )
        if self._under_way[name] >= _AT_ONCE_OF_ONE or self._under_way.total() >= _AT_ONCE:
            raise _busy(f"{self._under_way[name]} calls of {name} are under way")
        self._under_way[name] += 1
        try:
            async with asyncio.timeout(run.code.timeout_s + _QUEUE_S):
                return await self._runner.run(run)
        except TimeoutError as error:
            raise _busy(f"no sandbox was free for {name} within {_QUEUE_S:g} s") from error
        finally:
            self._under_way[name] -= 1
            if not self._under_way[name]:
                del self._under_way[name]

    def left(
        self, run: CodeRun, outcome: RunOutcome, started_ms: int
    ) -> tuple[RunOutcome, list[OutgoingRecord]]:
        """What a run leaves; it has failed where that cannot be written."""
        try:
            return outcome, self._runner.records(run, outcome, started_ms)
        except UnwritableError as error:
            failed = RunOutcome("failed", outcome.duration_ms, str(error), logs=outcome.logs)
            try:
                return failed, self._runner.records(run, failed, started_ms)
            except UnwritableError:
                failed = replace(failed, logs=())
                return failed, self._runner.records(run, failed, started_ms)

    async def commit(
        self,
        run: CodeRun,
        outcome: RunOutcome,
        records: list[OutgoingRecord],
        *others: OutgoingRecord,
    ) -> None:
        """Have it committed, others with it; raises what CallCommit.commit raises."""
        offsets = await self._commit.commit([*records, *others])
        self._runner.kept(run, outcome, records, offsets[: len(records)])


def _busy(details: str) -> ApiError:
    return ApiError(
        503,
        "RC503",
        "Too many calls are under way",
        details=details,
        hint="Repeat the call later",
        headers=(("retry-after", "1"),),
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
