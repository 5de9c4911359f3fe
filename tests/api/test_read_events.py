"""Rows that the data API gives are read events on their tables' topics, with exactly their keys."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from api.catalogue import CollectionAccess
from api.settings import MongoApiSource, PostgresApiSource
from cdc.postgres_source import PostgresSource, connect
from cdc.read_policy import enable_row_audit
from cdc.topic_reading import read_to_end
from events.cluster import Cluster
from events.json_codec import JsonObject, decode_object
from events.topic import Topics, reads_topic
from infra.embedded.postgres import EmbeddedPostgres
from tests.api.api_bench import bearer, drop_database, new_database, serving

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

TABLES = """
    create table wards (id int primary key, code int unique, name text);
    create table patients (id int primary key, name text, ward int references wards (code));
    create table visits (patient int references patients, day date,
        primary key (patient, day));
    create table loose (n int);
    create function on_ward(ward int) returns setof patients language sql stable as
        'select * from patients p where p.ward = $1';
    grant all on all tables in schema public to authenticated, service_role;
    revoke select on wards from authenticated;
    grant select (code, name) on wards to authenticated;
    insert into wards values (1, 1, 'north'), (2, 2, 'south');
    insert into patients values (1, 'Ada', 1), (2, 'Bob', 1), (3, 'Cy', 2), (4, 'Dee', null);
    insert into visits values (1, '2026-01-01'), (1, '2026-01-02'), (3, '2026-01-03');
    insert into loose values (1), (2);
"""


class Reads:
    """What stands on the topics of reads of one source."""

    def __init__(self, bootstrap: str, source: str, schema: str = "public") -> None:
        self._cluster = Cluster(bootstrap, Topics("unused"), partitions=2)
        self.source = source
        self._schema = schema

    async def of(self, table: str) -> list[JsonObject]:
        """All reads of a table."""
        topic = reads_topic(self.source, self._schema, table)
        records = await read_to_end(self._cluster, topic, 2)
        return [decode_object(record.value) for record in records if record.value]

    async def keys(self, table: str) -> list[object]:
        """The keys of each of its events."""
        return [read["keys"] for read in await self.of(table)]


@pytest.fixture(scope="module")
def database(postgres: EmbeddedPostgres) -> Iterator[str]:
    name = new_database(postgres, TABLES)
    yield name
    drop_database(postgres, name)


def source_name() -> str:
    return f"s{uuid.uuid4().hex[:8]}"


async def test_every_row_of_an_answer_is_told_with_its_key(
    database: str, postgres: EmbeddedPostgres, kafka_bootstrap: str
) -> None:
    reads = Reads(kafka_bootstrap, source_name())
    source = PostgresApiSource(postgres.api_dsn(database), "none", database, "before")
    asked = "select=name,wards(name),visits(day)&order=id"
    async with serving(kafka_bootstrap, {reads.source: source}) as client:
        one = await client.get("/patients?id=eq.1&select=name")
        assert one.json() == [{"name": "Ada"}]
        (told,) = await reads.of("patients")
        for query in (asked, "select=id&id=eq.99", "select=id&limit=1&order=id.desc"):
            assert (await client.get(f"/patients?{query}")).status_code == 200
        patients = await reads.keys("patients")
        visits, (wards,) = await reads.keys("visits"), await reads.of("wards")
        admin = bearer("service_role")
        await client.get(f"/patients?{asked}", headers=admin)
        await client.get("/patients?select=id,...wards(ward:name)&id=lt.3", headers=admin)
        await client.get("/wards?select=patients(visits(day))&id=eq.1", headers=admin)
        await client.get("/rpc/on_ward?ward=2", headers=admin)
        await client.get("/loose")
        await client.patch(
            "/patients?id=eq.4", json={"name": "D"}, headers={"Prefer": "return=representation"}
        )
        await client.patch("/patients?id=eq.4", json={"name": "E"})
    assert told["type"] == f"db.{reads.source}.public.patients.read"
    assert (told["key"], told["keys"], told["rows"]) == ({"id": 1}, [{"id": 1}], 1)
    assert told["read"] == {"by": "data-api", "exact": "row"}
    assert told["id"] == f"{one.headers['rowcast-call']}/1"
    who: Any = told["who"]
    assert (who["role"], who["subject"], who["client"]) == ("authenticated", "ada", "127.0.0.1")
    source_field: Any = told["source"]
    assert (source_field["db"], source_field["table"]) == (database, "patients")
    everybody = [{"id": 1}, {"id": 2}, {"id": 3}, {"id": 4}]
    assert sorted(map(str, patients)) == sorted(map(str, [[{"id": 1}], everybody, [{"id": 4}]]))
    days = [{"patient": 1, "day": "2026-01-01"}, {"patient": 1, "day": "2026-01-02"}]
    all_days = [*days, {"patient": 3, "day": "2026-01-03"}]
    assert visits == [all_days]
    # The role may not read the key of a ward: that three rows were read is told all the same.
    assert (wards["keys"], wards["rows"], wards["key"]) == (None, 3, None)
    assert wards["read"] == {"by": "data-api", "exact": "statement"}
    both = [{"id": 1}, {"id": 2}]
    assert sorted(map(str, await reads.keys("wards"))) == sorted(
        map(str, [None, both, [{"id": 1}], [{"id": 1}]])
    )
    assert sorted(map(str, await reads.keys("visits"))) == sorted(
        map(str, [all_days, all_days, days])
    )
    of_patients = sorted(map(str, await reads.keys("patients")))
    more = [everybody, both, both, [{"id": 3}], [{"id": 4}]]
    assert of_patients == sorted(map(str, [*patients, *more]))
    (loose,) = await reads.of("loose")
    assert (loose["keys"], loose["rows"]) == (None, 2)


async def test_what_a_row_policy_tells_is_not_told_twice(
    postgres: EmbeddedPostgres, kafka_bootstrap: str
) -> None:
    name = new_database(postgres, TABLES)
    reads = Reads(kafka_bootstrap, source_name())
    connection = await connect(PostgresSource("own", postgres.dsn(name), "own", "own"))
    source = PostgresApiSource(postgres.api_dsn(name), "none", name, "before")
    async with serving(kafka_bootstrap, {reads.source: source}) as client:
        await client.get("/patients?id=eq.1")
        own = PostgresSource("own", postgres.dsn(name), "own", "own")
        await enable_row_audit(connection, own, "public", "patients", force=True)
        await client.get("/patients?id=eq.2&select=id,visits(day)")
        await client.get("/visits?select=day,patients(name)&patient=eq.3")
        # Row security does not hold this role, so that the policy is not asked.
        await client.get("/patients?id=eq.3", headers=bearer("service_role"))
    await connection.close()
    assert sorted(map(str, await reads.keys("patients"))) == ["[{'id': 1}]", "[{'id': 3}]"]
    assert len(await reads.of("visits")) == 1
    drop_database(postgres, name)


async def test_documents_are_told_too(mongo_uri: str, kafka_bootstrap: str) -> None:
    database = f"api_{uuid.uuid4().hex[:8]}"
    reads = Reads(kafka_bootstrap, source_name(), database)
    source = MongoApiSource(
        mongo_uri, database, CollectionAccess({"authenticated": ("*",)}), "before"
    )
    async with AsyncMongoClient[dict[str, Any]](mongo_uri) as mongo:
        await mongo[database]["goods"].insert_many([{"_id": 1}, {"_id": "b"}])
        async with serving(kafka_bootstrap, {reads.source: source}) as client:
            await client.get("/goods?order=_id")
            await client.get("/goods?_id=eq.7")
        await mongo.drop_database(database)
    (told,) = await reads.of("goods")
    assert told["keys"] == [{"_id": 1}, {"_id": "b"}]
    assert told["type"] == f"db.{reads.source}.{database}.goods.read"
