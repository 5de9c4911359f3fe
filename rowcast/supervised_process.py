"""One process kept running: started, watched, restarted with backoff, stopped.

A service says that it is ready by writing a line to the pipe whose number stands in
ROWCAST_READY_FD; a server is asked whether it answers. Everything it prints goes to its log, and
the log's last line is the reason given when it dies.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from enum import Enum
from pathlib import Path

from infra.process import ProcessSpec

READY_VARIABLE = "ROWCAST_READY_FD"
NOT_AGAIN_EXIT = 3
"""A process ends with this status where starting it again would do harm."""
_BACKOFF_FIRST_S = 0.25
_BACKOFF_MAX_S = 10.0
_STEADY_AFTER_S = 30.0
_ASK_EVERY_S = 0.1
_LOG_TAIL_BYTES = 4_000
_LOG_ROTATE_BYTES = 64 * 1024 * 1024


class ProcessState(Enum):
    """Where a process stands."""

    STARTING = "starting"
    RUNNING = "running"
    RESTARTING = "restarting"
    STOPPED = "stopped"


class SupervisedProcess:
    """A process under the supervisor.

    `on_change(process)` is called at each change of state; `answers` asks a server whether it
    serves, None means that the process says so itself by its pipe.
    """

    def __init__(
        self,
        spec: ProcessSpec,
        on_change: Callable[[SupervisedProcess], None],
        answers: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        self.spec = spec
        self.state = ProcessState.STARTING
        self.pid: int | None = None
        self.restarts = 0
        self.last_exit: str | None = None
        self.backoff_s = _BACKOFF_FIRST_S
        self._on_change = on_change
        self._answers = answers
        self._stopping = asyncio.Event()
        self._first_ready = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to keep it running; returns at once."""
        self._task = asyncio.create_task(self._keep_running(), name=self.spec.name)

    async def ready(self) -> None:
        """Wait until it was ready once."""
        await self._first_ready.wait()

    async def stop(self) -> None:
        """Ask it to stop, kill it where it does not within its time, and wait."""
        self._stopping.set()
        if self._task is not None:
            await self._task

    async def _keep_running(self) -> None:
        while not self._stopping.is_set():
            started = time.monotonic()
            status = await self._run_once()
            if self._stopping.is_set() or status == NOT_AGAIN_EXIT:
                break
            if time.monotonic() - started > _STEADY_AFTER_S:
                self.backoff_s = _BACKOFF_FIRST_S
            self.restarts += 1
            self._change(ProcessState.RESTARTING)
            if await _is_set_within(self._stopping, self.backoff_s):
                break
            self.backoff_s = min(self.backoff_s * 2, _BACKOFF_MAX_S)
        self.pid = None
        self._change(ProcessState.STOPPED)

    async def _run_once(self) -> int:
        read_end, write_end = os.pipe()
        rotate(self.spec.log)
        try:
            with self.spec.log.open("ab") as log:
                log_start = log.tell()
                self._process = await asyncio.create_subprocess_exec(
                    *self.spec.command(),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, **self.spec.environment, READY_VARIABLE: str(write_end)},
                    pass_fds=(write_end,),
                    # A terminal's Ctrl-C is for the supervisor, which stops things in order.
                    start_new_session=True,
                )
        finally:
            os.close(write_end)
        self.pid = self._process.pid
        self._change(ProcessState.STARTING)
        exited = asyncio.create_task(self._process.wait())
        announced = asyncio.create_task(self._wait_until_ready(read_end))
        stopping = asyncio.create_task(self._stopping.wait())
        announced.add_done_callback(self._note_ready)
        await asyncio.wait((exited, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not exited.done():
            await self._end(exited)
        for task in (announced, stopping):
            task.cancel()
        await asyncio.gather(announced, stopping, return_exceptions=True)
        self.last_exit = describe_exit(exited.result(), self.spec.log, log_start)
        return exited.result()

    def _note_ready(self, announced: asyncio.Task[bool]) -> None:
        if not announced.cancelled() and announced.exception() is None and announced.result():
            self._first_ready.set()
            self._change(ProcessState.RUNNING)

    async def _wait_until_ready(self, read_end: int) -> bool:
        if self._answers is not None:
            os.close(read_end)
            while not await self._answers():
                await asyncio.sleep(_ASK_EVERY_S)
            return True
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_end, "rb", buffering=0)
        )
        try:
            return bool(await reader.readline())
        finally:
            transport.close()

    async def _end(self, exited: asyncio.Task[int]) -> None:
        self._signal(self.spec.stop_signal)
        done, _ = await asyncio.wait((exited,), timeout=self.spec.stop_timeout_s)
        if not done:
            self._signal(signal.SIGKILL)
            await exited

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    def _change(self, state: ProcessState) -> None:
        self.state = state
        self._on_change(self)


def describe_exit(status: int, log: Path, log_start: int) -> str:
    """How a process ended and the last line it wrote since it was started."""
    how = f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(log_start, size - _LOG_TAIL_BYTES))
        lines = file.read().decode("utf-8", "replace").splitlines()
    said = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f"{how}: {said}" if said else how


def rotate(log: Path) -> None:
    """Put a log that has grown large aside, in place of the one put aside before."""
    if log.exists() and log.stat().st_size > _LOG_ROTATE_BYTES:
        log.replace(log.with_suffix(".log.1"))


async def _is_set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
