"""A primary and a standby of it, servers of one test's own that it may kill and promote."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg

from infra import artifacts
from infra.embedded.postgres import EmbeddedPostgres
from tests.conftest import running
from tests.port_base import free_ports

Connection = psycopg.Connection[tuple[Any, ...]]  # pyright: ignore[reportExplicitAny] - rows of any query
SLOT = "standby"


class StandbyPostgres(EmbeddedPostgres):
    """A server in recovery, in which nothing can be made."""

    async def initialise(self) -> None:
        """Nothing: it has what the primary has."""


@dataclass(slots=True)
class Pair:
    """The two servers; a context of each is in its `run_` method, and ends with the test."""

    primary: EmbeddedPostgres
    standby: StandbyPostgres

    @asynccontextmanager
    async def run_primary(self) -> AsyncGenerator[Connection]:
        async with _running(self.primary) as connection:
            yield connection

    @asynccontextmanager
    async def run_standby(self) -> AsyncGenerator[Connection]:
        async with _running(self.standby) as connection:
            yield connection

    def copy(self) -> None:
        """Make the standby's folder from the running primary, with a slot that keeps its log."""
        programs = self.primary.programs or artifacts.postgres_bin()
        done = subprocess.run(
            [
                *(str(programs / "pg_basebackup"), "-D", str(self.standby.folder)),
                *("-d", self.primary.dsn("postgres"), "-C", "-S", SLOT),
                *("--checkpoint=fast", "--no-sync"),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        (self.standby.folder / "standby.signal").touch()
        if os.geteuid() == 0:
            for path in (self.standby.folder, *self.standby.folder.rglob("*")):
                shutil.chown(path, "nobody")


@asynccontextmanager
async def _running(server: EmbeddedPostgres) -> AsyncGenerator[Connection]:
    context = running(server)
    await asyncio.to_thread(context.__enter__)
    try:
        with psycopg.connect(server.dsn("shop"), autocommit=True) as connection:
            yield connection
    finally:
        await asyncio.to_thread(context.__exit__, None, None, None)


def make_pair(folder: Path, version: int, **settings: str) -> Pair:
    """Neither is started; `settings` are the primary's, besides what standbys need."""
    ports = free_ports(2)
    primary = EmbeddedPostgres(
        folder / "primary",
        ports[0],
        folder / "primary.log",
        password="owner-secret",
        listener_password="listener-secret",
        databases=("shop",),
        settings=(("fsync", "off"), *settings.items()),
        programs=artifacts.older_postgres_bins().get(version),
    )
    of_standby = {
        "fsync": "off",
        "hot_standby_feedback": "on",
        "primary_slot_name": SLOT,
        "primary_conninfo": primary.dsn("postgres").replace("'", "''"),
        "wal_receiver_status_interval": "1",
    }
    made = replace(
        primary,
        folder=folder / "standby",
        port=ports[1],
        log=folder / "standby.log",
        settings=tuple(of_standby.items()),
    )
    fields = {name: getattr(made, name) for name in EmbeddedPostgres.__dataclass_fields__}
    return Pair(primary, StandbyPostgres(**fields))
