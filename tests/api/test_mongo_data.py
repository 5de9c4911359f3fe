"""The query language over a real MongoDB's collections."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from bson import Decimal128, ObjectId
from pymongo import AsyncMongoClient

from api.catalogue import CollectionAccess
from api.settings import MongoApiSource
from tests.api.api_bench import bearer, serving

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

OID = "65a1b2c3d4e5f60718293a4b"
DOCUMENTS: list[dict[str, Any]] = [
    {
        "_id": 1,
        "name": "Tea",
        "price": 4.5,
        "tags": ["hot", "leaf"],
        "at": {"city": "Ulm"},
        "made": datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC),
    },
    {
        "_id": 2,
        "name": "Pot",
        "price": 30,
        "tags": ["iron"],
        "sold": True,
        "made": datetime(2020, 3, 1, tzinfo=UTC),
    },
    {"_id": ObjectId(OID), "name": "5", "price": None, "exact": Decimal128("1.10")},
]


@pytest.fixture
async def client(mongo_uri: str, kafka_bootstrap: str) -> AsyncGenerator[httpx.AsyncClient]:
    database = f"api_{uuid.uuid4().hex[:8]}"
    async with AsyncMongoClient[dict[str, Any]](mongo_uri) as mongo:
        await mongo[database]["goods"].insert_many(DOCUMENTS)
        await mongo[database]["goods"].create_index("name", unique=True)
        await mongo[database]["rowcast_chain"].insert_one({})
        source = MongoApiSource(
            mongo_uri, database, CollectionAccess({"anon": ("goods",), "authenticated": ("*",)})
        )
        async with serving(kafka_bootstrap, {"docs": source}) as client:
            client.headers.update(bearer("service_role"))
            yield client
        await mongo.drop_database(database)


READS: list[tuple[str, Any]] = [
    ("select=name&_id=eq.1", [{"name": "Tea"}]),
    (f"select=_id&_id=eq.{OID}", [{"_id": {"$oid": OID}}]),
    (f"select=_id&_id=in.({OID},1)&order=_id", [{"_id": 1}, {"_id": {"$oid": OID}}]),
    ("select=label:name,at->>city&_id=eq.1", [{"label": "Tea", "city": "Ulm"}]),
    ("select=_id&at->>city=eq.Ulm", [{"_id": 1}]),
    ("select=_id&price=gte.4.5&order=price.desc", [{"_id": 2}, {"_id": 1}]),
    ("select=_id&name=eq.5", []),
    ('select=exact&name=eq."5"', [{"exact": {"$numberDecimal": "1.10"}}]),
    ("select=_id&name=like.T*", [{"_id": 1}]),
    ("select=_id&name=ilike.t_a", [{"_id": 1}]),
    ("select=_id&name=match.^P", [{"_id": 2}]),
    ("select=_id&price=is.null", [{"_id": {"$oid": OID}}]),
    ("select=_id&sold=is.true", [{"_id": 2}]),
    ("select=_id&tags=cs.{hot,leaf}", [{"_id": 1}]),
    ("select=_id&tags=ov.{iron,x}", [{"_id": 2}]),
    (
        "select=_id&or=(name.eq.Tea,and(price.gt.5,sold.is.true))&order=_id",
        [{"_id": 1}, {"_id": 2}],
    ),
    ("select=_id&name=not.in.(Tea,Pot)", [{"_id": {"$oid": OID}}]),
    ("select=_id&order=name&limit=1&offset=1", [{"_id": 2}]),
    ('select=_id&price=eq.{"$gt":1}', []),
    ("select=_id&name=eq(any).{Tea,Pot}&order=_id", [{"_id": 1}, {"_id": 2}]),
    ('select=_id&name=like(all).{T*,"*a"}', [{"_id": 1}]),
    ("select=_id&name=not.like(any).{T*,P*}", [{"_id": {"$oid": OID}}]),
    ("select=_id&name=like.T\\_a", []),
    ("select=_id&made=gte.2020-02-01&order=_id", [{"_id": 2}]),
    ("select=_id&made=eq.2020-01-02T03:04:05.000Z", [{"_id": 1}]),
    (f"select=_id&_id=gt.{OID[:-1]}9", [{"_id": {"$oid": OID}}]),
]


async def test_what_a_query_asks_is_what_it_gets(client: httpx.AsyncClient) -> None:
    wrong: list[object] = []
    for query, expected in READS:
        response = await client.get(f"/goods?{query}")
        if (response.status_code, response.json()) != (200, expected):
            wrong.append((query, response.status_code, response.json()))
    assert wrong == []
    counted = await client.get("/goods?limit=1", headers={"Prefer": "count=exact"})
    assert (counted.status_code, counted.headers["content-range"]) == (206, "0-0/3")


async def test_documents_are_written_and_given_back(client: httpx.AsyncClient) -> None:
    back = {"Prefer": "return=representation"}
    day = {"$date": "2026-01-02T03:04:05Z"}
    made = await client.post("/goods?select=at,n", json={"at": day, "n": 1}, headers=back)
    assert (made.status_code, made.json()) == (201, [{"at": day, "n": 1}])
    many = await client.post("/goods", json=[{"_id": 7, "name": "A"}, {"_id": 8, "name": "B"}])
    assert many.status_code == 201
    changed = await client.patch("/goods?_id=gte.7", json={"price": 1}, headers=back)
    assert [one["price"] for one in changed.json()] == [1, 1]
    merge = {"Prefer": "return=representation, resolution=merge-duplicates"}
    merged = await client.post("/goods", json={"_id": 7, "n": 2}, headers=merge)
    assert merged.json() == [{"_id": 7, "name": "A", "price": 1, "n": 2}]
    ignore = {"Prefer": "return=representation, resolution=ignore-duplicates"}
    assert (await client.post("/goods", json={"_id": 7}, headers=ignore)).json() == []
    named = await client.post("/goods?on_conflict=name", json={"name": "B", "n": 3}, headers=merge)
    assert named.json()[0]["_id"] == 8
    put = await client.put("/goods?_id=eq.8", json={"name": "C"}, headers=back)
    assert put.json() == [{"_id": 8, "name": "C"}]
    undone = await client.delete("/goods?_id=gte.7", headers={"Prefer": "tx=rollback"})
    assert undone.status_code == 204
    gone = await client.delete("/goods?_id=gte.7&order=_id", headers=back)
    assert {one["_id"] for one in gone.json()} == {7, 8}
    new = "65a1b2c3d4e5f60718293aff"
    for name in ("Q", "R"):
        put = await client.put(f"/goods?_id=eq.{new}", json={"name": name}, headers=back)
        assert put.json() == [{"_id": {"$oid": new}, "name": name}]
    assert (await client.delete(f"/goods?_id=eq.{new}")).status_code == 204
    where = await client.post(
        "/goods", json={"name": "S"}, headers={"Prefer": "return=headers-only"}
    )
    assert (await client.get(where.headers["location"])).json()[0]["name"] == "S"
    assert (await client.delete(where.headers["location"])).status_code == 204


ERRORS: list[tuple[str, str, bytes, int, str]] = [
    ("GET", "/nosuch", b"", 404, "PGRST205"),
    ("GET", "/rowcast_chain", b"", 404, "PGRST205"),
    ("GET", "/system.views", b"", 404, "PGRST205"),
    ("GET", "/goods?select=x(y)", b"", 400, "PGRST127"),
    ("GET", "/goods?a=fts.x", b"", 400, "PGRST127"),
    ("GET", "/goods?select=a.sum()", b"", 400, "PGRST127"),
    ("GET", "/goods?$where=eq.1", b"", 400, "PGRST100"),
    ("GET", "/goods?a=match.(", b"", 400, "MONGO51091"),
    ("GET", "/goods?a=eq.99999999999999999999", b"", 400, "PGRST102"),
    ("POST", "/goods", b"{", 400, "PGRST102"),
    ("POST", "/goods", b'{"$set": 1}', 400, "PGRST102"),
    ("POST", "/goods", b'{"_id": {"$oid": "x"}}', 400, "PGRST102"),
    ("POST", "/goods", b'{"_id": 1}', 409, "MONGO11000"),
    ("POST", "/goods", b'{"n": 99999999999999999999}', 400, "PGRST102"),
    ("PATCH", "/goods", b'{"_id": 1}', 400, "PGRST102"),
    ("PATCH", "/goods", b'{"name": "same"}', 409, "MONGO11000"),
    ("POST", "/goods", b'{"n": {"$numberDecimal": "x"}}', 400, "PGRST102"),
    ("GET", "/goods?name=eq(any).x", b"", 400, "PGRST100"),
    ("PUT", "/goods?name=eq.x", b"{}", 405, "PGRST105"),
    ("PUT", "/goods?_id=eq.5", b'{"_id": 6}', 400, "PGRST115"),
    ("POST", "/rpc/x", b"{}", 404, "PGRST202"),
]


async def test_what_is_wrong_is_answered_in_postgrests_form(client: httpx.AsyncClient) -> None:
    wrong: list[object] = []
    for method, url, body, status, code in ERRORS:
        response = await client.request(method, url, content=body)
        error = response.json()
        if (response.status_code, error["code"]) != (status, code):
            wrong.append((method, url, response.status_code, error))
    assert wrong == []
    assert len((await client.get("/goods")).json()) == 3


async def test_collections_are_open_as_the_configuration_says(client: httpx.AsyncClient) -> None:
    for role in ("anon", "authenticated"):
        headers = bearer(role)
        assert (await client.get("/goods", headers=headers)).status_code == 200
        refused = await client.post("/goods", json={}, headers=headers)
        assert refused.status_code == (401 if role == "anon" else 403)
        assert "api_write" in refused.json()["hint"]


async def test_a_write_that_meets_what_a_killed_process_left_open_is_carried_out(
    mongo_uri: str, kafka_bootstrap: str
) -> None:
    database = f"api_{uuid.uuid4().hex[:8]}"
    async with AsyncMongoClient[dict[str, Any]](mongo_uri) as mongo:
        goods = mongo[database]["goods"]
        await goods.insert_one({"_id": 1})
        session = mongo.start_session()
        await session.start_transaction()
        await goods.update_one({"_id": 1}, {"$set": {"n": 1}}, session=session)

        async def end(_client: object) -> int:
            await session.abort_transaction()
            return 1

        source = MongoApiSource(mongo_uri, database, CollectionAccess())
        sources = {"docs": source}
        async with serving(kafka_bootstrap, sources, mongo_mending=end) as client:
            client.headers.update(bearer("service_role"))
            changed = await client.patch("/goods?_id=eq.1", json={"n": 2})
            assert changed.status_code == 204
        assert await goods.find_one() == {"_id": 1, "n": 2}
        await mongo.drop_database(database)
