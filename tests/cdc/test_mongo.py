from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from cdc.change_group import ChangeGroup
from cdc.errors import FencedError
from cdc.mongo import MongoSource, capture_mongo
from cdc.progress import MongoProgress, decode_progress
from cdc.publisher import Publisher
from cdc.topic_creation import ensure_own_topics, ensure_topics
from events.cluster import Cluster

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

Json = dict[str, Any]  # pyright: ignore[reportExplicitAny] - JSON and BSON taken apart by assertions
ReadTopic = Callable[[str], Awaitable[list[ConsumerRecord]]]
LIMIT_S = 60.0


@pytest.fixture
def source(mongo_uri: str, database: AsyncDatabase[Json]) -> MongoSource:
    return MongoSource(f"s{uuid.uuid4().hex[:12]}", mongo_uri, database.name)


class Topic:
    """A topic of changes, read as they come."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer

    async def next(self, count: int) -> list[ConsumerRecord]:
        found: list[ConsumerRecord] = []
        async with asyncio.timeout(LIMIT_S):
            while len(found) < count:
                found.append(await self._consumer.getone())
        return found

    async def bodies(self, count: int) -> list[Json]:
        return [body(record) for record in await self.next(count)]


@asynccontextmanager
async def reading(cluster: Cluster, topic: str) -> AsyncGenerator[Topic]:
    await ensure_own_topics(cluster)
    await ensure_topics(cluster, [topic])
    async with AIOKafkaConsumer(
        topic,
        bootstrap_servers=cluster.bootstrap,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
    ) as consumer:
        yield Topic(consumer)


@asynccontextmanager
async def capturing(source: MongoSource, cluster: Cluster) -> AsyncGenerator[asyncio.Task[None]]:
    """A capture that is ready; stopped at the end."""
    stop, ready = asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(capture_mongo(source, cluster, stop=stop, on_ready=ready.set))
    waiting = asyncio.create_task(ready.wait())
    async with asyncio.timeout(LIMIT_S):
        await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            waiting.cancel()
            await task
        yield task
        stop.set()
        await task


def body(record: ConsumerRecord) -> Json:
    assert record.value is not None
    found: Json = json.loads(record.value)
    return found


def topic_of(source: MongoSource, collection: str) -> str:
    return f"{source.name}.{source.database}.{collection}"


def one_partition(cluster: Cluster) -> Cluster:
    """The cluster with topics of one partition, so that all records of one stand in order."""
    return replace(cluster, partitions=1)


async def stored_progress(cluster: Cluster, source: MongoSource) -> MongoProgress:
    """What the next start would read; fences a capture that runs."""
    publisher = Publisher(cluster, source.name)
    try:
        value = await publisher.start()
    finally:
        await publisher.close()
    assert value is not None
    progress = decode_progress(value)
    assert isinstance(progress, MongoProgress)
    return progress


async def test_every_kind_of_change_arrives_with_both_images(
    cluster: Cluster, source: MongoSource, database: AsyncDatabase[Json]
) -> None:
    await database.create_collection("items")
    items = database["items"]
    async with reading(cluster, topic_of(source, "items")) as topic, capturing(source, cluster):
        await items.insert_one({"_id": 1, "status": "new", "total": 0.1})
        await items.update_one({"_id": 1}, {"$set": {"status": "paid"}})
        await items.replace_one({"_id": 1}, {"status": "gone", "total": 0.1})
        await items.delete_one({"_id": 1})
        records = await topic.next(4)
    bodies = [body(record) for record in records]
    assert {record.key for record in records} == {b'{"_id":1}'}
    assert [found["op"] for found in bodies] == ["c", "u", "u", "d"]
    new = {"_id": 1, "status": "new", "total": 0.1}
    paid = {"_id": 1, "status": "paid", "total": 0.1}
    gone = {"_id": 1, "status": "gone", "total": 0.1}
    images = [(None, new), (new, paid), (paid, gone), (gone, None)]
    assert [(found["before"], found["after"]) for found in bodies] == images
    assert [found["changed"] for found in bodies] == [None, ["status"], ["status"], None]
    assert all(found["unavailable"] == [] for found in bodies)
    assert len({found["id"] for found in bodies}) == 4
    assert bodies[0]["type"] == f"db.{source.name}.{source.database}.items.created"


async def test_a_collection_made_while_capture_runs_gets_its_images(
    cluster: Cluster, source: MongoSource, database: AsyncDatabase[Json]
) -> None:
    async with reading(cluster, cluster.topics.schema) as schema, capturing(source, cluster):
        await database.create_collection("late")
        (created, modified) = await schema.bodies(2)
        async with reading(cluster, topic_of(source, "late")) as topic:
            await database["late"].insert_one({"_id": 1, "n": 1})
            await database["late"].update_one({"_id": 1}, {"$set": {"n": 2}})
            (_, updated) = await topic.bodies(2)
    assert (created["data"]["operation"], modified["data"]["operation"]) == ("create", "modify")
    assert created["type"] == "system.schema_changed"
    assert created["data"]["collection"] == "late"
    assert (updated["before"], updated["after"]) == ({"_id": 1, "n": 1}, {"_id": 1, "n": 2})


async def test_without_pre_images_an_update_says_what_it_does_not_know(
    cluster: Cluster, source: MongoSource, database: AsyncDatabase[Json]
) -> None:
    items = database["items"]
    bare = replace(source, pre_images=False)
    async with reading(cluster, topic_of(source, "items")) as topic, capturing(bare, cluster):
        await items.insert_one({"_id": 1, "a": 1, "b": {"c": 1}})
        await items.update_one({"_id": 1}, {"$set": {"a": 2, "b.c": 2}})
        (_, updated) = await topic.bodies(2)
    assert updated["before"] is None
    assert updated["after"] == {"_id": 1, "a": 2}
    assert updated["unavailable"] == ["*"]
    assert updated["changed"] == ["a", "b"]


async def test_changes_of_a_transaction_share_its_id_and_bear_its_chain(
    cluster: Cluster,
    source: MongoSource,
    client: AsyncMongoClient[Json],
    database: AsyncDatabase[Json],
) -> None:
    for name in ("items", "rowcast_chain"):
        await database.create_collection(name)
    alone = one_partition(cluster)
    async with reading(alone, topic_of(source, "items")) as topic, capturing(source, alone):
        async with client.start_session() as session:
            async with await session.start_transaction():
                chain = {"chain": {"root": "r", "path": ["a"]}}
                await database["rowcast_chain"].insert_one(chain, session=session)
                await database["items"].insert_many([{"_id": 1}, {"_id": 2}], session=session)
                await database["items"].delete_one({"_id": 1}, session=session)
            async with await session.start_transaction():
                await database["items"].insert_one({"_id": 3}, session=session)
        await database["items"].insert_one({"_id": 4})
        records = await topic.next(5)
    bodies = [body(record) for record in records]
    header = (("rowcast-chain", b'{"root":"r","path":["a"]}'),)
    assert [record.headers for record in records] == [header, header, header, (), ()]
    first, second, third, other, single = (found["transaction"] for found in bodies)
    assert first["id"] == second["id"] == third["id"] != other["id"]
    assert [first["total_order"], second["total_order"], third["total_order"]] == [2, 3, 4]
    assert single is None
    assert [found["op"] for found in bodies] == ["c", "c", "d", "c", "c"]


async def test_a_restart_goes_on_without_loss_or_repeat(
    cluster: Cluster, source: MongoSource, database: AsyncDatabase[Json], read_topic: ReadTopic
) -> None:
    name = topic_of(source, "items")
    async with reading(cluster, name) as topic:
        async with capturing(source, cluster):
            await database["items"].insert_many([{"_id": number} for number in range(50)])
            await topic.next(50)
        await database["items"].insert_many([{"_id": number} for number in range(50, 100)])
        async with capturing(source, cluster):
            await database["items"].insert_many([{"_id": number} for number in range(100, 150)])
            await topic.next(100)
        async with capturing(source, cluster):
            await database["items"].insert_one({"_id": 150})
            await topic.next(1)
    bodies = [body(record) for record in await read_topic(name)]
    assert sorted(found["after"]["_id"] for found in bodies) == list(range(151))
    assert len({found["id"] for found in bodies}) == 151


async def test_a_progress_in_the_midst_of_a_transaction_continues_its_count_and_chain(
    cluster: Cluster,
    source: MongoSource,
    client: AsyncMongoClient[Json],
    database: AsyncDatabase[Json],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("items", "rowcast_chain"):
        await database.create_collection(name)
    alone = one_partition(cluster)
    await ensure_topics(alone, [topic_of(source, "items")])
    async with capturing(source, alone):
        pass
    async with client.start_session() as session, await session.start_transaction():
        chain = {"chain": {"root": "r", "path": ["a"]}}
        await database["rowcast_chain"].insert_one(chain, session=session)
        await database["items"].insert_many([{"_id": at} for at in range(6)], session=session)

    publish = Publisher.publish

    async def publish_twice_then_break(
        self: Publisher, group: ChangeGroup, progress: bytes
    ) -> None:
        nonlocal published
        await publish(self, group, progress)
        published += bool(group)
        if published == 2:
            raise ConnectionAbortedError("as if killed here")

    for _ in range(2):
        published = 0
        with monkeypatch.context() as patched:
            patched.setattr("cdc.mongo_capture._GROUP_BYTES", 1)  # a group for every record
            patched.setattr(Publisher, "publish", publish_twice_then_break)
            with pytest.raises(ConnectionAbortedError):
                await capture_mongo(source, alone, stop=asyncio.Event(), on_ready=lambda: None)
    async with reading(alone, topic_of(source, "items")) as topic, capturing(source, alone):
        records = await topic.next(6)
    bodies = [body(record) for record in records]
    assert [found["after"]["_id"] for found in bodies] == list(range(6))
    assert [found["transaction"]["total_order"] for found in bodies] == list(range(2, 8))
    assert len({found["id"] for found in bodies}) == 6
    assert len({found["transaction"]["id"] for found in bodies}) == 1
    assert all(len(record.headers) == 1 for record in records)


async def test_a_second_capture_of_the_source_takes_over_and_the_first_stops(
    cluster: Cluster, source: MongoSource, database: AsyncDatabase[Json], read_topic: ReadTopic
) -> None:
    name = topic_of(source, "items")
    ready = asyncio.Event()
    older = asyncio.create_task(
        capture_mongo(source, cluster, stop=asyncio.Event(), on_ready=ready.set)
    )
    await asyncio.wait_for(ready.wait(), LIMIT_S)
    async with reading(cluster, name) as topic, capturing(source, cluster):
        await database["items"].insert_one({"_id": 1})
        await topic.next(1)
        with pytest.raises(FencedError, match="another capture"):
            await asyncio.wait_for(older, LIMIT_S)
        await database["items"].insert_one({"_id": 2})
        await topic.next(1)
    bodies = [body(record) for record in await read_topic(name)]
    assert sorted(found["after"]["_id"] for found in bodies) == [1, 2]


async def test_the_whole_deployment_is_captured_where_no_database_is_named(
    cluster: Cluster, source: MongoSource, database: AsyncDatabase[Json]
) -> None:
    whole = replace(source, database=None, pre_images=False)
    async with reading(cluster, topic_of(source, "items")) as topic, capturing(whole, cluster):
        await database["items"].insert_one({"_id": 1})
        (found,) = await topic.bodies(1)
    assert found["source"]["db"] == database.name


async def test_capture_goes_on_after_its_database_is_dropped_and_made_again(
    cluster: Cluster,
    source: MongoSource,
    client: AsyncMongoClient[Json],
    database: AsyncDatabase[Json],
) -> None:
    alone = one_partition(cluster)
    async with reading(alone, topic_of(source, "items")) as topic, capturing(source, alone):
        await database["items"].insert_one({"_id": 1})
        await topic.next(1)
        await client.drop_database(database.name)
        await database["items"].insert_one({"_id": 2})
        (found,) = await topic.bodies(1)
    assert found["after"] == {"_id": 2}
    async with reading(alone, topic_of(source, "more")) as topic, capturing(source, alone):
        await database["more"].insert_one({"_id": 3})
        await topic.next(1)


async def test_an_idle_source_stores_progress_while_others_write(
    cluster: Cluster, source: MongoSource, client: AsyncMongoClient[Json]
) -> None:
    other = client[f"d{uuid.uuid4().hex[:12]}"]
    async with reading(cluster, cluster.topics.progress) as topic:
        async with capturing(replace(source, heartbeat_s=0.05), cluster):
            _owner, first = await topic.bodies(2)
            await other["busy"].insert_one({})
            second = first
            while second["token"] == first["token"]:
                (second,) = await topic.bodies(1)
        await client.drop_database(other.name)
    assert second["token"]["_data"] > first["token"]["_data"]
    assert second["ordinal"] == first["ordinal"] == 0


async def test_a_document_too_large_for_kafka_is_told_by_its_key(
    cluster: Cluster, source: MongoSource, database: AsyncDatabase[Json]
) -> None:
    alone = one_partition(cluster)
    # 9 MB of bytes are 12 MB of base64, and an update has them twice.
    large = {"_id": 1, "data": b"x" * 7_500_000, "n": 1}
    await database.create_collection("items")
    async with reading(alone, topic_of(source, "items")) as topic, capturing(source, alone):
        await database["items"].insert_one(large)
        await database["items"].update_one({"_id": 1}, {"$set": {"n": 2}})
        await database["items"].insert_one({"_id": 2})
        inserted, updated, after = await topic.bodies(3)
    assert len(inserted["after"]["data"]["$binary"]["base64"]) == 10_000_000
    assert (updated["before"], updated["after"]) == (None, {"_id": 1})
    assert (updated["unavailable"], updated["changed"]) == (["*"], ["n"])
    assert after["after"] == {"_id": 2}


async def test_an_event_too_large_for_mongodb_is_told_by_what_it_says_without_images(
    cluster: Cluster, source: MongoSource, database: AsyncDatabase[Json]
) -> None:
    alone = one_partition(cluster)
    await database.create_collection("items")
    async with capturing(source, alone):
        pass
    items = database["items"]
    await items.insert_one({"_id": 1, "data": b"x" * 10_000_000, "n": 1})
    await items.insert_one({"_id": 2, "n": 1})
    await items.update_one({"_id": 2}, {"$set": {"n": 2}})
    await items.update_one({"_id": 1}, {"$set": {"n": 2}})
    await items.update_one({"_id": 2}, {"$set": {"n": 3}})
    async with reading(alone, topic_of(source, "items")) as topic, capturing(source, alone):
        bodies = await topic.bodies(5)
    assert [found["unavailable"] for found in bodies] == [[], [], [], ["*"], []]
    assert bodies[3]["after"] == {"_id": 1, "n": 2}
    assert bodies[2]["before"] == {"_id": 2, "n": 1}
    assert bodies[4]["before"] == {"_id": 2, "n": 2}
