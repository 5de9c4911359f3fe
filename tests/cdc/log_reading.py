"""Capture of the log of a server with pgaudit, and what is told of it."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import cast

from cdc.pgaudit_reads import capture_reads
from cdc.statement_read import StatementDetail
from events.topic import reads_topic
from tests.audited_postgres import PROGRAMS
from tests.cdc.postgres_place import Envelope, Place


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
