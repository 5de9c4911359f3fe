"""The outbox: what documents become, as bytes and on a real replica set."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import bson
import pytest
from aiokafka import ConsumerRecord
from bson import Decimal128, Int64, ObjectId
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pymongo import AsyncMongoClient, MongoClient
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import WriteError

from cdc.mongo import MongoSource
from cdc.mongo_outbox import Outbox, OutboxEvent
from cdc.mongo_outbox_validator import outbox_validator
from events.cluster import Cluster
from events.event_schema import EventSchemas
from events.json_codec import JsonValue
from tests.cdc.test_mongo import Json, ReadTopic, body, capturing, one_partition, reading
from tests.cdc.test_sql_schema import SCHEMAS, VALUES

LIMIT_S = 60.0
BSON_VALUES = st.sampled_from(
    [ObjectId(b"x" * 12), datetime(2026, 1, 2, tzinfo=UTC), Decimal128("1.5"), b"x", Int64(2**40)]
)
OUTBOX = Outbox(
    "docs",
    1_000,
    EventSchemas({"custom.order": {"properties": {"n": {"type": "integer"}}}}),
)


def event(**fields: object) -> OutboxEvent:
    return OUTBOX.event(bson.encode({"_id": 1} | fields), bson.encode({"_id": 1}))


def test_a_document_is_the_event_that_it_says() -> None:
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    identity = ObjectId("6566f0000000000000000001")
    found = event(type="custom.paid", data={"at": moment, "of": identity}, key="7")
    assert found.type == "custom.paid"
    assert found.key == b'{"key":"7"}'
    assert json.loads(found.data) == {
        "at": {"$date": "2026-01-02T00:00:00Z"},
        "of": {"$oid": str(identity)},
    }
    assert event(type="custom.x").data == b"{}"
    assert event(type="custom.x", data=None).data == b"null"
    assert event(type="custom.x", data=[1, "ä"]).data == '[1,"ä"]'.encode()
    assert event(type="custom.x").key == b'{"key":"custom.x"}'


def test_a_document_may_carry_the_chain_and_the_trace_of_its_cause() -> None:
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    chain = {"root": "r", "path": ["a", "b"]}
    assert event(type="custom.x", chain=chain, traceparent=trace).headers == (
        ("rowcast-chain", b'{"root":"r","path":["a","b"]}'),
        ("traceparent", trace.encode()),
    )
    assert event(type="custom.x", chain=None).headers == ()


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({}, "$.type"),
        ({"type": None}, "$.type"),
        ({"type": 7}, "$.type"),
        ({"type": "system.gap"}, "$.type"),
        ({"type": "custom.a b"}, "$.type"),
        ({"type": "custom.x", "key": 7}, "$.key"),
        ({"type": "custom.x", "key": "k" * 1_001}, "$.key"),
        ({"type": "custom.x", "data": "x" * 1_000}, "$.data"),
        ({"type": "custom.order", "data": {"n": "x"}}, "$.data.n"),
        ({"type": "custom.x", "chain": "r"}, "$.chain"),
        ({"type": "custom.x", "chain": {"root": 1}}, "$.chain"),
        ({"type": "custom.x", "traceparent": "x"}, "$.traceparent"),
    ],
)
def test_what_is_no_event_becomes_one_that_says_where_it_is_wrong(fields: Json, path: str) -> None:
    found = event(**fields)
    told = json.loads(found.data)
    assert found.type == "system.outbox_refused"
    assert told["path"] == path
    assert told["key"] == {"_id": 1}
    assert told["document"]["_id"] == 1


@pytest.fixture
def source(mongo_uri: str, database: AsyncDatabase[Json]) -> MongoSource:
    schemas = EventSchemas({"custom.order": {"properties": {"n": {"type": "integer"}}}})
    return MongoSource(f"s{uuid.uuid4().hex[:12]}", mongo_uri, database.name, schemas=schemas)


async def emptied(database: AsyncDatabase[Json]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while await database["rowcast_outbox"].count_documents({}):
            await asyncio.sleep(0.05)


@pytest.mark.anyio
@pytest.mark.integration
async def test_an_insert_is_an_event_exactly_if_its_transaction_commits(
    cluster: Cluster,
    source: MongoSource,
    client: AsyncMongoClient[Json],
    database: AsyncDatabase[Json],
    read_topic: ReadTopic,
) -> None:
    for name in ("items", "rowcast_chain"):
        await database.create_collection(name)
    alone = one_partition(cluster)
    outbox = database["rowcast_outbox"]
    async with reading(alone, alone.topics.events) as topic, capturing(source, alone):
        async with client.start_session() as session:
            async with await session.start_transaction():
                await database["items"].insert_one({"_id": 1}, session=session)
                paid = {"type": "custom.paid", "data": {"item": 1}, "key": "k"}
                await outbox.insert_one(paid, session=session)
            await session.start_transaction()
            await outbox.insert_one({"type": "custom.never"}, session=session)
            await session.abort_transaction()
            async with await session.start_transaction():
                marker = {"chain": {"root": "r", "path": ["a"]}}
                await database["rowcast_chain"].insert_one(marker, session=session)
                own: Json = {"type": "custom.x", "chain": {"root": "mine", "path": []}}
                await outbox.insert_one(own, session=session)
        for bad in ({"type": 7}, {"type": "custom.order", "data": {"n": "x"}}):
            with pytest.raises(WriteError, match="failed validation"):
                await outbox.insert_one({**bad})
            await outbox.insert_one({**bad}, bypass_document_validation=True)
        await outbox.insert_many([{"type": "custom.many", "data": n} for n in range(2_000)])
        records = await topic.next(2_004)
        await emptied(database)
        # Neither what was deleted nor another change of the outbox is an event.
        await outbox.insert_one({"type": "custom.last"})
        assert [body(one)["type"] for one in await topic.next(1)] == ["custom.last"]
    bodies = [body(record) for record in records]
    assert [one["type"] for one in bodies[:4]] == [
        "custom.paid",
        "custom.x",
        *["system.outbox_refused"] * 2,
    ]
    assert [one["data"] for one in bodies[4:]] == list(range(2_000))
    assert records[0].key == b'{"key":"k"}'
    assert [record.headers for record in records[:2]] == [
        (),
        (("rowcast-chain", b'{"root":"r","path":["a"]}'),),
    ]
    (row,) = [body(one) for one in await read_topic(f"{source.name}.{database.name}.items")]
    assert row["transaction"]["id"] == bodies[0]["transaction"]["id"]
    assert bodies[0]["source"]["name"] == source.name
    assert [one["data"]["path"] for one in bodies[2:4]] == ["$.type", "$.data.n"]
    outbox_topic = f"{source.name}.{database.name}.rowcast_outbox"
    assert await read_topic(outbox_topic) == []


CAPTURE = """
import asyncio, sys
from cdc.mongo import MongoSource, capture_mongo
from events.cluster import Cluster
from events.topic import Topics
uri, source, database, bootstrap, prefix = sys.argv[1:]
asyncio.run(capture_mongo(
    MongoSource(source, uri, database),
    Cluster(bootstrap, Topics(prefix), ("shop",)),
    stop=asyncio.Event(), on_ready=lambda: None))
"""


@pytest.mark.anyio
@pytest.mark.faults
@pytest.mark.integration
async def test_a_capture_killed_again_and_again_tells_each_document_once(
    cluster: Cluster, source: MongoSource, database: AsyncDatabase[Json], read_topic: ReadTopic
) -> None:
    async with capturing(source, cluster):
        pass
    command = [sys.executable, "-c", CAPTURE, source.uri, source.name, database.name]
    command += [cluster.bootstrap, cluster.topics.events.removesuffix(".events")]
    outbox, wanted = database["rowcast_outbox"], 0

    async def told() -> list[ConsumerRecord]:
        return await read_topic(cluster.topics.events)

    for _ in range(3):
        process = subprocess.Popen(command)
        some = len(await told()) + 1
        documents: list[dict[str, Any]]  # pyright: ignore[reportExplicitAny] - what pymongo takes
        documents = [{"type": "custom.n", "data": wanted + n} for n in range(1_500)]
        await outbox.insert_many(documents)
        wanted += len(documents)
        async with asyncio.timeout(LIMIT_S):
            while len(await told()) < some:
                assert process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    async with reading(cluster, cluster.topics.events) as topic, capturing(source, cluster):
        await outbox.insert_one({"type": "custom.n", "data": wanted})
        await topic.next(wanted + 1)
    bodies = [body(record) for record in await told()]
    assert sorted(one["data"] for one in bodies) == list(range(wanted + 1))


@pytest.mark.integration
@given(SCHEMAS, st.lists(VALUES | BSON_VALUES, min_size=8, max_size=8))
@example({"minimum": 2, "type": "object"}, [Decimal128("1.5"), ObjectId(b"x" * 12)])
@settings(max_examples=80)
def test_mongodb_refuses_no_document_that_capture_takes(
    mongo_uri: str, schema: JsonValue, values: list[object]
) -> None:
    schemas = EventSchemas({"custom.x": schema, "custom.y": False})
    documents = [{"_id": at, "type": "custom.x", "data": one} for at, one in enumerate(values)]
    documents += [{"_id": 8, "type": "custom.x"}, {"_id": 9, "type": "custom.z", "data": 1}]
    taken = {
        one["_id"]
        for one in documents
        if Outbox("docs", 10**6, schemas).event(bson.encode(one), bson.encode({})).type
        == one["type"]
    }
    with MongoClient[Json](mongo_uri) as client:
        stages = [{"$documents": documents}, {"$match": outbox_validator(schemas)}]
        passed = {one["_id"] for one in client["d"].aggregate(stages)}
    assert taken <= passed


@pytest.mark.anyio
@pytest.mark.integration
async def test_documents_stay_where_the_source_says_so(
    cluster: Cluster, source: MongoSource, database: AsyncDatabase[Json]
) -> None:
    kept = replace(source, outbox="keep")
    async with reading(cluster, cluster.topics.events) as topic, capturing(kept, cluster):
        await database["rowcast_outbox"].insert_many([{"type": "custom.x"} for _ in range(3)])
        await topic.next(3)
    assert await database["rowcast_outbox"].count_documents({}) == 3
