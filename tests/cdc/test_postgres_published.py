"""What a publication says is published, and nothing else: filters, lists, partitions, schemas."""

from __future__ import annotations

import asyncio
import json
from typing import cast

import pytest

from events.topic import change_topic
from tests.cdc.postgres_place import Envelope, Place, capturing

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


def told(body: Envelope) -> tuple[object, object, object]:
    return body["op"], body["before"], body["after"]


async def test_a_publication_of_ones_own_keeps_its_row_filter_and_column_list(
    place: Place,
) -> None:
    await place.run(
        "create table orders (id int primary key, total int not null, secret text)",
        "create unique index filtered on orders (id, total)",
        "alter table orders replica identity using index filtered",
        "create table private (id int primary key)",
        "create publication rowcast for table orders (id, total) where (total > 100)",
    )
    async with capturing(place):
        await place.run(
            "insert into orders values (1, 50, 'x'), (2, 500, 'y')",
            "update orders set total = 600 where id = 2",
            "update orders set total = 200 where id = 1",
            "update orders set total = 10 where id = 2",
            "update orders set total = 20 where id = 2",
            "insert into private values (1)",
            "delete from orders",
        )
        found = await place.until("orders", 6)
    assert [told(body) for body in found] == [
        ("c", None, {"id": 2, "total": 500}),
        # The key is (id, total) here: a changed one is a delete and a create.
        ("d", {"id": 2, "total": 500}, None),
        ("c", None, {"id": 2, "total": 600}),
        # Rows come and go as they pass the filter.
        ("c", None, {"id": 1, "total": 200}),
        ("d", {"id": 2, "total": 600}, None),
        ("d", {"id": 1, "total": 200}, None),
    ]
    assert await place.envelopes("private") == []


async def test_truncate_cascade_is_told_of_every_table_that_was_emptied(place: Place) -> None:
    await place.run(
        "create table orders (id int primary key)",
        "create table lines (id int primary key, order_id int references orders)",
    )
    async with capturing(place):
        await place.run(
            "insert into orders values (1)",
            "insert into lines values (1, 1)",
            "truncate orders cascade",
            "insert into orders values (2)",
        )
        orders = await place.until("orders", 3)
        lines = await place.until("lines", 2)
    assert [body["op"] for body in orders] == ["c", "t", "c"]
    assert [body["op"] for body in lines] == ["c", "t"]
    assert orders[1]["transaction"]["id"] == lines[1]["transaction"]["id"]
    assert {orders[1]["transaction"]["total_order"], lines[1]["transaction"]["total_order"]} == {
        1,
        2,
    }


async def test_a_row_moved_between_partitions_is_gone_from_one_key_and_there_under_the_other(
    place: Place,
) -> None:
    await place.run(
        "create table logs (id int, day date, note text, primary key (id, day))"
        " partition by range (day)",
        "create table logs_1 partition of logs for values from ('2026-01-01') to ('2026-07-01')",
        "create table logs_2 partition of logs for values from ('2026-07-01') to ('2027-01-01')",
    )
    async with capturing(place):
        await place.run(
            "insert into logs values (1, '2026-02-01', 'a')",
            "update logs set day = '2026-08-01'",
            "alter table logs detach partition logs_1",
            "update logs set note = 'b'",
        )
        found = await place.until("logs", 4)
    old, new = {"id": 1, "day": "2026-02-01"}, {"id": 1, "day": "2026-08-01"}
    assert [told(body) for body in found] == [
        ("c", None, {**old, "note": "a"}),
        ("d", old, None),
        ("c", None, {**new, "note": "a"}),
        ("u", None, {**new, "note": "b"}),
    ]
    assert found[1]["transaction"]["id"] == found[2]["transaction"]["id"]


async def test_generated_columns_are_told_where_the_publication_says_so(place: Place) -> None:
    await place.run(
        "create table orders (id int primary key, twice int generated always as (id * 2) stored)",
        "create publication rowcast for table orders with (publish_generated_columns = stored)",
    )
    async with capturing(place):
        await place.run("insert into orders values (4)", "update orders set id = 5")
        c, d, moved = await place.until("orders", 3)
    assert c["after"] == {"id": 4, "twice": 8}
    assert (d["op"], moved["after"]) == ("d", {"id": 5, "twice": 10})


async def test_schemas_tables_and_columns_with_odd_names_have_topics_and_rows_of_their_own(
    place: Place,
) -> None:
    await place.run(
        'create schema "Sales 2026.q1/ü"',
        'create table "Sales 2026.q1/ü"."Ord""er" ("Id %s" int primary key, "a.b" text)',
    )
    topic = change_topic(place.source.name, "Sales 2026.q1/ü", 'Ord"er')
    async with capturing(place):
        await place.run("""insert into "Sales 2026.q1/ü"."Ord""er" values (7, 'x')""")
        async with asyncio.timeout(30):
            while not (records := await place.read_topic(topic)):
                await asyncio.sleep(0.02)
    (record,) = records
    body = cast("Envelope", json.loads(record.value or b""))
    assert body["after"] == {"Id %s": 7, "a.b": "x"}
    assert (body["source"]["schema"], body["source"]["table"]) == ("Sales 2026.q1/ü", 'Ord"er')
    assert record.key == b'{"Id %s":7}'
