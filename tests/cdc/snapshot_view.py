"""What a topic says of a table: the events of snapshots, and the rows left after compaction."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from dataclasses import replace
from typing import Any, cast

from aiokafka import AIOKafkaProducer

from cdc.postgres import PostgresSource
from cdc.snapshot_state import SnapshotKey, SnapshotRequest, SnapshotStates, TableSnapshot
from tests.cdc.postgres_place import Envelope, Place

Row = dict[str, Any]  # pyright: ignore[reportExplicitAny] - decoded JSON, looked at field by field
LIMIT_S = 60.0


def loading(place: Place) -> PostgresSource:
    """The place's source, its rows loaded on first sight."""
    return replace(place.source, snapshot="initial")


async def bodies(place: Place, table: str) -> list[Envelope]:
    """All events of a table, in the order of the topic (within each partition)."""
    records = await place.read_topic(f"{place.source.name}.public.{table}")
    return [cast("Envelope", json.loads(record.value)) for record in records if record.value]


async def reads(place: Place, table: str) -> list[Envelope]:
    """The events of rows read by snapshots."""
    return [body for body in await bodies(place, table) if body["op"] == "r"]


async def compacted(place: Place, table: str) -> dict[bytes, Row]:
    """The last row of each key, as it is after compaction; deleted ones are left out."""
    rows: dict[bytes, Row] = {}
    for record in await place.read_topic(f"{place.source.name}.public.{table}"):
        body = cast("Envelope", json.loads(record.value or b"null"))
        assert record.key is not None
        rows.pop(record.key, None)
        if body["after"] is not None:
            rows[record.key] = body["after"]
    return rows


async def states(place: Place) -> SnapshotStates:
    """What stands on the topic of snapshots."""
    found = SnapshotStates(place.source.name)
    for record in await place.read_topic(place.cluster.topics.snapshots):
        found.take(record.key or b"", record.value)
    return found


async def until_over(place: Place, table: str, snapshot: str | None = None) -> TableSnapshot:
    """The state of a table's snapshot once it has finished or failed."""
    # Each look is a client of its own, on a broker with the topics of all tests: looks that follow
    # each other at once would leave the capture, which runs beside them here, no time.
    deadline_s = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline_s:
        state = (await states(place)).tables.get(("public", table))
        if (
            state is not None
            and state.state in ("finished", "failed")
            and snapshot in (None, state.snapshot)
        ):
            return state
        if place.captures and place.captures[-1].done():
            place.captures[-1].result()
        await asyncio.sleep(0.3)
    raise AssertionError(f"the snapshot of {table} was not over within {LIMIT_S:.0f} s")


async def ask(place: Place, table: str, where: str = "") -> str:
    """Ask for a snapshot as `rowcast snapshot` does; returns its id."""
    request = uuid.uuid4().hex[:8]
    key = SnapshotKey(place.source.name, request=request).encode()
    value = SnapshotRequest("public", table, where).encode()
    async with AIOKafkaProducer(bootstrap_servers=place.cluster.bootstrap) as producer:
        await producer.send_and_wait(place.cluster.topics.snapshots, value, key)
    return request
