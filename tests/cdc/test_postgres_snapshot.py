from __future__ import annotations

import asyncio
import re
from collections import Counter

import pytest

from tests.cdc.postgres_place import Place, capturing
from tests.cdc.snapshot_view import (
    LIMIT_S,
    ask,
    bodies,
    compacted,
    loading,
    reads,
    states,
    until_over,
)
from tests.cdc.storm import storm

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cdc.postgres_chunk.CHUNK_ROWS", 7)


@pytest.mark.usefixtures("small_chunks")
async def test_rows_that_are_there_are_loaded_once_and_marked(place: Place) -> None:
    await place.run(
        "create table orders (id int primary key, total numeric)",
        "insert into orders select n, n + 0.50 from generate_series(1, 100) n",
    )
    async with capturing(place, loading(place)):
        state = await until_over(place, "orders")
        found = await bodies(place, "orders")
    assert (state.state, state.rows, state.reason) == ("finished", 100, "initial")
    assert sorted(body["after"]["id"] for body in found if body["op"] == "r") == [*range(1, 101)]
    first = next(body for body in found if body["after"]["id"] == 1)
    name = place.source.name
    assert first["type"] == f"db.{name}.public.orders.snapshot"
    assert (first["before"], first["changed"], first["unavailable"]) == (None, None, [])
    assert first["after"] == {"id": 1, "total": "1.50"}
    assert (first["source"]["snapshot"], first["transaction"]) == ("true", None)
    last = [body["after"]["id"] for body in found if body["source"]["snapshot"] == "last"]
    assert last == [100]
    assert len({body["id"] for body in found}) == len(found)
    async with capturing(place, loading(place)):
        await place.run("insert into orders values (101, 1)")
        async with asyncio.timeout(LIMIT_S):
            while len(await bodies(place, "orders")) < 101:
                await asyncio.sleep(0.02)
    assert len(await reads(place, "orders")) == 100


@pytest.mark.usefixtures("small_chunks")
async def test_an_empty_table_is_loaded_at_once_and_its_rows_come_by_the_stream(
    place: Place,
) -> None:
    await place.run("create table orders (id int primary key)")
    async with capturing(place, loading(place)):
        await place.run("insert into orders select generate_series(1, 20)")
        await until_over(place, "orders")
        await place.until("orders", 20)
    assert await reads(place, "orders") == []


@pytest.mark.usefixtures("small_chunks")
async def test_a_snapshot_on_request_loads_the_rows_asked_for(place: Place) -> None:
    await place.run(
        "create table orders (id int primary key, status text)",
        "insert into orders select n, case when n % 2 = 0 then 'paid' end"
        " from generate_series(1, 40) n",
    )
    async with capturing(place):
        await place.run("update orders set status = 'late' where id = 3")
        request = await ask(place, "orders", "status = 'paid' -- and a comment")
        state = await until_over(place, "orders", request)
        assert (state.state, state.rows, state.reason) == ("finished", 20, "request")
        again = await ask(place, "orders")
        assert (await until_over(place, "orders", again)).rows == 40
    found = await reads(place, "orders")
    assert len(found) == 60
    assert len({body["id"] for body in found}) == 60
    assert (await states(place)).requests == {}
    assert len(await compacted(place, "orders")) == 40


async def test_a_request_that_cannot_be_met_fails_with_the_reason_and_capture_goes_on(
    place: Place,
) -> None:
    await place.run("create table orders (id int primary key)", "insert into orders values (1)")
    async with capturing(place):
        state = await until_over(place, "orders", await ask(place, "orders", "nothing = 1"))
        assert (state.state, state.rows) == ("failed", 0)
        assert 'column "nothing" does not exist' in state.error
        state = await until_over(place, "never", await ask(place, "never"))
        assert 'relation "public.never" does not exist' in state.error
        await place.run("insert into orders values (2)")
        await place.until("orders", 1)
    events = await place.read_topic(place.cluster.topics.events)
    assert [b"system.snapshot_failed" in (event.value or b"") for event in events] == [True, True]


@pytest.mark.usefixtures("small_chunks")
async def test_under_a_storm_the_compacted_topic_equals_the_table_and_no_change_is_lost(
    place: Place,
) -> None:
    await place.run(
        "create table items (id int primary key, seq text)",
        "insert into items select n, 'first' from generate_series(1, 2000) n",
    )
    async with capturing(place, loading(place)):
        with storm(place.source.dsn, writers=4, keys=2_500, pause_s=0.004) as writers:
            state = await until_over(place, "items")
            # Once more, over rows that the stream knows.
            again = await until_over(place, "items", await ask(place, "items"))
            for writer in writers:
                await asyncio.to_thread(writer.stop)
            await until_equal(place)
    assert (state.state, again.state) == ("finished", "finished")
    found = await bodies(place, "items")
    assert len({body["id"] for body in found}) == len(found)
    # The storm and the snapshots were at it together.
    operations = "".join("r" if body["op"] == "r" else "-" for body in found)
    assert re.search("r-+r-+r", operations)
    assert sum(len(writer.committed) for writer in writers) > 200
    assert Counter(body["after"]["seq"] for body in found if body["op"] in "cu") == Counter(
        mark for writer in writers for mark in writer.committed
    )
    deleted = [body for body in found if body["op"] == "d" and "moved" not in body]
    assert len(deleted) == sum(writer.deleted for writer in writers)


async def table_rows(place: Place) -> dict[bytes, dict[str, object]]:
    cursor = await place.connection.execute("select id, seq from items")
    return {b'{"id":%d}' % row[0]: {"id": row[0], "seq": row[1]} for row in await cursor.fetchall()}


async def until_equal(place: Place) -> None:
    """Wait until the compacted topic is the table, which no longer changes."""
    wanted = await table_rows(place)
    async with asyncio.timeout(LIMIT_S):
        while (found := await compacted(place, "items")) != wanted:
            await asyncio.sleep(0.1)
            if place.captures[-1].done():
                place.captures[-1].result()
    assert found == wanted
