"""Debian's PostgreSQL 15 with pgaudit, which the embedded one lacks, and capture of its log."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import cast

import pytest

from cdc.pgaudit_reads import capture_reads
from cdc.statement_read import StatementDetail
from events.topic import reads_topic
from infra import artifacts
from infra.embedded.postgres import EmbeddedPostgres
from tests.cdc.postgres_place import Envelope, Place
from tests.conftest import running
from tests.port_base import free_ports

PROGRAMS = artifacts.older_postgres_bins()[15]
SETTINGS = (
    ("shared_preload_libraries", "pgaudit"),
    ("logging_collector", "on"),
    ("log_destination", "jsonlog"),
    # Not UTC, and with a second of its own only: files follow one another within one.
    ("log_timezone", "Europe/Berlin"),
    ("log_filename", "postgresql-%Y-%m-%d_%H%M%S.log"),
)


def audited_postgres(folder: Path) -> EmbeddedPostgres:
    """A server with pgaudit loaded, not yet started."""
    if not (PROGRAMS.parent / "lib" / "pgaudit.so").exists():
        # `make test` installs it: a machine without it lacks a step, and must not pass.
        pytest.fail("pgaudit is not installed; `make test` installs postgresql-15-pgaudit")
    return EmbeddedPostgres(
        folder,
        free_ports(1)[0],
        folder.with_suffix(".log"),
        password="owner-secret",
        listener_password="listener-secret",
        databases=("shop",),
        settings=SETTINGS,
        programs=PROGRAMS,
    )


@contextmanager
def audited_server(folder: Path) -> Generator[str]:
    """A superuser's address of such a server, which runs."""
    server = audited_postgres(folder)
    with running(server):
        yield server.dsn("shop")


@asynccontextmanager
async def reading(
    place: Place, detail: StatementDetail | None = None
) -> AsyncGenerator[asyncio.Task[None]]:
    """Capture of the log of a place's server, until the end of the context."""
    stop = asyncio.Event()
    task = asyncio.create_task(
        capture_reads(place.source, place.cluster, detail or StatementDetail(), stop=stop)
    )
    try:
        yield task
    finally:
        stop.set()
        await task


async def reads_of(place: Place, table: str = "patients") -> list[Envelope]:
    """The events of a table's reads, in the order of the log."""
    records = await place.read_topic(reads_topic(place.source.name, "public", table))
    found = [cast("Envelope", json.loads(record.value or b"null")) for record in records]
    return sorted(found, key=lambda body: body["source"]["ts_ms"])


async def until_read(place: Place, count: int, table: str = "patients") -> list[Envelope]:
    """The events once there are so many, and no more."""
    async with asyncio.timeout(60):
        while len(found := await reads_of(place, table)) < count:
            await asyncio.sleep(0.05)
    assert len(found) == count, [body.get("statement") for body in found]
    return found


def psql(dsn: str, *statements: str) -> str:
    """What psql prints for statements, each sent by itself."""
    command = [str(PROGRAMS / "psql"), dsn, "-At", "-v", "ON_ERROR_STOP=1"]
    done = subprocess.run(
        [*command, *(part for one in statements for part in ("-c", one))],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout
