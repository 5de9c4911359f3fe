from __future__ import annotations

import asyncio
import subprocess
import sys
import uuid
from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from events.chain import Chain
from events.json_codec import JsonObject, JsonValue
from events.run import RunRequest
from listener_runtime.errors import HostCallError
from listener_runtime.host_calls import HostCalls, RunCalls
from listener_runtime.settings import HostSettings, MongoAccess
from tests.conftest import free_ports

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

CHAIN = Chain("docs/0/1", ("first",))
Json = dict[str, Any]  # pyright: ignore[reportExplicitAny] - BSON taken apart by assertions


def request(event_id: str = "", *, timeout_s: float = 30.0) -> RunRequest:
    event = event_id or uuid.uuid4().hex
    return RunRequest(uuid.uuid4().hex, "second", "", b"{}", event, CHAIN, timeout_s=timeout_s)


@pytest.fixture
async def database(mongo_uri: str) -> AsyncGenerator[AsyncDatabase[Json]]:
    async with AsyncMongoClient[Json](mongo_uri) as client:
        name = f"d{uuid.uuid4().hex[:12]}"
        yield client[name]
        await client.drop_database(name)


@pytest.fixture
async def host(mongo_uri: str, database: AsyncDatabase[Json]) -> AsyncGenerator[HostCalls]:
    host = HostCalls(HostSettings({"docs": MongoAccess(mongo_uri, database.name)}))
    yield host
    await host.close()


@pytest.fixture
async def calls(host: HostCalls) -> AsyncGenerator[RunCalls]:
    calls = host.open(request())
    yield calls
    await calls.close()


async def mongo(calls: RunCalls, name: str, **args: JsonValue) -> JsonObject:
    answer = await calls.call(f"mongo.{name}", {"source": "docs", "collection": "reviews", **args})
    assert isinstance(answer, dict)
    return answer


async def test_a_write_goes_on_where_a_killed_process_left_its_transaction_open(
    calls: RunCalls, database: AsyncDatabase[Json], mongo_uri: str
) -> None:
    await database["reviews"].insert_one({"_id": 1, "n": 0})
    writer = f"""
import time, pymongo
client = pymongo.MongoClient({mongo_uri!r}, appname="rowcast listener")
with client.start_session() as session:
    session.start_transaction()
    reviews = client[{database.name!r}]["reviews"]
    reviews.update_one({{"_id": 1}}, {{"$inc": {{"n": 100}}}}, session=session)
    print("written", flush=True)
    time.sleep(600)
"""
    with subprocess.Popen((sys.executable, "-c", writer), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        process.kill()
    answer = await mongo(calls, "update", filter={"_id": 1}, update={"$inc": {"n": 1}})
    assert answer["modified"] == 1
    assert await database["reviews"].find_one() == {"_id": 1, "n": 1}


async def test_documents_survive_both_ways(calls: RunCalls) -> None:
    document: JsonObject = {
        "_id": {"$oid": "0123456789abcdef01234567"},
        "at": {"$date": "2026-11-23T08:17:59.500Z"},
        "ancient": {"$date": {"$numberLong": "-99999999999999"}},
        "price": {"$numberDecimal": "12.30"},
        "raw": {"$binary": {"base64": "AP8=", "subType": "00"}},
        "ratio": 0.1,
        "big": 9007199254740993,
        "nested": {"list": [1, None, "x", {"a": True}]},
    }
    answer = await mongo(calls, "insert", documents=[document])
    assert answer == {"ids": [{"$oid": "0123456789abcdef01234567"}]}
    assert await mongo(calls, "find", filter={"_id": document["_id"]}) == {"documents": [document]}
    assert await mongo(calls, "find_one", filter={"ratio": 0.2}) == {"document": None}


async def test_updates_and_deletes_count(calls: RunCalls) -> None:
    await mongo(calls, "insert", documents=[{"_id": number, "n": number} for number in range(4)])
    answer = await mongo(
        calls, "update", filter={"n": {"$gt": 1}}, update={"$set": {"n": 0}}, many=True
    )
    assert answer == {"matched": 2, "modified": 2, "upserted": None}
    answer = await mongo(calls, "update", filter={"_id": 9}, update={"$inc": {"n": 1}}, upsert=True)
    assert answer == {"matched": 0, "modified": 0, "upserted": 9}
    assert await mongo(calls, "delete", filter={"n": 0}) == {"deleted": 1}
    assert await mongo(calls, "delete", filter={"n": 0}, many=True) == {"deleted": 2}
    assert await mongo(calls, "count") == {"count": 2}


async def test_the_chain_stands_first_in_the_transaction(
    calls: RunCalls, database: AsyncDatabase[Json]
) -> None:
    await mongo(calls, "insert", documents=[{"_id": 0}])
    async with await database.watch() as stream:
        await mongo(calls, "insert", documents=[{"_id": 1}])
        changes = [await anext(stream) for _ in range(3)]
    assert [(change["operationType"], change["ns"]["coll"]) for change in changes] == [
        ("insert", "rowcast_chain"),
        ("insert", "reviews"),
        ("update", "rowcast_chain"),
    ]
    assert changes[0]["fullDocument"]["chain"] == {"root": CHAIN.root, "path": ["first", "second"]}
    assert len({(change["lsid"]["id"], change["txnNumber"]) for change in changes}) == 1


async def test_a_retry_does_not_write_again(host: HostCalls, database: AsyncDatabase[Json]) -> None:
    answers: list[JsonObject] = []
    for _ in range(2):
        calls = host.open(request("same"))
        answers.append(await mongo(calls, "insert", documents=[{"n": 1}]))
        answers.append(await mongo(calls, "insert", documents=[{"n": 1}]))
        await calls.close()
    assert answers[0] != answers[1]
    assert answers[:2] == answers[2:]
    assert await database["reviews"].count_documents({}) == 2


REFUSED: list[tuple[str, JsonObject, str]] = [
    ("find", {"filter": {"$where": "1"}}, "JavaScript"),
    ("find", {"filter": {"a": [{"$expr": {"$function": {}}}]}}, "JavaScript"),
    ("find", {"filter": {"a": {"$code": "1"}}}, "JavaScript"),
    ("find", {"collection": "rowcast_chain"}, "belongs to"),
    ("delete", {"collection": "system.users", "filter": {}}, "belongs to"),
    ("aggregate", {"pipeline": [{"$out": "x"}]}, "found the stage $out"),
    ("aggregate", {"pipeline": [{"$merge": "x"}]}, "found the stage $merge"),
    ("aggregate", {"pipeline": [{"$facet": {"a": [{"$out": "x"}]}}]}, "found the stage $out"),
    ("aggregate", {"pipeline": [{"$unionWith": "rowcast_chain"}]}, "belongs to"),
    (
        "aggregate",
        {"pipeline": [{"$lookup": {"from": "system.x", "as": "y"}}]},
        "belongs to",
    ),
    ("update", {"filter": {}, "update": {"a": 1}}, "without operators"),
    ("insert", {"documents": [{"_id": {"$oid": "x"}}]}, "Extended JSON"),
    ("insert", {"documents": [5]}, "expected an object"),
    ("find", {"sort": {"a": "down"}}, "sort"),
    ("find", {"limit": -1}, "Expected `int` >= 0"),
    ("find", {"wrong": 1}, "unknown field `wrong`"),
    ("find", {"filter": {"$nope": 1}}, "MongoDB 2"),
]


@pytest.mark.parametrize(("name", "args", "said"), REFUSED)
async def test_what_is_refused_says_so(
    calls: RunCalls, name: str, args: JsonObject, said: str
) -> None:
    with pytest.raises(HostCallError) as raised:
        await mongo(calls, name, **args)
    assert said in str(raised.value)


async def test_runs_that_change_one_document_at_once_all_do(
    host: HostCalls, database: AsyncDatabase[Json]
) -> None:
    await database["reviews"].insert_one({"_id": 1, "n": 0})
    runs = [host.open(request()) for _ in range(8)]
    args: JsonObject = {"filter": {"_id": 1}, "update": {"$inc": {"n": 1}}}
    answers = await asyncio.gather(*(mongo(run, "update", **args) for run in runs))
    assert [answer["modified"] for answer in answers] == [1] * 8
    assert await database["reviews"].find_one({"_id": 1}) == {"_id": 1, "n": 8}
    for run in runs:
        await run.close()


async def test_runs_of_one_event_at_once_write_once(
    host: HostCalls, database: AsyncDatabase[Json]
) -> None:
    runs = [host.open(request("one")) for _ in range(6)]
    answers = await asyncio.gather(*(mongo(run, "insert", documents=[{"n": 1}]) for run in runs))
    assert answers == [answers[0]] * 6
    assert await database["reviews"].count_documents({}) == 1
    for run in runs:
        await run.close()


async def test_a_write_that_failed_leaves_nothing_and_may_be_done_again(
    host: HostCalls, database: AsyncDatabase[Json]
) -> None:
    event = uuid.uuid4().hex
    calls = host.open(request(event))
    documents: list[JsonValue] = [{"_id": 1}, {"_id": 2}]
    await database["reviews"].insert_one({"_id": 2})
    with pytest.raises(HostCallError, match=r"MongoDB .*document 1: E11000 duplicate key"):
        await mongo(calls, "insert", documents=documents)
    assert await database["reviews"].count_documents({}) == 1
    assert await database["rowcast_chain"].count_documents({}) == 0
    await database["reviews"].delete_one({"_id": 2})
    assert await mongo(calls, "insert", documents=documents) == {"ids": [1, 2]}
    await calls.close()
    retry = host.open(request(event))
    assert await mongo(retry, "insert", documents=documents) == {"ids": [1, 2]}
    await retry.close()


async def test_markers_go_by_themselves(calls: RunCalls, database: AsyncDatabase[Json]) -> None:
    await mongo(calls, "insert", documents=[{"n": 1}])
    indexes = await database["rowcast_chain"].index_information()
    assert indexes["at"]["expireAfterSeconds"] == 7 * 24 * 3600
    marker = await database["rowcast_chain"].find_one({})
    assert marker is not None
    assert isinstance(marker["at"], datetime)


async def test_documents_and_bytes_are_bounded(
    calls: RunCalls, database: AsyncDatabase[Json]
) -> None:
    await database["reviews"].insert_many([{"n": number} for number in range(10_001)])
    with pytest.raises(HostCallError, match="more than 10000 documents"):
        await mongo(calls, "find")
    found = await mongo(calls, "find", limit=2, skip=1, sort=[["n", -1]], projection={"_id": 0})
    assert found == {"documents": [{"n": 9999}, {"n": 9998}]}
    assert await mongo(calls, "find", limit=0) == {"documents": []}
    await database["large"].insert_many([{"text": "x" * 1_000_000} for _ in range(9)])
    with pytest.raises(HostCallError, match="8388608 bytes"):
        await mongo(calls, "find", collection="large")
    counted = await mongo(
        calls, "aggregate", pipeline=[{"$match": {"n": {"$gte": 9_000}}}, {"$count": "n"}]
    )
    assert counted == {"documents": [{"n": 1001}]}


async def test_an_aggregation_may_look_into_other_collections(
    calls: RunCalls, database: AsyncDatabase[Json]
) -> None:
    await database["reviews"].insert_one({"_id": 1, "from": "x"})
    await database["other"].insert_one({"_id": 1, "a": 2})
    lookup: JsonObject = {
        "from": "other",
        "localField": "_id",
        "foreignField": "_id",
        "as": "others",
        "pipeline": [{"$match": {"from": None}}],
    }
    answer = await mongo(
        calls, "aggregate", pipeline=[{"$match": {"from": "x"}}, {"$lookup": lookup}]
    )
    assert answer == {"documents": [{"_id": 1, "from": "x", "others": [{"_id": 1, "a": 2}]}]}


async def test_the_update_may_be_a_pipeline(calls: RunCalls, database: AsyncDatabase[Json]) -> None:
    await database["reviews"].insert_one({"_id": 1, "a": 2})
    await mongo(calls, "update", filter={}, update=[{"$set": {"b": {"$add": ["$a", 1]}}}])
    assert await mongo(calls, "find_one") == {"document": {"_id": 1, "a": 2, "b": 3}}


async def running_operations(database: AsyncDatabase[Json]) -> int:
    pipeline: list[Json] = [
        {"$currentOp": {"allUsers": True}},
        {"$match": {"ns": f"{database.name}.reviews", "active": True}},
    ]
    cursor = await database.client.admin.aggregate(pipeline)
    return len(await cursor.to_list())


async def test_an_operation_ends_with_its_run(
    host: HostCalls, database: AsyncDatabase[Json]
) -> None:
    await database["reviews"].insert_many([{"n": number} for number in range(2_000)])
    # Compares every document with every other one, over and over.
    inner: JsonValue = [{"$match": {"$expr": {"$eq": [{"$rand": {}}, "$$n"]}}}]
    for _ in range(3):
        inner = [{"$lookup": {"from": "reviews", "let": {"n": "$n"}, "pipeline": inner, "as": "a"}}]
    calls = host.open(request())
    call = asyncio.create_task(mongo(calls, "aggregate", pipeline=inner))
    async with asyncio.timeout(30):
        while not await running_operations(database):
            await asyncio.sleep(0.01)
        await calls.close()
        with pytest.raises(HostCallError, match="the run has ended"):
            await call
        while await running_operations(database):
            await asyncio.sleep(0.01)
    short = host.open(request(timeout_s=0.2))
    with pytest.raises(HostCallError, match=r"took longer|MongoDB 50"):
        await mongo(short, "aggregate", pipeline=inner)
    await short.close()
    async with asyncio.timeout(30):
        while await running_operations(database):
            await asyncio.sleep(0.01)


async def test_a_server_that_is_away_is_said() -> None:
    (port,) = free_ports(1)
    uri = f"mongodb://127.0.0.1:{port}/?directConnection=true&serverSelectionTimeoutMS=300"
    host = HostCalls(HostSettings({"docs": MongoAccess(uri, "shop")}))
    calls = host.open(request())
    with pytest.raises(HostCallError, match="the source 'docs' was not reached"):
        await mongo(calls, "find")
    with pytest.raises(HostCallError, match="the source 'docs' was not reached"):
        await mongo(calls, "insert", documents=[{}])
    await calls.close()
    await host.close()
