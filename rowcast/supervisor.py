"""All processes of an installation under one roof, and what is known of them.

Starts what it is given, keeps status.json true, tells the console what happens to a process, and
at the end stops the services before the servers they stand on.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TextIO

from infra.process import ProcessSpec
from rowcast.errors import StartError
from rowcast.installation import Installation
from rowcast.status import ServiceStatus, SourceStatus, Status, process_start_s
from rowcast.supervised_process import ProcessState, SupervisedProcess

Say = Callable[[str], None]


class Supervisor:
    """The processes of one installation. Only one supervisor holds a folder at a time."""

    def __init__(self, installation: Installation, say: Say) -> None:
        self._installation = installation
        self._say = say
        self._processes: list[SupervisedProcess] = []
        self._stopping = False
        self._lock = _lock_folder(installation.folder)
        sources = installation.configuration.sources
        self._status = Status(
            http=installation.http_url,
            kafka=installation.cluster.bootstrap,
            port_base=installation.port_base,
            supervisor_pid=os.getpid(),
            supervisor_started_s=process_start_s(os.getpid()),
            sources={
                name: SourceStatus(settings.kind, installation.dsn(name))
                for name, settings in sources.items()
            },
            services={},
        )
        self._write_status()

    def start(
        self, spec: ProcessSpec, answers: Callable[[], Awaitable[bool]] | None = None
    ) -> SupervisedProcess:
        """Keep a process running from now on."""
        process = SupervisedProcess(spec, self._note_change, answers)
        self._processes.append(process)
        process.start()
        return process

    async def ready(self, process: SupervisedProcess, limit_s: float) -> None:
        """Wait until a process was ready once.

        Raises StartError with its last words where it is not within the limit.
        """
        try:
            async with asyncio.timeout(limit_s):
                await process.ready()
        except TimeoutError as error:
            reason = process.last_exit or "it neither got ready nor ended"
            raise StartError(
                f"{process.spec.name} was not ready within {limit_s:.0f} s: {reason}. "
                f"Its log is {process.spec.log}"
            ) from error

    async def stop(self) -> None:
        """Stop the services together, then the servers one by one, last started first."""
        self._stopping = True
        servers = {server.name for server in self._installation.servers}
        services = [p for p in self._processes if p.spec.name not in servers]
        await asyncio.gather(*(process.stop() for process in services))
        for process in reversed(self._processes):
            if process.spec.name in servers:
                await process.stop()
        self._lock.close()

    def _note_change(self, process: SupervisedProcess) -> None:
        name = process.spec.name
        self._status.services[name] = ServiceStatus(
            pid=process.pid if process.state is not ProcessState.RESTARTING else None,
            state=process.state.value,
            restarts=process.restarts,
            last_exit=process.last_exit,
        )
        self._write_status()
        if self._stopping:
            return
        if process.state is ProcessState.RESTARTING:
            self._say(
                f"{name} ended ({process.last_exit}); starting it again in "
                f"{process.backoff_s:g} s. Its log: {process.spec.log}"
            )
        elif process.state is ProcessState.STOPPED:
            self._say(f"{name} ended and is not started again ({process.last_exit})")
        elif process.state is ProcessState.RUNNING and process.restarts:
            self._say(f"{name} runs again")

    def _write_status(self) -> None:
        self._status.write(self._installation.status_file)


def _lock_folder(folder: Path) -> TextIO:
    lock = (folder / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise StartError(
            f"another `rowcast up` runs in {folder}; stop it with Ctrl-C, or give this one a "
            "folder and ports of its own: `rowcast up --dir DIR --port-base N`"
        ) from error
    return lock
