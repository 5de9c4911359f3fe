"""Reads of MongoDB's documents as events, from a real mongod's profiler."""

from __future__ import annotations

import asyncio
import signal
import uuid
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path

import pytest
from bson import Int64
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from cdc.errors import CaptureConfigError
from cdc.mongo import MongoSource
from cdc.mongo_doctor import examine_mongo
from cdc.topic_creation import ensure_own_topics
from events.call_mark import mark_call
from events.cluster import Cluster
from infra.embedded.mongo import EmbeddedMongo
from rowcast import mongo_audit
from tests.cdc.profiled_server import Json, ProfiledServer, Told, capturing_reads
from tests.port_base import free_ports

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

MAP_REDUCE: Json = {
    "mapReduce": "patients",
    "map": "function() {}",
    "reduce": "function() {}",
    "out": "grown_out",
}
SECRET = "a secret of thirty-two characters"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[ProfiledServer]:
    folder: Path = tmp_path_factory.mktemp("profiled")
    (port,) = free_ports(1)
    server = ProfiledServer(EmbeddedMongo(folder / "data", port, folder / "mongo.log"))
    await server.start()
    yield server
    await server.end()


@pytest.fixture
async def database(server: ProfiledServer) -> AsyncGenerator[AsyncDatabase[Json]]:
    async with AsyncMongoClient[Json](server.mongo.uri, appname="ward") as client:
        name = f"d{uuid.uuid4().hex[:12]}"
        await client[name]["patients"].insert_many([{"_id": n, "n": n} for n in range(300)])
        await client[name]["wards"].insert_many([{"_id": n, "n": n} for n in range(3)])
        yield client[name]
        await client[name].command({"profile": 0})
        await client.drop_database(name)


@pytest.fixture
def source(server: ProfiledServer, database: AsyncDatabase[Json]) -> MongoSource:
    name = f"s{uuid.uuid4().hex[:12]}"
    return MongoSource(name, server.mongo.uri, database.name, heartbeat_s=0.2, mark_secret=SECRET)


async def profiling(database: AsyncDatabase[Json]) -> Json:
    found = await database.command({"profile": -1})
    return {name: found.get(name) for name in ("was", "slowms", "filter")}


async def findings(source: MongoSource) -> list[str]:
    """What `rowcast doctor` says of its audit."""
    found = await examine_mongo(source)
    return [f"{one.severity}: {one.found}" for one in found if one.subject == "reads by statement"]


async def test_every_read_is_told_once_with_who_and_what_and_none_of_its_values(
    cluster: Cluster, source: MongoSource, database: AsyncDatabase[Json]
) -> None:
    told = Told(cluster, source)
    before = await profiling(database)
    await database.create_collection(
        "grown", viewOn="patients", pipeline=[{"$match": {"n": {"$gt": 18}}}]
    )
    patients, wards = database["patients"], database["wards"]
    await patients.find_one({"n": 1})
    await mongo_audit.enable(source, "patients")
    assert await mongo_audit.audited(source) == [f"{database.name}.patients  by statement"]
    join = {"$lookup": {"from": "patients", "localField": "n", "foreignField": "n", "as": "p"}}
    async with capturing_reads(source, cluster):
        await patients.find_one({"n": 7, "status": {"$in": ["secret", "other"]}}, sort={"n": -1})
        await patients.find({}, batch_size=200).to_list()
        await patients.count_documents({"n": 3})
        await patients.estimated_document_count()
        await patients.distinct("n", {"n": 5})
        await patients.find_one_and_update({"_id": 1}, {"$set": {"n": 99}})
        await (await patients.aggregate([{"$match": {"n": 4}}, {"$out": "grown_out"}])).to_list()
        await database.command(MAP_REDUCE)
        await (await wards.aggregate([join, {"$limit": 2}])).to_list()
        for stage in ({"$facet": {"a": [join]}}, {"$unionWith": "patients"}):
            await (await wards.aggregate([stage])).to_list()
        await database["grown"].find_one({"n": 20})
        async with database.client.start_session() as session, await session.start_transaction():
            await patients.find_one({"_id": 2}, session=session)
        # None of these is a read of it.
        await wards.find_one({})
        await (await wards.aggregate([{"$match": {"n": 1}}])).to_list()
        await patients.update_one({"_id": 1}, {"$set": {"n": 98}})
        await patients.insert_one({"_id": 1_000})
        await patients.find({}, comment=mark_call("api_1", SECRET, 1)).to_list()
        await database.command({"explain": {"find": "patients", "filter": {}}})
        now_ms = (await database.client.admin.command("hello"))["localTime"].timestamp() * 1_000
        mark = mark_call("api_1", SECRET, int(now_ms))
        await patients.find_one({}, comment=mark)
        await patients.find_one({}, comment=mark[:-1])
        said = await mongo_audit.disable(source, cluster, "patients")
    assert said == [
        f"reads of {database.name}.patients are no events any more; nothing of the audit is left"
    ]
    reads = await told.reads("patients")
    commands = [(read["statement"]["command"], read["rows"]) for read in reads]
    assert commands == [
        *(("find", 0), ("find", 200), ("getMore", 100), ("aggregate", 1), ("count", None)),
        *(("distinct", None), ("findAndModify", None), ("aggregate", 1), ("mapReduce", None)),
        *(("aggregate", 2), ("aggregate", 1)),
        # One with a mark of long ago, and one whose mark we did not make, hide nothing.
        *(("aggregate", 101), ("getMore", 202), ("find", 1), ("find", 1), ("find", 101)),
        *(("getMore", 200), ("find", 1)),
    ]
    assert len({read["id"] for read in reads}) == len(reads)
    first = reads[0]
    assert first["type"] == f"db.{source.name}.{database.name}.patients.read"
    assert first["read"] == {"by": "profiler", "exact": "statement"}
    assert (first["who"]["application"], first["who"]["client"]) == ("ward", "127.0.0.1")
    assert first["statement"]["text"] == (
        '{"find": "patients", "filter": {"n": "?", "status": {"$in": ["?"]}}, '
        '"sort": {"n": -1}, "limit": 1, "singleBatch": true}'
    )
    texts = " ".join(read["statement"]["text"] for read in reads)
    assert "secret" not in texts
    assert '"from": "patients", "localField": "n"' in texts
    assert await told.gaps() == []
    # Nothing is left behind.
    assert await profiling(database) == before
    names = await database.list_collection_names()
    assert set(names) == {"patients", "wards", "grown", "grown_out", "system.views"}


async def test_an_audit_is_not_ended_while_capture_has_not_told_all_unless_that_may_be_lost(
    cluster: Cluster, source: MongoSource, database: AsyncDatabase[Json]
) -> None:
    await ensure_own_topics(cluster)
    before = await profiling(database)
    await mongo_audit.enable(source, "patients")
    # Neither before capture has run at all, nor when it did and does no more.
    for _ in range(2):
        with pytest.raises(CaptureConfigError, match="--lose-unread"):
            await mongo_audit.disable(source, cluster, "patients", wait_s=0)
        async with capturing_reads(source, cluster):
            await database["patients"].find_one({})
            await Told(cluster, source).reads("patients", 1)
    assert await mongo_audit.audited(source) == [f"{database.name}.patients  by statement"]
    assert await profiling(database) != before
    *_, lost = await mongo_audit.disable(source, cluster, "patients", lose_unread=True, wait_s=0)
    assert "are no events" in lost
    assert await profiling(database) == before


async def test_what_is_asked_is_what_is_profiled_beside_what_was(
    cluster: Cluster, source: MongoSource, database: AsyncDatabase[Json]
) -> None:
    told = Told(cluster, replace(source, statements="full"))
    await database.command({"profile": 1, "filter": {"ns": f"{database.name}.other"}})
    before = await profiling(database)
    await database["other"].find_one({})
    with pytest.raises(CaptureConfigError, match="no collection 'patient'"):
        await mongo_audit.enable(source, "patient")
    full = replace(source, statements="full")
    await mongo_audit.enable(full, "patients")
    async with capturing_reads(full, cluster):
        await database["patients"].find_one({"n": 1})
        await told.reads("patients", 1)
        await mongo_audit.enable(full, f"{database.name}.wards")
        await database["wards"].find_one({"n": 2, "at": Int64(5)})
        await database["other"].find_one({})
        await mongo_audit.disable(full, cluster, "patients")
        await database["patients"].find_one({"n": 3})
        await database["wards"].find_one({"n": 4})
        await mongo_audit.disable(full, cluster, "wards")
    with pytest.raises(CaptureConfigError, match="not audited"):
        await mongo_audit.disable(full, cluster, "wards")
    assert len(await told.reads("patients")) == 1
    first, second = await told.reads("wards")
    assert first["statement"]["text"].startswith('{"find": "wards", "filter": {"n": 2, "at": 5}')
    assert second["statement"]["text"].startswith('{"find": "wards", "filter": {"n": 4}')
    assert await told.gaps() == []
    assert await profiling(database) == before
    # The operator's own entries are there.
    kept = [one["ns"] async for one in database["system.profile"].find({})]
    assert kept.count(f"{database.name}.other") == 2


async def test_restarts_of_capture_and_mongod_lose_nothing_that_is_not_told_as_a_gap(
    cluster: Cluster, source: MongoSource, database: AsyncDatabase[Json], server: ProfiledServer
) -> None:
    told = Told(cluster, source)
    patients = database["patients"]
    await mongo_audit.enable(source, "patients")
    async with capturing_reads(source, cluster):
        await patients.find_one({"n": 1})
        await told.reads("patients", 1)
    await patients.find_one({"n": 2})  # while no capture runs
    async with capturing_reads(source, cluster):
        await told.reads("patients", 2)
    assert await told.gaps() == []
    await patients.find_one({"n": 3})
    # A clean stop keeps what it had written down.
    await server.end()
    await server.start()
    await patients.find_one({"n": 4})  # nobody has told the new process to profile
    async with capturing_reads(source, cluster):
        (gap,) = await told.gaps(1)
        await told.reads("patients", 3)
        await patients.find_one({"n": 5})
        await told.reads("patients", 4)
        await server.end(signal.SIGKILL)
        await server.start()
        await told.gaps(2)
        await patients.find_one({"n": 6})
        await told.reads("patients", 5)
        # Somebody sets it otherwise.
        await database.command({"profile": 0})
        assert (await told.gaps(3))[2]["reason"].startswith("somebody")
        await patients.find_one({"n": 7})
        await told.reads("patients", 6)
        await mongo_audit.disable(source, cluster, "patients")
    assert gap["reason"].startswith("mongod was started again")
    assert gap["since_ms"] < gap["until_ms"]
    assert len(await told.reads("patients")) == 6
    assert len(await told.gaps()) == 3


async def test_what_the_capped_collection_dropped_unread_is_told_with_its_number(
    cluster: Cluster, source: MongoSource, database: AsyncDatabase[Json]
) -> None:
    told = Told(cluster, source)
    small = replace(source, profile_mb=1)
    patients = database["patients"]
    assert await findings(small) == []
    await mongo_audit.enable(small, "patients")
    assert await findings(small) == ["ok: 1 collections are audited, on 1 members"]
    await database.command({"profile": 0})
    (found,) = await findings(small)
    assert found.startswith(f"warning: the profiler of {database.name} on 127.0.0.1:")
    await mongo_audit.enable(small, "patients")
    async with capturing_reads(small, cluster):
        await patients.find_one({"n": 0})
        await told.reads("patients", 1)
    for _ in range(20):
        await asyncio.gather(*(patients.find_one({"n": n, "pad": "x" * 200}) for n in range(100)))
    async with capturing_reads(small, cluster):
        (gap,) = await told.gaps(1)
        await patients.find_one({"n": 1})
        await mongo_audit.disable(small, cluster, "patients")
    reads = await told.reads("patients")
    assert gap["count"] > 0
    assert gap["count"] + len(reads) == 2_002
    assert len({read["id"] for read in reads}) == len(reads)
