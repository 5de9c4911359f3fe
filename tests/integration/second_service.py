"""Another HTTP service beside a live installation: on its servers, with settings of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import httpx

from tests.integration.live_installation import LIMIT_S, LiveInstallation, wait_until
from tests.port_base import free_ports


class SecondService:
    """One process of `rowcast run http`; `folder` is its own, `variables` lie over rowcast.toml."""

    def __init__(
        self, live: LiveInstallation, folder: Path, variables: dict[str, str] | None = None
    ) -> None:
        (self.port,) = free_ports(1)
        self.folder = folder
        self.log = folder / "http.log"
        self._port_base = live.port_base
        self._variables = {**(variables or {}), "ROWCAST__HTTP__PORT": str(self.port)}
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir()
        for name in ("rowcast.toml", "secrets.json"):
            shutil.copy(live.folder / name, folder / name)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def start(self, *, ready: bool = True) -> None:
        """Start it, and wait until it answers where it is to be `ready`."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                (sys.executable, "-m", "rowcast", "run", "http", "--dir", str(self.folder)),
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **self._variables},
            )
        if ready:
            wait_until(self._answers, f"an answer of {self.url}: {self.log}")

    def kill(self) -> None:
        """End it at once."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(LIMIT_S)

    def stop(self) -> None:
        """End it as a supervisor does."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(LIMIT_S)

    def _answers(self) -> bool | None:
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text()
        try:
            return httpx.get(f"{self.url}/healthz").status_code == 200 or None
        except httpx.TransportError:
            return None
