"""The pool of sandbox processes, and the sandbox as the router knows it.

A process is a spare until it is given to a tenant, and then that tenant's for good. Runs wait in
one queue a listener (waiting_runs.py); none may hold more than half of the processes, so that one
that never ends holds up nobody but itself. A process that was killed is replaced at once by a
spare, and a new spare is started behind it. A tenant with packages has an image of its own, of
which there are no spares: its processes are started for it and are nobody else's.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Final, NamedTuple

from events.redaction import Redaction
from events.run import RunOutcome, RunRequest
from listener_runtime.errors import ImageError
from listener_runtime.frames import RESET_FRAME
from listener_runtime.host_calls import HostCalls
from listener_runtime.image import PROGRAM, SNAPSHOT
from listener_runtime.sandbox_process import STANDARD_MEMORY_MB, SandboxProcess, memory_cost_mb
from listener_runtime.sandbox_run import Host, run_in
from listener_runtime.settings import HostSettings, PoolSettings
from listener_runtime.tenant_images import TenantImages
from listener_runtime.waiting_runs import WaitingRun, WaitingRuns

_log = logging.getLogger(__name__)

_GROWN_BYTES: Final = 64 * 1024 * 1024
"""Memory never shrinks, and putting it back costs by its size: past this a process is replaced."""

_START_BACKOFF_S: Final = 1.0
_LOOK_EVERY_S: Final = 5.0


class _Start(NamedTuple):
    """A process that is being started; `tenant` is set where the image is that tenant's own."""

    memory_mb: int
    image: Path
    tenant: str | None


class SandboxPool:
    """Runs listeners' code; see events.run.Sandbox. `calls` stands in for the host's own."""

    def __init__(
        self, settings: PoolSettings, host: HostSettings, calls: Host | None = None
    ) -> None:
        missing = [n for n in (PROGRAM, SNAPSHOT) if not (settings.image / n).exists()]
        if missing:
            raise ImageError(
                f"found no {', '.join(missing)} in {settings.image}, expected the sandbox image; "
                "run `make install`"
            )
        self._settings = settings
        self._images = TenantImages(settings.image, settings.images)
        self._host: Host = calls or HostCalls(host)
        self._secrets = dict(host.secrets)
        self._redaction = Redaction(host.secrets.values())
        self._schemas = host.schemas
        self._idle: list[SandboxProcess] = []
        self._busy: set[SandboxProcess] = set()
        self._starting: dict[asyncio.Task[None], _Start] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting = WaitingRuns(max(1, settings.processes_max // 2))
        self._start_error: ImageError | None = None
        self._shrinking: asyncio.Task[None] | None = None
        self._closed = False

    async def start(self) -> None:
        """Start the processes that are kept ready; raises ImageError where none can be."""
        self._fill()
        await asyncio.gather(*self._starting)
        if self._start_error is not None:
            error = self._start_error
            await self.close()
            raise error
        self._shrinking = asyncio.create_task(self._shrink())

    async def run(self, request: RunRequest) -> RunOutcome:
        """Run to its end; raises nothing for what the guest does."""
        waiting = WaitingRun(request)
        self._waiting.add(waiting)
        self._serve()
        try:
            return await waiting.outcome
        except asyncio.CancelledError:
            self._waiting.withdraw(waiting)
            raise

    async def close(self) -> None:
        """Kill all processes, and whatever runs in them."""
        self._closed = True
        if self._shrinking is not None:
            self._shrinking.cancel()
        # Not cancelled: asyncio waits for ever where it is cancelled while it makes a process.
        await asyncio.gather(*self._starting, return_exceptions=True)
        await asyncio.gather(*(process.kill() for process in (*self._idle, *self._busy)))
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._waiting.refuse("the sandbox was closed")
        self._idle.clear()
        await self._host.close()

    @property
    def idle(self) -> tuple[SandboxProcess, ...]:
        """The processes that wait for a run."""
        return tuple(self._idle)

    @property
    def busy(self) -> tuple[SandboxProcess, ...]:
        """The processes in which something runs."""
        return tuple(self._busy)

    @property
    def _count(self) -> int:
        return len(self._idle) + len(self._busy) + len(self._starting)

    def _has_room(self, memory_mb: int) -> bool:
        """Whether one more process, for guests of so much, is within what is allowed."""
        if self._count >= self._settings.processes_max:
            return False
        sizes = [process.memory_cost_mb for process in (*self._idle, *self._busy)]
        sizes += [memory_cost_mb(one.memory_mb) for one in self._starting.values()]
        # One alone is always allowed: else a run that asks for much would wait for ever.
        return (
            not sizes or sum(sizes) + memory_cost_mb(memory_mb) <= self._settings.memory_budget_mb
        )

    def _serve(self) -> None:
        """Give processes to those who wait, as far as there are any."""
        if self._closed:
            return
        self._idle = [process for process in self._idle if process.is_alive]
        self._end_outdated()
        for first in self._waiting.in_turn():
            process = self._fitting(first)
            if process is not None:
                runs = self._waiting.take(first)
                self._idle.remove(process)
                self._busy.add(process)
                self._begin(self._carry(process, runs))
        self._fill()

    def _fitting(self, run: WaitingRun) -> SandboxProcess | None:
        """An idle process for a run: best one that is warm for it, a spare only if need be."""
        tenant = run.request.tenant
        image = self._images.image_of(tenant)
        fitting = [
            process
            for process in self._idle
            if process.memory_mb >= run.memory_mb
            and process.tenant in (None, tenant)
            and process.image == image
        ]
        return min(
            fitting,
            key=lambda one: (one.warm_for != run.warm_key, one.tenant is None, one.memory_mb),
            default=None,
        )

    def _end_outdated(self) -> None:
        """End idle processes of tenants whose packages are others by now."""
        for process in list(self._idle):
            tenant = process.tenant
            if tenant is not None and process.image != self._images.image_of(tenant):
                self._idle.remove(process)
                self._begin(process.kill())

    async def _carry(self, process: SandboxProcess, runs: list[WaitingRun]) -> None:
        process.tenant = runs[0].request.tenant
        if process.warm_for is not None and process.warm_for != runs[0].warm_key:
            process.send(RESET_FRAME)
        process.warm_for = runs[0].warm_key
        carrying = asyncio.current_task()

        def give_up(_: object) -> None:
            # Nobody waits for an outcome any more: the process is wanted for others.
            if carrying is not None and all(run.outcome.cancelled() for run in runs):
                carrying.cancel()

        for run in runs:
            run.outcome.add_done_callback(give_up)
        try:
            await run_in(process, runs, self._host, self._secrets, self._redaction, self._schemas)
        except asyncio.CancelledError:
            if not all(run.outcome.cancelled() for run in runs):
                raise
        finally:
            self._busy.discard(process)
            self._waiting.end(runs)
        for run in runs:
            if not run.outcome.done():
                self._waiting.add(run.alone())
        self._release(process)

    def _release(self, process: SandboxProcess) -> None:
        grown = process.heap_bytes > process.pristine_bytes + _GROWN_BYTES
        if process.is_alive and not self._closed:
            if grown or process.memory_mb > STANDARD_MEMORY_MB:
                self._begin(process.kill())
            else:
                self._set_idle(process)
        self._serve()

    def _set_idle(self, process: SandboxProcess) -> None:
        process.idle_since_s = time.monotonic()
        self._idle.append(process)

    def _fill(self) -> None:
        """Start what is missing: for those who wait, then spares behind those in use."""
        if self._closed:
            return
        unclaimed = sorted(self._starting.values(), key=lambda start: start.memory_mb)
        for run in self._waiting.could_begin():
            wanted = self._wanted(run)
            claimed = next((start for start in unclaimed if _serves(start, wanted)), None)
            if claimed is not None:
                unclaimed.remove(claimed)
            elif self._has_room(wanted.memory_mb) or self._evict(wanted.memory_mb):
                self._start_process(wanted)
        spares = sum(one.tenant is None for one in (*unclaimed, *self._idle))
        while self._has_room(STANDARD_MEMORY_MB) and (
            self._count < self._settings.processes or spares < 1
        ):
            self._start_process(_Start(STANDARD_MEMORY_MB, self._settings.image, None))
            spares += 1

    def _wanted(self, run: WaitingRun) -> _Start:
        tenant = run.request.tenant
        image = self._images.image_of(tenant)
        return _Start(run.memory_mb, image, tenant if self._images.is_own(image) else None)

    def _evict(self, memory_mb: int) -> bool:
        """Make room by ending idle processes, which fit none of those who wait."""
        while self._idle and not self._has_room(memory_mb):
            self._begin(self._idle.pop(0).kill())
        return self._has_room(memory_mb)

    async def _shrink(self) -> None:
        """End what nobody needed for long, down to what is kept ready."""
        while True:
            await asyncio.sleep(min(_LOOK_EVERY_S, self._settings.idle_s))
            before_s = time.monotonic() - self._settings.idle_s
            unneeded = [one for one in self._idle if one.idle_since_s < before_s]
            # Spares last: they fit whoever comes.
            unneeded.sort(key=lambda one: (one.tenant is None, one.idle_since_s))
            for process in unneeded[: max(0, self._count - self._settings.processes)]:
                self._idle.remove(process)
                self._begin(process.kill())

    def _start_process(self, start: _Start) -> None:
        task = asyncio.create_task(self._start_one(start))
        self._starting[task] = start
        task.add_done_callback(self._started)

    def _started(self, task: asyncio.Task[None]) -> None:
        self._starting.pop(task, None)
        self._serve()

    async def _start_one(self, start: _Start) -> None:
        try:
            process = await SandboxProcess.start(self._settings.deno, start.image, start.memory_mb)
        except ImageError as error:
            _log.error("%s", error)
            others = (*self._idle, *self._busy)
            if start.tenant is None:
                self._start_error = error
            else:
                others = tuple(one for one in others if one.tenant == start.tenant)
            if not others:
                # Nobody waits for ever for a process that cannot be started.
                refusal = f"no sandbox process could be started: {error}"
                self._waiting.refuse(refusal, start.tenant)
            if not self._closed:
                await asyncio.sleep(_START_BACKOFF_S)
            return
        process.tenant = start.tenant
        if start.tenant is None:
            self._start_error = None
        else:
            process.count_packages()
        if self._closed:
            await process.kill()
            return
        self._set_idle(process)

    def _begin(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _serves(start: _Start, wanted: _Start) -> bool:
    return start.memory_mb >= wanted.memory_mb and start.image == wanted.image
