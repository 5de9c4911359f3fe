"""One run in one process: what the guest says is recorded, what it asks for is answered.

However the run ends, its host calls are ended with it: open transactions are rolled back and
calls in flight are cancelled before the outcome is given.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

from events.run import RunOutcome, RunRequest
from listener_runtime.errors import FrameError, HostCallError
from listener_runtime.frames import (
    Call,
    Done,
    Emit,
    Ending,
    Log,
    Push,
    RunHeader,
    Said,
    answer_frame,
    refusal_frame,
    run_frame,
)
from listener_runtime.host_calls import HostCalls, RunCalls
from listener_runtime.redaction import Redaction
from listener_runtime.run_record import RunRecord
from listener_runtime.sandbox_process import ProcessEndedError, SandboxProcess

_log = logging.getLogger(__name__)

MAX_CALLS_IN_FLIGHT: Final = 128
MAX_SAID_BYTES: Final = 64 * 1024 * 1024


async def run_in(
    process: SandboxProcess,
    request: RunRequest,
    host: HostCalls,
    secrets: dict[str, str],
    redaction: Redaction,
) -> RunOutcome:
    """Run to the end, at its time limit at the latest; the process is killed unless all was well.

    Whether the process may be used again is whether it is alive afterwards.
    """
    record = RunRecord(redaction)
    calls = host.open(request)
    run = _Run(process, record, calls)
    started = time.perf_counter()
    outcome: RunOutcome | None = None
    try:
        async with asyncio.timeout(request.timeout_s):
            done, ending = await run.exchange(_frame(request, secrets))
        process.heap_bytes = ending.heap_bytes
        outcome = record.outcome(done, ending, _since_ms(started))
    except TimeoutError:
        error = f"it ran for more than {request.timeout_s:g} s and was killed"
        return record.failure("timeout", error, _since_ms(started))
    except FrameError as reason:
        error = f"its process was killed: {reason}"
        return record.failure("killed", error, _since_ms(started))
    except ProcessEndedError as reason:
        return record.failure("killed", f"its process ended: {reason}", _since_ms(started))
    else:
        return outcome
    finally:
        if outcome is None:
            await process.kill()
        await run.close()


class _Run:
    """The exchange of one run with its process."""

    def __init__(self, process: SandboxProcess, record: RunRecord, calls: RunCalls) -> None:
        self._process = process
        self._record = record
        self._calls = calls
        self._in_flight: set[asyncio.Task[None]] = set()

    async def exchange(self, frame: bytes) -> tuple[Done, Ending]:
        self._process.send(frame)
        received_bytes = 0
        while True:
            said = await self._process.receive()
            if not isinstance(said, Said):
                raise FrameError("found a second start")
            received_bytes += said.size_bytes
            if received_bytes > MAX_SAID_BYTES:
                raise FrameError(f"it said more than {MAX_SAID_BYTES:,} bytes in one run")
            done = self._take(said)
            if said.ending is not None:
                if done is None:
                    raise FrameError("found an end without its result")
                return done, said.ending

    async def close(self) -> None:
        for task in self._in_flight:
            task.cancel()
        await asyncio.gather(*self._in_flight, return_exceptions=True)
        await self._calls.close()

    def _take(self, said: Said) -> Done | None:
        done: Done | None = None
        for message in said.messages:
            match message:
                case Call():
                    self._begin(message)
                case Emit():
                    self._record.emit(message)
                case Push():
                    self._record.push(message)
                case Log():
                    self._record.log(message)
                case Done():
                    if said.ending is None or done is not None:
                        raise FrameError("found a result before the end")
                    done = message
        return done

    def _begin(self, call: Call) -> None:
        if len(self._in_flight) >= MAX_CALLS_IN_FLIGHT:
            raise FrameError(f"found more than {MAX_CALLS_IN_FLIGHT} host calls at once")
        task = asyncio.create_task(self._answer(call))
        self._in_flight.add(task)
        task.add_done_callback(self._in_flight.discard)

    async def _answer(self, call: Call) -> None:
        try:
            frame = answer_frame(call.id, await self._calls.call(call.name, call.args))
        except HostCallError as error:
            frame = refusal_frame(call.id, str(error))
        except Exception as error:  # noqa: BLE001 - see below
            # A mistake of ours in one call must not end the run without a word.
            _log.exception("the host call %s", call.name)
            frame = refusal_frame(call.id, f"inside Rowcast: {error!r}")
        self._process.send(frame)


def _frame(request: RunRequest, secrets: dict[str, str]) -> bytes:
    chain = request.chain
    header = RunHeader(
        listener=request.listener,
        event_bytes=len(request.event),
        memory_mb=request.memory_mb,
        attempt=request.attempt,
        root=chain.root,
        path=chain.path,
        secrets=secrets,
    )
    return run_frame(header, request.event, request.code)


def _since_ms(started: float) -> float:
    return (time.perf_counter() - started) * 1_000
