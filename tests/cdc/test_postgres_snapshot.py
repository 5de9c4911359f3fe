from __future__ import annotations

import asyncio
import re
from collections import Counter
from dataclasses import replace
from typing import LiteralString

import psycopg
import pytest

from cdc.errors import CaptureConfigError
from cdc.postgres_chunk import ChunkReader, ReadChunk
from cdc.snapshot_state import TableSnapshot
from tests.cdc.postgres_place import Place, Role, capturing
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
        await ask(place, "never")
        # The state of a table that is not published is forgotten at the next heartbeat; the event
        # that says what became of it stays.
        async with asyncio.timeout(LIMIT_S):
            while len(events := await place.read_topic(place.cluster.topics.events)) < 2:
                await asyncio.sleep(0.1)
        failures = [(event.value or b"").replace(b"\\", b"") for event in events]
        assert any(b'relation "public.never" does not exist' in one for one in failures)
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


@pytest.mark.usefixtures("small_chunks")
async def test_a_table_added_to_the_publication_is_loaded_and_one_made_later_is_not(
    place: Place,
) -> None:
    await place.run(
        "create table first (id int primary key)",
        "create table second (id int primary key)",
        "insert into second select generate_series(1, 30)",
        "create publication rowcast for table first with (publish_via_partition_root = true)",
    )
    async with capturing(place, loading(place)):
        await place.run("alter publication rowcast add table second")
        state = await until_over(place, "second")
        assert (state.reason, state.state, state.rows) == ("added", "finished", 30)
    assert len(await reads(place, "second")) == 30
    await place.run("drop publication rowcast", "create publication rowcast for all tables")
    source = replace(loading(place), on_gap="continue")
    async with capturing(place, source):
        await place.run("create table third (id int primary key)", "insert into third values (1)")
        await place.until("third", 1)
    async with capturing(place, source):
        await place.run("insert into third values (2)")
        await place.until("third", 2)
    assert ("public", "third") not in (await states(place)).tables


@pytest.mark.usefixtures("small_chunks")
async def test_after_a_gap_all_tables_are_loaded_anew_where_the_source_says_so(
    place: Place,
) -> None:
    await place.run(
        "create table orders (id int primary key)", "insert into orders values (1), (2)"
    )
    async with capturing(place, loading(place)):
        first = await until_over(place, "orders")
    await place.run("insert into orders values (3)")
    await drop_slot(place)
    source = replace(place.source, on_gap="snapshot")
    async with capturing(place, source):
        async with asyncio.timeout(LIMIT_S):
            while (again := await until_over(place, "orders")).snapshot == first.snapshot:
                await asyncio.sleep(0.02)
    assert (again.reason, again.rows) == ("gap", 3)
    async with capturing(place, source):
        pass
    assert len(await reads(place, "orders")) == 5
    assert len(await compacted(place, "orders")) == 3


KEYS: dict[str, tuple[LiteralString, ...]] = {
    "text": ("id text primary key", "'O''Hara \\ ' || chr(9) || n::text || E'\\n'"),
    "uuid": ("id uuid primary key", "md5(n::text)::uuid"),
    "numeric": ("id numeric primary key", "case n when 1 then 'NaN' else n * 0.10 - 1 end"),
    "timestamptz": (
        "id timestamptz primary key",
        "timestamptz '2026-11-23 08:00+02' + n * interval '1 s'",
    ),
    "bytea": ("id bytea primary key", "decode(to_hex(n + 16), 'hex')"),
    "composite": ("x int, id text, primary key (id, x)", "(n % 3)::text", "n"),
    "collation": ('id text collate "C" primary key', "chr(64 + n % 60) || n"),
    "index": ("x int, id int not null unique", "n", "n"),
    "nothing": ("id int primary key", "n"),
}


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.usefixtures("small_chunks")
async def test_a_table_is_read_whole_and_once_by_keys_of_any_type(place: Place, kind: str) -> None:
    columns, value, *more = KEYS[kind]
    names = "id, x" if more else "id"
    await place.run(
        f"create table items ({columns})",
        f"insert into items ({names}) select {', '.join([value, *more])}"
        " from generate_series(1, 50) n",
    )
    if kind == "index":
        await place.run("alter table items replica identity using index items_id_key")
    if kind == "nothing":
        await place.run("alter table items replica identity nothing")
    async with capturing(place, replace(loading(place), keyless_full=False)):
        state = await until_over(place, "items")
        assert (state.state, state.error, state.rows) == ("finished", "", 50)
        found = await reads(place, "items")
        assert len(found) == len({body["id"] for body in found}) == 50
        assert len(await compacted(place, "items")) == 50
        if kind == "nothing":
            return
        # A change goes under the same key as the row that was read.
        await place.run("delete from items")
        async with asyncio.timeout(LIMIT_S):
            while await compacted(place, "items"):
                await asyncio.sleep(0.02)


@pytest.mark.usefixtures("small_chunks")
async def test_odd_names_generated_columns_row_filters_and_partitions_are_read_as_published(
    place: Place,
) -> None:
    await place.run(
        'create table "Order %s ""lines" ("i%d" int primary key, "a b" text, hidden text,'
        ' twice int generated always as ("i%d" * 2) stored)',
        'insert into "Order %s ""lines" select n, n::text, \'x\' from generate_series(1, 20) n',
        "create table logs (id int, day date, primary key (id, day)) partition by range (day)",
        "create table logs_1 partition of logs for values from ('2026-01-01') to ('2026-07-01')",
        "create table logs_2 partition of logs for values from ('2026-07-01') to ('2027-01-01')",
        "insert into logs select n, date '2026-06-20' + n from generate_series(1, 20) n",
        'create publication rowcast for table "Order %s ""lines" ("i%d", "a b")'
        ' where ("i%d" > 10), logs with (publish_via_partition_root = true)',
    )
    async with capturing(place, loading(place)):
        state = await until_over(place, 'Order %s "lines')
        assert state.rows == 10
        assert (await until_over(place, "logs")).rows == 20
    lines = await reads(place, "Order-x20-x25s-x20-x22lines")
    assert sorted((body["after"] for body in lines), key=lambda row: row["i%d"]) == [
        {"i%d": number, "a b": str(number)} for number in range(11, 21)
    ]
    assert {body["after"]["id"] for body in await reads(place, "logs")} == {*range(1, 21)}


@pytest.mark.usefixtures("small_chunks")
async def test_a_table_without_a_key_is_read_by_blocks_and_its_new_rows_are_not_told_twice(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cdc.postgres_chunk._CHUNK_BYTES", 8_192)
    await place.run(
        "create table notes (n int, t text)",
        "insert into notes select n, repeat('x', 300) from generate_series(1, 500) n",
    )
    async with capturing(place, loading(place)):
        await place.run(
            "insert into notes select n, '' from generate_series(501, 520) n",
            "delete from notes where n <= 5",
            "update notes set n = 1000 + n where n between 400 and 410",
        )
        assert (await until_over(place, "notes")).state == "finished"
        async with asyncio.timeout(LIMIT_S):
            while (told := await fold(place, "notes")) != 515:
                await asyncio.sleep(0.05)
    assert told == 515
    found = await bodies(place, "notes")
    assert len({body["id"] for body in found}) == len(found)
    assert not any(body["op"] == "r" and 500 < body["after"]["n"] <= 520 for body in found)


async def fold(place: Place, table: str) -> int:
    """How many rows a reader of the topic has who takes away what is deleted or replaced."""
    rows = Counter[str]()
    for body in await bodies(place, table):
        for row, change in ((body["before"], -1), (body["after"], 1)):
            if row is not None:
                text = str(row)
                rows[text] = max(0, rows[text] + change)
    return rows.total()


async def test_a_table_dropped_while_it_is_read_is_given_up_and_the_others_are_loaded(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cdc.postgres_chunk.CHUNK_ROWS", 10)
    await place.run(
        "create table a (id int primary key)",
        "insert into a select generate_series(1, 100000)",
        "create table b (id int primary key)",
        "insert into b values (1)",
    )
    async with capturing(place, loading(place)):
        async with asyncio.timeout(LIMIT_S):
            while not await reads(place, "a"):
                await asyncio.sleep(0.02)
        await place.run("drop table a")
        assert (await until_over(place, "b")).state == "finished"
        # The state of a table that is gone is forgotten soon; the event that says so stays.
        async with asyncio.timeout(LIMIT_S):
            while not await place.read_topic(place.cluster.topics.events):
                await asyncio.sleep(0.3)
        events = await place.read_topic(place.cluster.topics.events)
        assert b"system.snapshot_failed" in (events[0].value or b"")
        assert b"does not exist" in (events[0].value or b"")
    async with capturing(place, loading(place)):
        pass
    assert list((await states(place)).tables) == [("public", "b")]
    events = await place.read_topic(place.cluster.topics.events)
    assert len([one for one in events if b"system.snapshot_failed" in (one.value or b"")]) == 1


@pytest.mark.usefixtures("small_chunks")
async def test_a_table_dropped_half_loaded_while_nobody_looks_is_said_to_have_failed(
    place: Place,
) -> None:
    await place.run(
        "create table a (id int primary key)", "insert into a select generate_series(1, 5000)"
    )
    async with capturing(place, loading(place)), asyncio.timeout(LIMIT_S):
        while not await reads(place, "a"):
            await asyncio.sleep(0.02)
    assert (await states(place)).tables["public", "a"].state == "running"
    await place.run("drop table a")
    async with capturing(place, loading(place)):
        pass
    (event,) = await place.read_topic(place.cluster.topics.events)
    assert b"system.snapshot_failed" in (event.value or b"")
    assert b"the table was dropped" in (event.value or b"")


@pytest.mark.usefixtures("small_chunks")
async def test_a_column_added_or_retyped_while_a_table_is_read_is_read_as_it_is_then(
    place: Place,
) -> None:
    await place.run(
        "create table items (id int primary key, v int)",
        "insert into items select n, n from generate_series(1, 2000) n",
    )
    async with capturing(place, loading(place)):
        async with asyncio.timeout(LIMIT_S):
            while not await reads(place, "items"):
                await asyncio.sleep(0.01)
        await place.run("alter table items alter v type text, add w int default 7")
        assert (await until_over(place, "items")).state == "finished"
    rows = [body["after"] for body in await reads(place, "items")]
    assert sorted(row["id"] for row in rows) == [*range(1, 2001)]
    assert {(type(row["v"]), row.get("w")) for row in rows} == {(int, None), (str, 7)}


async def test_wide_rows_are_read_in_chunks_of_bounded_size(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cdc.postgres_chunk._CHUNK_BYTES_MAX", 400_000)
    await place.run(
        "create table docs (id int primary key, body text)",
        "create table notes (id int, body text)",
        "insert into docs select n, repeat('x', 100000) from generate_series(1, 40) n",
        "insert into notes select n, repeat('x', 100000) from generate_series(1, 40) n",
    )
    sizes: list[int] = []
    read = ChunkReader.read

    async def spy(self: ChunkReader, state: TableSnapshot, now_ms: int) -> ReadChunk:
        chunk = await read(self, state, now_ms)
        sizes.append(len(chunk.rows))
        return chunk

    monkeypatch.setattr(ChunkReader, "read", spy)
    async with capturing(place, loading(place)):
        for table in ("docs", "notes"):
            assert (await until_over(place, table)).rows == 40
    assert max(sizes) < 20
    for table in ("docs", "notes"):
        ids = [body["after"]["id"] for body in await reads(place, table)]
        assert sorted(ids) == [*range(1, 41)]


async def test_a_transaction_open_at_the_start_is_waited_for_and_nothing_of_it_is_lost(
    place: Place,
) -> None:
    await place.run("create table items (id int primary key, seq text)")
    async with capturing(place):
        pass
    await place.run("insert into items values (1, 'old')")
    async with await psycopg.AsyncConnection.connect(place.source.dsn) as other:
        await other.execute("insert into items values (2, 'open')")
        async with capturing(place):
            await ask(place, "items")
            async with asyncio.timeout(LIMIT_S):
                while "items" not in str((await states(place)).tables):
                    await asyncio.sleep(0.02)
            assert (await states(place)).tables["public", "items"].state == "waiting"
            await other.commit()
            await until_over(place, "items")
            await until_equal(place)


async def test_a_role_that_may_not_read_is_told_what_to_grant_and_loads_after_it(
    place: Place, role: Role
) -> None:
    await place.run(
        "create table orders (id int primary key)",
        "insert into orders values (1)",
        "create publication rowcast for all tables",
    )
    source = role.source_of(loading(place))
    async with capturing(place, source):
        state = await until_over(place, "orders")
        assert state.state == "failed"
        assert "permission denied for table orders" in state.error
        assert "grant select" in state.error
    async with capturing(place, source), asyncio.timeout(LIMIT_S):
        while (await until_over(place, "orders")).updated_ms == state.updated_ms:
            await asyncio.sleep(0.02)
    told = await place.read_topic(place.cluster.topics.events)
    assert len([one for one in told if b"system.snapshot_failed" in (one.value or b"")]) == 1
    await role.run("grant select on orders to {}")
    async with capturing(place, source), asyncio.timeout(LIMIT_S):
        while (await until_over(place, "orders")).state == "failed":
            await asyncio.sleep(0.02)
    assert len(await reads(place, "orders")) == 1


async def test_rows_that_row_security_hides_are_not_passed_over(place: Place, role: Role) -> None:
    await place.run(
        "create table orders (id int primary key)",
        "insert into orders values (1), (2)",
        "alter table orders enable row level security",
        "create policy few on orders using (id = 1)",
        "create publication rowcast for all tables",
    )
    await role.run("grant select on orders to {}")
    async with capturing(place, role.source_of(loading(place))):
        state = await until_over(place, "orders")
    assert state.state == "failed"
    assert "row-level security" in state.error
    assert await reads(place, "orders") == []


async def test_a_role_that_may_not_write_watermarks_is_told_the_command(
    place: Place, role: Role
) -> None:
    await place.run(
        "create table orders (id int primary key)",
        "insert into orders values (1)",
        "create publication rowcast for all tables",
    )
    function = b"function pg_logical_emit_message(bool, text, text, bool)"
    await place.connection.execute(b"revoke execute on %b from public" % function)
    try:
        with pytest.raises(CaptureConfigError, match=rf'grant execute on .* to "{role.name}"'):
            async with capturing(place, role.source_of(loading(place))):
                pass
        async with capturing(place, role.source_of(place.source)):
            pass
    finally:
        await place.connection.execute(b"grant execute on %b to public" % function)


async def drop_slot(place: Place) -> None:
    async with asyncio.timeout(LIMIT_S):
        while True:
            try:
                await place.connection.execute(
                    "select pg_drop_replication_slot(%s)", (place.source.slot,)
                )
            except psycopg.errors.ObjectInUse:
                await asyncio.sleep(0.02)
            else:
                return
