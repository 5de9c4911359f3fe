"""The pool of sandbox processes, and the sandbox as the router knows it.

A process is a spare until it is given to a tenant, and then that tenant's for good. Runs wait in
one queue a listener; the listener with the fewest runs under way goes first and none may hold more
than half of the processes, so that one that never ends holds up nobody but itself. A process that
was killed is replaced at once by a spare, and a new spare is started behind it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from typing import Final

from events.run import RunOutcome, RunRequest
from listener_runtime.errors import ImageError
from listener_runtime.host_calls import HostCalls
from listener_runtime.image import PROGRAM, SNAPSHOT
from listener_runtime.redaction import Redaction
from listener_runtime.sandbox_process import SandboxProcess
from listener_runtime.sandbox_run import run_in
from listener_runtime.settings import HostSettings, PoolSettings

_log = logging.getLogger(__name__)

STANDARD_MEMORY_MB: Final = 256
"""What a spare may use; a run that asks for more gets a process of its own size."""

_GROWN_BYTES: Final = 64 * 1024 * 1024
"""Memory never shrinks, and putting it back costs by its size: past this a process is replaced."""

_START_BACKOFF_S: Final = 1.0


class SandboxPool:
    """Runs listeners' code; see events.run.Sandbox."""

    def __init__(self, settings: PoolSettings, host: HostSettings) -> None:
        missing = [n for n in (PROGRAM, SNAPSHOT) if not (settings.image / n).exists()]
        if missing:
            raise ImageError(
                f"found no {', '.join(missing)} in {settings.image}, expected the sandbox image; "
                "run `make install`"
            )
        self._settings = settings
        self._host = HostCalls(host)
        self._secrets = dict(host.secrets)
        self._redaction = Redaction(host.secrets.values())
        self._idle: list[SandboxProcess] = []
        self._starting: dict[asyncio.Task[None], int] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._busy: set[SandboxProcess] = set()
        self._waiting: dict[str, deque[_Waiter]] = {}
        self._running: Counter[str] = Counter()
        self._start_error: ImageError | None = None
        self._closed = False

    async def start(self) -> None:
        """Start the processes that are kept ready; raises ImageError where none can be."""
        self._fill()
        await asyncio.gather(*self._starting)
        if self._start_error is not None:
            error = self._start_error
            await self.close()
            raise error

    async def run(self, request: RunRequest) -> RunOutcome:
        """Run to its end; raises nothing for what the guest does."""
        process = await self._acquire(request)
        if isinstance(process, ImageError):
            return RunOutcome("failed", 0.0, f"no sandbox process could be started: {process}")
        self._busy.add(process)
        try:
            return await run_in(process, request, self._host, self._secrets, self._redaction)
        finally:
            self._busy.discard(process)
            self._release(process, request.listener)

    async def close(self) -> None:
        """Kill all processes, and whatever runs in them."""
        self._closed = True
        for task in self._starting:
            task.cancel()
        await asyncio.gather(*self._starting, return_exceptions=True)
        await asyncio.gather(*(process.kill() for process in (*self._idle, *self._busy)))
        await asyncio.gather(*self._closing, return_exceptions=True)
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

    @property
    def _has_room(self) -> bool:
        return self._count < self._settings.processes_max

    @property
    def _share(self) -> int:
        return max(1, self._settings.processes_max // 2)

    async def _acquire(self, request: RunRequest) -> SandboxProcess | ImageError:
        waiter = _Waiter(request)
        self._waiting.setdefault(request.listener, deque()).append(waiter)
        self._serve()
        try:
            return await waiter.given
        except asyncio.CancelledError:
            self._withdraw(waiter)
            raise

    def _withdraw(self, waiter: _Waiter) -> None:
        """A run was given up while it waited, or just as it was served."""
        listener = waiter.request.listener
        queue = self._waiting.get(listener)
        if queue is not None and waiter in queue:
            queue.remove(waiter)
            if not queue:
                del self._waiting[listener]
        elif waiter.given.done() and not waiter.given.cancelled():
            given = waiter.given.result()
            if isinstance(given, SandboxProcess):
                self._release(given, listener)

    def _release(self, process: SandboxProcess, listener: str) -> None:
        self._running[listener] -= 1
        if self._running[listener] <= 0:
            del self._running[listener]
        grown = process.heap_bytes > process.pristine_bytes + _GROWN_BYTES
        if process.is_alive and not self._closed:
            if grown or process.memory_mb > STANDARD_MEMORY_MB:
                self._discard(process)
            else:
                self._idle.append(process)
        self._serve()

    def _serve(self) -> None:
        """Give processes to those who wait, as far as there are any."""
        if self._closed:
            return
        self._idle = [process for process in self._idle if process.is_alive]
        passed_over: set[str] = set()
        while (listener := self._next_listener(passed_over)) is not None:
            queue = self._waiting[listener]
            process = self._take(queue[0].request)
            if process is None:
                passed_over.add(listener)
                continue
            waiter = queue.popleft()
            if not queue:
                del self._waiting[listener]
            self._running[listener] += 1
            waiter.given.set_result(process)
        self._fill()

    def _next_listener(self, passed_over: set[str]) -> str | None:
        ready = [
            name
            for name in self._waiting
            if name not in passed_over and self._running[name] < self._share
        ]
        return min(ready, key=lambda name: self._running[name], default=None)

    def _take(self, request: RunRequest) -> SandboxProcess | None:
        needed_mb = _size_mb(request)
        fitting = [
            process
            for process in self._idle
            if process.memory_mb >= needed_mb and process.tenant in (None, request.tenant)
        ]
        # A tenant's own process first, so that spares stay spares.
        process = min(fitting, key=lambda one: one.tenant is None, default=None)
        if process is not None:
            self._idle.remove(process)
            process.tenant = request.tenant
        return process

    def _fill(self) -> None:
        """Start what is missing: for those who wait, then spares behind those in use."""
        if self._closed:
            return
        unclaimed = sorted(self._starting.values())
        for memory_mb in self._wanted():
            claimed = next((mb for mb in unclaimed if mb >= memory_mb), None)
            if claimed is not None:
                unclaimed.remove(claimed)
            elif self._has_room or self._evict():
                self._begin(memory_mb)
        spares = len(unclaimed) + sum(process.tenant is None for process in self._idle)
        while self._has_room and (self._count < self._settings.processes or spares < 1):
            self._begin(STANDARD_MEMORY_MB)
            spares += 1

    def _wanted(self) -> list[int]:
        """Sizes of the processes that those who wait could use at once, were they there."""
        share = self._share
        return [
            _size_mb(waiter.request)
            for name, queue in self._waiting.items()
            for waiter in list(queue)[: max(0, share - self._running[name])]
        ]

    def _evict(self) -> bool:
        """Make room by ending an idle process, which fits none of those who wait."""
        if not self._idle:
            return False
        self._discard(self._idle.pop(0))
        return True

    def _begin(self, memory_mb: int) -> None:
        task = asyncio.create_task(self._start_one(memory_mb))
        self._starting[task] = memory_mb
        task.add_done_callback(self._started)

    def _started(self, task: asyncio.Task[None]) -> None:
        self._starting.pop(task, None)
        self._serve()

    async def _start_one(self, memory_mb: int) -> None:
        try:
            process = await SandboxProcess.start(self._settings, memory_mb)
        except ImageError as error:
            _log.error("%s", error)
            self._start_error = error
            self._refuse_all(error)
            await asyncio.sleep(_START_BACKOFF_S)
            return
        self._start_error = None
        self._idle.append(process)

    def _refuse_all(self, error: ImageError) -> None:
        """Nobody waits for ever for a process that cannot be started."""
        if self._idle or self._busy:
            return
        for queue in self._waiting.values():
            for waiter in queue:
                if not waiter.given.done():
                    waiter.given.set_result(error)
        self._waiting.clear()

    def _discard(self, process: SandboxProcess) -> None:
        task = asyncio.create_task(process.kill())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def _size_mb(request: RunRequest) -> int:
    """The size of the process that a run needs: the standard one, or a power of two above it."""
    size_mb = STANDARD_MEMORY_MB
    while size_mb < request.memory_mb:
        size_mb *= 2
    return size_mb


class _Waiter:
    """A run that waits for a process."""

    def __init__(self, request: RunRequest) -> None:
        self.request = request
        self.given: asyncio.Future[SandboxProcess | ImageError] = (
            asyncio.get_running_loop().create_future()
        )
