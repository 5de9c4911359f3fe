"""What runs, as `rowcast status --json` gives it: one file, written whole at each change."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import psutil


class ServiceStatus(msgspec.Struct, omit_defaults=True):
    """One process: its state is starting, running, restarting or stopped."""

    pid: int | None
    state: str
    restarts: int = 0
    last_exit: str | None = None


class SourceStatus(msgspec.Struct):
    """One source and how to reach it."""

    kind: str
    dsn: str


class Status(msgspec.Struct):
    """The installation as its supervisor last saw it."""

    http: str
    kafka: str
    port_base: int
    supervisor_pid: int
    supervisor_started_s: float
    sources: dict[str, SourceStatus]
    services: dict[str, ServiceStatus]

    def write(self, file: Path) -> None:
        """Replace the file in one step, readable by its owner only: addresses hold passwords."""
        new = file.with_suffix(".new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as out:
            out.write(msgspec.json.encode(self))
        new.replace(file)


def read_status(file: Path) -> Status | None:
    """What the file says, or None where there is none; not whether it is still true."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=Status)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def supervisor_runs(status: Status) -> bool:
    """Whether the supervisor that wrote a status is still the one with its pid."""
    try:
        return abs(process_start_s(status.supervisor_pid) - status.supervisor_started_s) < 1.0
    except psutil.NoSuchProcess:
        return False


def process_start_s(pid: int) -> float:
    """When a process started, in seconds since the epoch."""
    return psutil.Process(pid).create_time()


def with_truth(status: Status) -> Status:
    """The status with every process that is gone called stopped."""
    alive = supervisor_runs(status)
    for service in status.services.values():
        if not alive:
            service.state = "stopped"
            service.pid = None
    return status
