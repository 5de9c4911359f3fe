"""Changes larger than their topic takes: capture stops and names one, or tells of them instead."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from cdc.errors import RecordTooLargeError
from cdc.postgres import capture_postgres
from cdc.postgres_verification import VerifyLimits, verify_postgres
from events.cluster import Cluster
from tests.cdc.postgres_place import Envelope, Place, capturing
from tests.cdc.snapshot_view import loading

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

LIMIT_BYTES = 20_000
TABLE = """create table items (id int primary key, a int, body text);
    alter table items alter column body set storage external"""
MANY = "insert into items select n, n, repeat('y', 900) from generate_series(4, 99) n"
BIG = """insert into items values
    (1, 1, 'small'), (2, 1, repeat('x', 30000)), (3, 1, repeat('x', 18000))"""


@asynccontextmanager
async def admin(cluster: Cluster) -> AsyncGenerator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=cluster.bootstrap)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def make_narrow_topic(place: Place) -> str:
    """The table's topic as an operator made it, with a limit of its own."""
    topic = f"{place.source.name}.public.items"
    limit = {"max.message.bytes": str(LIMIT_BYTES)}
    async with admin(place.cluster) as client:
        await client.create_topics([NewTopic(topic, 4, 1, topic_configs=limit)])
    return topic


async def bodies(place: Place, topic: str) -> list[Envelope]:
    records = await place.read_topic(topic)
    return [json.loads(record.value) for record in records if record.value]


async def test_a_row_too_large_for_its_topic_is_told_of_once_and_all_others_are_there(
    place: Place,
) -> None:
    await place.run(TABLE)
    topic = await make_narrow_topic(place)
    source = replace(loading(place), on_record_too_large="dead_letter")
    async with capturing(place, source):
        await place.run(BIG)
        # Many in one group, on a topic whose limit is far below a batch's usual size.
        await place.run(MANY)
        # Told without the large value, which nothing on the topic has.
        await place.run("update items set a = 2 where id in (2, 3)")
        await place.run("insert into items values (100, 1, repeat('z', 40000))")
        await place.run("update items set body = 'small again' where id = 100")
        limits = VerifyLimits(timeout_s=30)
        verification = await verify_postgres(source, place.cluster, limits=limits)
    (table,) = verification.tables
    assert verification.difference_count == 0, verification
    assert verification.transactions == 5
    assert "2 changes of it were larger" in table.statements[0]
    assert (table.untold, table.untold_values) == (0, 1)
    letters = await bodies(place, place.cluster.topics.dead)
    assert letters == [
        body
        for body in await bodies(place, place.cluster.topics.events)
        if body["type"] == "system.record_too_large"
    ]
    told = {letter["data"]["key"]["id"]: letter["data"] for letter in letters}
    assert told.keys() == {2, 100}
    assert len(letters) == 2
    assert told[2]["topic"] == topic
    assert told[2]["total_order"] == 2
    assert told[2]["size_bytes"] > 30_000
    assert told[2]["limit_bytes"] == LIMIT_BYTES
    changes = await bodies(place, topic)
    assert told[2]["id"] not in {change["id"] for change in changes}
    assert {change["after"]["id"] for change in changes if change["op"] == "c"} == {
        1,
        *range(3, 100),
    }


async def test_capture_stops_at_a_row_too_large_and_goes_on_once_its_topic_takes_it(
    place: Place,
) -> None:
    await place.run(TABLE)
    topic = await make_narrow_topic(place)
    source = loading(place)
    async with capturing(place, source):
        pass
    await place.run(BIG)
    with pytest.raises(RecordTooLargeError) as stopped:
        await capture_postgres(source, place.cluster, stop=asyncio.Event(), on_ready=lambda: None)
    said = str(stopped.value)
    assert f"topic {topic}, key " in said
    assert '{"id":2}' in said
    assert 'on_record_too_large = "dead_letter"' in said
    assert await bodies(place, topic) == []
    resource = ConfigResource(
        ConfigResourceType.TOPIC, topic, configs={"max.message.bytes": str(2 * LIMIT_BYTES)}
    )
    async with admin(place.cluster) as client:
        await client.alter_configs([resource])
    async with capturing(place, source):
        await place.until("items", 3)
        verification = await verify_postgres(source, place.cluster)
    assert verification.difference_count == 0
    assert await bodies(place, place.cluster.topics.dead) == []
