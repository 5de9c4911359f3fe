"""Servers of a test's own, which it may kill, and services that are started again when they end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager

import psutil

from infra.embedded.server import EmbeddedServer
from tests.faults.load import LIMIT_S
from tests.faults.processes import ServiceProcess


class KillableServer:
    """An embedded server; killed, it goes with all its processes."""

    def __init__(self, server: EmbeddedServer) -> None:
        server.prepare()
        self._server = server
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        spec = self._server.process()
        with spec.log.open("ab") as log:
            self._process = subprocess.Popen(
                spec.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **spec.environment},
            )
        deadline = time.monotonic() + LIMIT_S
        while not asyncio.run(self._server.answers()):
            assert time.monotonic() < deadline, spec.log.read_text()[-2_000:]
            assert self._process.poll() is None, spec.log.read_text()[-2_000:]
            time.sleep(0.05)
        asyncio.run(self._server.initialise())

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal; SIGKILL goes to its children as well, and is waited for."""
        assert self._process is not None
        family = [psutil.Process(self._process.pid)]
        if number == signal.SIGKILL:
            family += family[0].children(recursive=True)
        for member in family:
            try:
                member.send_signal(number)
            except psutil.NoSuchProcess:
                continue
        if number == signal.SIGKILL:
            self._process.wait()
            psutil.wait_procs(family, LIMIT_S)

    def close(self) -> None:
        """Kill it, if it was started."""
        if self._process is not None and self._process.poll() is None:
            self.signal(signal.SIGKILL)


class KeptRunning(threading.Thread):
    """Starts a service again whenever it ends, as the supervisor does; counts its ends."""

    def __init__(self, service: ServiceProcess) -> None:
        super().__init__(daemon=True)
        self._service = service
        self._stopped = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self.ready = threading.Event()
        self.ends = 0

    def run(self) -> None:
        while not self._stopped.is_set():
            with self._service.started() as process:
                self._process = process
                threading.Thread(target=self._await_ready, args=(process,), daemon=True).start()
                while process.poll() is None:
                    if self._stopped.wait(0.05):
                        return
            self.ready.clear()
            self.ends += 1
            self._stopped.wait(0.2)

    def kill(self) -> None:
        """Kill the process that runs now, if one does."""
        if self._process is not None:
            self._process.kill()

    def _await_ready(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        if process.stdout.readline() == b"ready\n":
            self.ready.set()

    def stop(self) -> None:
        self._stopped.set()
        self.join(LIMIT_S)


@contextmanager
def kept_running(service: ServiceProcess) -> Generator[KeptRunning]:
    """The service, ready, and started again whenever it ends."""
    kept = KeptRunning(service)
    kept.start()
    try:
        assert kept.ready.wait(LIMIT_S)
        yield kept
    finally:
        kept.stop()
