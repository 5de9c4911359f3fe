"""Runs of one listener in one process: what they say is recorded, what they ask is answered.

Usually it is one run. Runs that may share an interpreter (`reuse`) go in one frame and end one by
one. However a run ends, its host calls end with it: open transactions are rolled back and calls in
flight are cancelled before its outcome is given.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Protocol

from events.event_schema import EventSchemas
from events.json_codec import JsonObject, JsonValue
from events.redaction import Redaction
from events.run import RunOutcome, RunRequest
from listener_runtime.cpu_time import CpuWatch
from listener_runtime.errors import FrameError, HostCallError
from listener_runtime.frames import (
    Call,
    Cancel,
    Done,
    Emit,
    Ending,
    GuestMessage,
    Log,
    Push,
    RunHead,
    Said,
    answer_frame,
    refusal_frame,
    run_frame,
)
from listener_runtime.listener_state import ListenerState
from listener_runtime.run_record import FailureStatus, RunRecord
from listener_runtime.sandbox_process import ProcessEndedError, SandboxProcess
from listener_runtime.waiting_runs import WaitingRun

_log = logging.getLogger(__name__)

MAX_CALLS_IN_FLIGHT: Final = 128
MAX_SAID_BYTES: Final = 64 * 1024 * 1024
_QUIET: Final = Ending("", 0, 0)


class Calls(Protocol):
    """The host calls of one run."""

    async def call(self, name: str, args: JsonObject) -> JsonValue:
        """Carry out one; raises HostCallError for what the guest should see."""
        ...

    async def close(self) -> None:
        """End what the run has left."""
        ...


class Host(Protocol):
    """Who carries out host calls."""

    def open(self, run: RunRequest) -> Calls:
        """The calls of one run."""
        ...

    async def close(self) -> None:
        """Close what runs share."""
        ...


class SandboxRun:
    """One run: its record so far, and its outcome once it is settled."""

    def __init__(
        self, waiting: WaitingRun, calls: Calls, redaction: Redaction, schemas: EventSchemas
    ) -> None:
        self.is_settled = False
        self._waiting = waiting
        self._record = RunRecord(redaction, schemas)
        self._state = ListenerState(waiting.request.state, redaction)
        self._calls = calls
        self._in_flight: set[asyncio.Task[None]] = set()
        self._started = time.perf_counter()

    @property
    def calls_in_flight(self) -> int:
        """Host calls that are not answered yet."""
        return len(self._in_flight)

    def take(self, message: GuestMessage, process: SandboxProcess) -> None:
        """Take in what the run says, but its end."""
        match message:
            case Call():
                task = asyncio.create_task(self._answer(message, process))
                self._in_flight.add(task)
                task.add_done_callback(self._in_flight.discard)
            case Emit():
                self._record.emit(message)
            case Cancel():
                self._record.cancel(message)
            case Push():
                self._record.push(message)
            case Log():
                self._record.log(message)
            case Done():
                raise AssertionError("an end is settled, not taken")

    async def settle(self, done: Done, ending: Ending = _QUIET) -> None:
        """The run ended by itself."""
        duration_ms = (time.perf_counter() - self._started) * 1_000
        outcome = self._record.outcome(done, ending, duration_ms)
        if outcome.status == "ok":
            outcome = replace(outcome, state=self._state.writes)
        await self._end(outcome)

    async def fail(self, status: FailureStatus, error: str) -> None:
        """The run was ended."""
        duration_ms = (time.perf_counter() - self._started) * 1_000
        await self._end(self._record.failure(status, error, duration_ms))

    async def abandon(self) -> None:
        """The run is not carried to an end here."""
        await self._close_calls()

    async def _end(self, outcome: RunOutcome) -> None:
        self.is_settled = True
        await self._close_calls()
        self._waiting.settle(outcome)

    async def _close_calls(self) -> None:
        if self._in_flight:
            for task in self._in_flight:
                task.cancel()
            await asyncio.gather(*self._in_flight, return_exceptions=True)
        await self._calls.close()

    async def _answer(self, call: Call, process: SandboxProcess) -> None:
        try:
            if call.name.startswith("kv."):
                value: JsonValue = self._state.call(call.name, call.args)
            else:
                value = await self._calls.call(call.name, call.args)
            frame = answer_frame(call.id, value)
        except HostCallError as error:
            frame = refusal_frame(call.id, str(error))
        except Exception as error:  # noqa: BLE001 - see below
            # A mistake of ours in one call must not end the run without a word.
            _log.exception("the host call %s", call.name)
            frame = refusal_frame(call.id, f"inside Rowcast: {error!r}")
        process.send(frame)


async def run_in(
    process: SandboxProcess,
    waiting: Sequence[WaitingRun],
    host: Host,
    secrets: dict[str, str],
    redaction: Redaction,
    schemas: EventSchemas,
) -> None:
    """Run what waits, all of one listener, to its end, at its time limit at the latest.

    Each is given its outcome as soon as there is one. The process is killed unless all was well;
    whether it may be used again is whether it is alive afterwards. A run that was ended by what
    another of its frame did has no outcome then and is to be run again; a run alone has one.
    """
    runs = [SandboxRun(one, host.open(one.request), redaction, schemas) for one in waiting]
    request = waiting[0].request
    deadline = asyncio.timeout(request.timeout_s)
    watch = CpuWatch(process.cpu_time_s, request.cpu_s, deadline)
    whole = False
    try:
        async with deadline:
            with watch:
                process.send(_frame([one.request for one in waiting], secrets))
                process.heap_bytes = await _exchange(process, runs, watch)
        whole = True
    except TimeoutError:
        await _give_up(process, runs, "timeout", _limit_reached(request, watch))
    except FrameError as error:
        await _give_up(process, runs, "killed", f"its process was killed: {error}")
    except ProcessEndedError as error:
        await _give_up(process, runs, "killed", f"its process ended: {error}")
    finally:
        if not whole:
            await process.kill()
            await asyncio.gather(*(run.abandon() for run in runs if not run.is_settled))


def _limit_reached(request: RunRequest, watch: CpuWatch) -> str:
    if watch.is_exceeded:
        return (
            f"it used more than {request.cpu_s:g} s of CPU time; killed; `cpu_s` in the header "
            "allows more"
        )
    return f"it ran for more than {request.timeout_s:g} s; killed"


async def _exchange(process: SandboxProcess, runs: Sequence[SandboxRun], watch: CpuWatch) -> int:
    """Speak with the process until all runs are settled; returns how large its memory is."""
    received_bytes = 0
    while True:
        said = await process.receive()
        if not isinstance(said, Said):
            raise FrameError("found a second start")
        received_bytes += said.size_bytes
        if received_bytes > MAX_SAID_BYTES:
            raise FrameError(f"it said more than {MAX_SAID_BYTES:,} bytes")
        ends = sum(isinstance(message, Done) for message in said.messages)
        if ends > sum(not run.is_settled for run in runs):
            raise FrameError("found more results than runs")
        for message in said.messages:
            await _take(message, said, runs, process)
        if ends:
            # Each run of a frame may use as much as if it were alone.
            watch.renew()
        if said.ending is not None:
            if not all(run.is_settled for run in runs):
                raise FrameError("found an end without its result")
            return said.ending.heap_bytes


async def _take(
    message: GuestMessage, said: Said, runs: Sequence[SandboxRun], process: SandboxProcess
) -> None:
    if not 0 <= message.r < len(runs):
        raise FrameError(f"found a message of run {message.r}, expected one of {len(runs)}")
    run = runs[message.r]
    if not isinstance(message, Done):
        # Counted only where one more begins: most of what a frame says is no call.
        if (
            isinstance(message, Call)
            and sum(one.calls_in_flight for one in runs) >= MAX_CALLS_IN_FLIGHT
        ):
            raise FrameError(f"found more than {MAX_CALLS_IN_FLIGHT} host calls at once")
        run.take(message, process)
        return
    # A run alone ends with its frame; whoever says so earlier has not ended.
    if run.is_settled or (len(runs) == 1 and said.ending is None):
        raise FrameError("found a result before the end")
    await run.settle(message, said.ending if len(runs) == 1 and said.ending else _QUIET)


async def _give_up(
    process: SandboxProcess, runs: Sequence[SandboxRun], status: FailureStatus, error: str
) -> None:
    await process.kill()
    if len(runs) == 1:
        await runs[0].fail(status, error)


def _frame(requests: Sequence[RunRequest], secrets: dict[str, str]) -> bytes:
    first = requests[0]
    return run_frame(
        first.listener,
        first.code,
        [(RunHead(one.attempt, one.chain.root, one.chain.path), one.event) for one in requests],
        memory_mb=first.memory_mb,
        secrets=secrets,
        keep=first.reuse,
        modules=dict(first.modules),
    )
