"""A standby as the source: what has to be written is written on its primary."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from aiokafka import ConsumerRecord

from cdc.errors import CaptureConfigError
from cdc.postgres import PostgresSource
from cdc.postgres_doctor import examine_postgres
from cdc.postgres_primary import connect_to_write
from cdc.read_policy import enable_row_audit
from events.cluster import Cluster
from events.topic import reads_topic
from tests.cdc.postgres_place import capture_of
from tests.cdc.standby import Connection, make_pair

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


ReadTopic = Callable[[str], Awaitable[list[ConsumerRecord]]]


async def until_told(read_topic: ReadTopic, topic: str, expected: list[tuple[str, int]]) -> None:
    found: list[tuple[str, int]] = []
    async with asyncio.timeout(60):
        while len(found) < len(expected):
            bodies = [json.loads(record.value or b"") for record in await read_topic(topic)]
            found = sorted((body["op"], body["after"]["id"]) for body in bodies)
            await asyncio.sleep(0.1)
    assert found == sorted(expected)


async def until_a_read_is_told(
    source: PostgresSource, primary: Connection, standby: Connection, read_topic: ReadTopic
) -> None:
    """Audited at the primary, told by the standby; reads on that one do not fail."""
    async with await connect_to_write(source) as connection:
        await enable_row_audit(connection, source, "public", "items", force=True)
    primary.execute("create role reader")
    primary.execute("grant select on items to reader")
    primary.execute("set role reader")
    primary.execute("select from items where id = 2")
    primary.execute("reset role")
    topic = reads_topic(source.name, "public", "items")
    async with asyncio.timeout(60):
        while not (told := await read_topic(topic)):
            await asyncio.sleep(0.1)
    assert [record.key for record in told] == [b'{"id":2}']
    standby.execute("set role reader")
    assert standby.execute("select from items").rowcount == 3
    standby.execute("reset role")


async def test_rows_of_a_standby_are_loaded_and_its_changes_told_by_way_of_its_primary(
    tmp_path: Path, cluster: Cluster, read_topic: ReadTopic
) -> None:
    pair = make_pair(tmp_path, 16)
    name = f"s{uuid.uuid4().hex[:10]}"
    alone = PostgresSource(
        name,
        pair.standby.dsn("shop"),
        name,
        name,
        tables=("public.*",),
        heartbeat_s=0.2,
        snapshot="initial",
    )
    source = replace(alone, primary_dsn=pair.primary.dsn("shop"))
    async with pair.run_primary() as primary:
        await asyncio.to_thread(pair.copy)
        primary.execute("create table items (id int primary key)")
        primary.execute("insert into items values (1), (2)")
        async with pair.run_standby() as standby:
            with pytest.raises(CaptureConfigError, match="standby without the publication"):
                async with capture_of(alone, cluster):
                    pass
            wrong = replace(alone, primary_dsn=alone.dsn)
            with pytest.raises(CaptureConfigError, match="found a standby; expected the primary"):
                async with capture_of(wrong, cluster):
                    pass
            topic = f"{name}.public.items"
            async with capture_of(source, cluster):
                await until_told(read_topic, topic, [("r", 1), ("r", 2)])
                primary.execute("insert into items values (3)")
                await until_told(read_topic, topic, [("r", 1), ("r", 2), ("c", 3)])
                # Made while it runs, in the publication from its first row on.
                primary.execute("create table others (id int primary key)")
                primary.execute("insert into others values (7)")
                await until_told(read_topic, f"{name}.public.others", [("c", 7)])
                await until_a_read_is_told(source, primary, standby, read_topic)
                with pytest.raises(CaptureConfigError, match="primary_dsn"):
                    await connect_to_write(alone)
                slots = standby.execute("select slot_name from pg_replication_slots").fetchall()
                assert slots == [(name,)]
                findings = await examine_postgres(source)
                bad = [one for one in findings if one.severity == "error"]
                assert not bad
                assert "standby" not in {one.subject for one in findings}
            primary.execute("insert into items values (4)")
            # The publication is there now: changes come without the primary.
            async with capture_of(alone, cluster):
                await until_told(read_topic, topic, [("r", 1), ("r", 2), ("c", 3), ("c", 4)])
            mends = [one.mend for one in await examine_postgres(alone) if one.subject == "standby"]
            assert mends == [f"set primary_dsn in [sources.{name}] of rowcast.toml"]
