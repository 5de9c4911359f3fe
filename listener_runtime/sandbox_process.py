"""One sandbox process: started, spoken to in frames, killed.

It never ends politely: at its time limit, after garbage or when nobody needs it, it is killed and
reaped. What it wrote to stderr is kept for the reason of an unexpected end.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path
from typing import Final, TypeAlias

import psutil

from listener_runtime.cpu_time import cpu_time_s
from listener_runtime.errors import FrameError, ImageError
from listener_runtime.frames import LENGTH_BYTES, Said, Started, decode_frame, decode_length
from listener_runtime.image import PROGRAM
from listener_runtime.sandbox_command import ENVIRONMENT, confined_command

_START_LIMIT_S: Final = 60.0
PROCESS_MB: Final = 220
"""Resident memory of a process after some hundred pristine runs; it stays there."""

_READY_MB: Final = 180
"""Resident memory of a process of the standard image before its first run."""

STANDARD_MEMORY_MB: Final = 256
"""What the guest of a spare may use; a run that asks for more gets a process of its own size."""

_STREAM_LIMIT_BYTES: Final = 256 * 1024
_STDERR_KEPT_BYTES: Final = 4_096


def memory_cost_mb(memory_mb: int) -> int:
    """What a process whose guest may use so much can come to."""
    return PROCESS_MB + max(0, memory_mb - STANDARD_MEMORY_MB)


class ProcessEndedError(Exception):
    """The process ended by itself; the message says how."""


WarmKey: TypeAlias = "tuple[str, str, tuple[tuple[str, str], ...]]"
"""A listener, its code and its modules."""


class SandboxProcess:
    """A process that is ready for runs. `memory_mb` is the most that its guest may ever use."""

    def __init__(self, process: asyncio.subprocess.Process, memory_mb: int, image: Path) -> None:
        if process.stdin is None or process.stdout is None or process.stderr is None:
            raise ValueError("expected a process with pipes")
        self._process = process
        self._stdin = process.stdin
        self._stdout = process.stdout
        self._stderr = b""
        self._packages_mb = 0
        self._reading_stderr = asyncio.create_task(self._keep_stderr(process.stderr))
        self.memory_mb = memory_mb
        self.image = image
        self.not_imported: dict[str, str] = {}
        self.tenant: str | None = None
        self.warm_for: WarmKey | None = None
        self.pristine_bytes = 0
        self.heap_bytes = 0
        self.idle_since_s = 0.0

    @classmethod
    async def start(cls, deno: Path, image: Path, memory_mb: int) -> SandboxProcess:
        """Start one and wait until it is restored (0.3 s, and what packages take).

        Raises ImageError where it does not get ready.
        """
        # Deno loads what is linked only from where it really is.
        program = (image / PROGRAM).resolve()
        process = await asyncio.create_subprocess_exec(
            *confined_command(deno, program, memory_mb),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=dict(ENVIRONMENT),
            cwd="/",
            limit=_STREAM_LIMIT_BYTES,
            start_new_session=True,
        )
        sandbox = cls(process, memory_mb, image)
        try:
            async with asyncio.timeout(_START_LIMIT_S):
                started = await sandbox._started()
        except (ProcessEndedError, FrameError, TimeoutError) as error:
            await sandbox.kill()
            reason = error if str(error) else "it did not get ready"
            raise ImageError(
                f"a sandbox process of {image} did not start: {reason}. Build the image again: "
                "rm -rf build/sandbox build/stamps/sandbox; make install; an image with packages: "
                "rowcast packages rebuild"
            ) from error
        except BaseException:
            await sandbox.kill()
            raise
        sandbox.pristine_bytes = sandbox.heap_bytes = started.heap_bytes
        sandbox.not_imported = started.not_imported
        return sandbox

    @property
    def memory_cost_mb(self) -> int:
        """What it may come to in resident memory: its own, and what its guest may still take."""
        return memory_cost_mb(self.memory_mb) + self._packages_mb

    def count_packages(self) -> None:
        """Count what it holds beyond a process of the standard image; before its first run."""
        with contextlib.suppress(psutil.NoSuchProcess):
            resident_mb = psutil.Process(self.pid).memory_info().rss >> 20
            self._packages_mb = max(0, resident_mb - _READY_MB)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def cpu_time_s(self) -> float:
        """Seconds of CPU time that it has used since it began; raises OSError once it is gone."""
        return cpu_time_s(self.pid)

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended, as far as is known."""
        return self._process.returncode is None

    def send(self, frame: bytes) -> None:
        """Send a frame; what is lost since the process is gone shows when it is next read."""
        if not self._stdin.is_closing():
            self._stdin.write(frame)

    async def receive(self) -> Started | Said:
        """The next frame; raises FrameError for garbage, ProcessEndedError at its end."""
        try:
            prefix = await self._stdout.readexactly(LENGTH_BYTES)
            payload = await self._stdout.readexactly(decode_length(prefix))
        except asyncio.IncompleteReadError as error:
            raise ProcessEndedError(await self._how_it_ended()) from error
        return decode_frame(payload)

    async def kill(self) -> None:
        """End it now, and wait until it is gone."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        await self._process.wait()
        self._stdin.close()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await self._reading_stderr

    async def _started(self) -> Started:
        first = await self.receive()
        if not isinstance(first, Started):
            raise FrameError("found a run's frame before the process was ready")
        return first

    async def _how_it_ended(self) -> str:
        status = await self._process.wait()
        await asyncio.wait((self._reading_stderr,), timeout=1)
        said = self._stderr.decode("utf-8", "replace").strip().splitlines()
        how = f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        return f"{how}: {said[0][:500]}" if said else how

    async def _keep_stderr(self, stderr: asyncio.StreamReader) -> None:
        while chunk := await stderr.read(_STDERR_KEPT_BYTES):
            # The first words name the cause; a flood after them is read and dropped.
            self._stderr += chunk[: _STDERR_KEPT_BYTES - len(self._stderr)]
