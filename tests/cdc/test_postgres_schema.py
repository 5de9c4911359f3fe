"""Tables that change under capture: rows keep their columns, and each change is told once."""

from __future__ import annotations

import json
from typing import Any, LiteralString

import pytest

from tests.cdc.postgres_place import Place, capturing

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

Json = dict[str, Any]  # pyright: ignore[reportExplicitAny] - JSON taken apart by assertions


async def told(place: Place) -> list[Json]:
    """The events on rowcast.schema, in the order of the changes that they stand before."""
    records = await place.read_topic(place.cluster.topics.schema)
    found: list[Json] = [json.loads(record.value or b"") for record in records]
    return sorted(found, key=lambda body: str(body["id"]))


def columns(look: Json) -> list[tuple[str, str]]:
    return [(column["name"], column["type"]) for column in look["columns"]]


async def test_each_change_of_a_table_is_told_once_with_both_looks(place: Place) -> None:
    changes: tuple[LiteralString, ...] = (
        "alter table orders add column note varchar(20) default 'n'",
        "alter table orders rename column note to remark",
        "alter table orders alter column total type text",
        "alter table orders drop column total",
        "alter table orders replica identity full",
        "alter table orders rename to purchases",
    )
    await place.run("create table orders (id int primary key, total numeric(8,2))")
    async with capturing(place):
        await place.run("insert into orders values (1, 12.30)")
        for change in changes[:-1]:
            await place.run(change, "insert into orders (id) select max(id) + 1 from orders")
        await place.until("orders", 6)
    # What is told already is not told again by the next start.
    async with capturing(place):
        await place.run("insert into orders (id) values (7)", changes[-1])
        await place.run("insert into purchases (id) values (8)")
        rows = await place.until("orders", 7)
        (last,) = await place.until("purchases", 1)
    events = await told(place)
    assert [event["data"]["before"] for event in events[1:]] == [
        event["data"]["after"] for event in events[:-1]
    ]
    assert events[0]["data"]["before"] is None
    looks = [event["data"]["after"] for event in events]
    assert [columns(look) for look in looks] == [
        [("id", "integer"), ("total", "numeric(8,2)")],
        [("id", "integer"), ("total", "numeric(8,2)"), ("note", "character varying(20)")],
        [("id", "integer"), ("total", "numeric(8,2)"), ("remark", "character varying(20)")],
        [("id", "integer"), ("total", "text"), ("remark", "character varying(20)")],
        [("id", "integer"), ("remark", "character varying(20)")],
        [("id", "integer"), ("remark", "character varying(20)")],
        [("id", "integer"), ("remark", "character varying(20)")],
    ]
    assert [look["replica_identity"] for look in looks] == [*"ddddd", "f", "f"]
    assert looks[-1]["table"] == "purchases"
    assert [event["type"] for event in events] == ["system.schema_changed"] * 7
    assert [list(row["after"]) for row in rows] == [
        ["id", "total"],
        ["id", "total", "note"],
        ["id", "total", "remark"],
        ["id", "total", "remark"],
        ["id", "remark"],
        ["id", "remark"],
        ["id", "remark"],
    ]
    assert [event["id"] for event in events] == [f"{row['id']}/schema" for row in [*rows[:6], last]]


async def test_a_table_changed_inside_a_transaction_has_its_columns_of_each_moment(
    place: Place,
) -> None:
    await place.run("create table orders (id int primary key, a int)")
    async with capturing(place):
        async with place.connection.transaction():
            await place.run(
                "insert into orders values (1, 1)",
                "alter table orders add column b text default 'x'",
                "insert into orders values (2, 2, 'y')",
                "alter table orders drop column a",
                "update orders set b = 'z' where id = 1",
            )
        rows = await place.until("orders", 3)
    assert [row["after"] for row in rows] == [
        {"id": 1, "a": 1},
        {"id": 2, "a": 2, "b": "y"},
        {"id": 1, "b": "z"},
    ]
    events = await told(place)
    assert [event["id"] for event in events] == [f"{row['id']}/schema" for row in rows]


async def test_a_rolled_back_change_of_a_table_is_not_told(place: Place) -> None:
    await place.run("create table orders (id int primary key)")
    async with capturing(place):
        await place.run("insert into orders values (1)", "begin")
        await place.run("alter table orders add column b text", "insert into orders values (2)")
        await place.run("rollback", "insert into orders values (3)")
        rows = await place.until("orders", 2)
    assert [row["after"] for row in rows] == [{"id": 1}, {"id": 3}]
    assert len(await told(place)) == 1


@pytest.mark.parametrize(
    ("identity", "before", "key"),
    [
        ("default", {"id": 1}, {"id": 1}),
        ("using index by_code", {"code": "a"}, {"code": "a"}),
        ("full", {"id": 1, "code": "a", "n": 1}, {"id": 1}),
    ],
)
async def test_a_delete_tells_what_the_replica_identity_keeps(
    place: Place, identity: str, before: Json, key: Json
) -> None:
    await place.run(
        "create table items (id int primary key, code text not null, n int)",
        "create unique index by_code on items (code)",
    )
    await place.connection.execute(f"alter table items replica identity {identity}".encode())
    async with capturing(place):
        await place.run("insert into items values (1, 'a', 1)", "delete from items")
        _, gone = await place.until("items", 2)
    assert (gone["op"], gone["before"]) == ("d", before)
    records = await place.read_topic(f"{place.source.name}.public.items")
    assert [json.loads(record.key or b"") for record in records] == [key, key]


async def test_a_table_whose_identity_index_was_dropped_can_still_be_changed(
    place: Place,
) -> None:
    await place.run(
        "create table items (id int primary key, code text not null)",
        "create unique index by_code on items (code)",
        "alter table items replica identity using index by_code",
        "drop index by_code",
        "insert into items values (1, 'a')",
    )
    async with capturing(place):
        await place.run("update items set code = 'b'")
        (changed,) = await place.until("items", 1)
    assert changed["before"] == {"id": 1, "code": "a"}


async def test_a_table_whose_identity_is_nothing_can_still_be_changed(place: Place) -> None:
    await place.run(
        "create table items (id int primary key, n int)",
        "alter table items replica identity nothing",
        "insert into items values (1, 1)",
    )
    async with capturing(place):
        await place.run("update items set n = 2")
        (changed,) = await place.until("items", 1)
    assert changed["before"] == {"id": 1, "n": 1}
