from __future__ import annotations

import asyncio
import json
import uuid
from dataclasses import replace

import psycopg
import pytest
from aiokafka import AIOKafkaConsumer
from psycopg import sql
from psycopg.conninfo import make_conninfo

from cdc.change_group import ChangeGroup
from cdc.errors import CaptureConfigError, CaptureGapError, FencedError
from cdc.postgres import capture_postgres
from cdc.progress import PostgresProgress
from cdc.publisher import Publisher
from cdc.transaction_assembly import TransactionAssembly
from events.lsn import Lsn
from tests.cdc.postgres_place import Place, capturing

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


async def test_a_row_is_created_updated_deleted_and_the_table_truncated(place: Place) -> None:
    await place.run("create table orders (id int primary key, status text, total numeric)")
    async with capturing(place):
        await place.run(
            "insert into orders values (7, 'pending', 12.30)",
            "update orders set status = 'paid'",
            "delete from orders",
            "truncate orders",
        )
        c, u, d, t = await place.until("orders", 4)
    name = place.source.name
    assert c["type"] == f"db.{name}.public.orders.created"
    assert (c["op"], c["before"], c["changed"], c["unavailable"]) == ("c", None, None, [])
    assert c["after"] == {"id": 7, "status": "pending", "total": "12.30"}
    assert (u["op"], u["before"], u["after"]["status"], u["changed"]) == ("u", None, "paid", None)
    assert (d["op"], d["before"], d["after"]) == ("d", {"id": 7}, None)
    assert (t["op"], t["before"], t["after"]) == ("t", None, None)
    records = await place.read_topic(f"{name}.public.orders")
    assert [record.key for record in records if record.key] == [b'{"id":7}'] * 3


async def test_full_identity_tells_the_old_row_and_what_changed(place: Place) -> None:
    await place.run(
        "create table orders (id int primary key, status text, total numeric, note text)",
        "alter table orders replica identity full",
    )
    async with capturing(place):
        await place.run(
            "insert into orders values (7, 'pending', 1, null)",
            "update orders set status = 'paid', note = 'n'",
            "delete from orders",
        )
        _, u, d = await place.until("orders", 3)
    assert u["before"] == {"id": 7, "status": "pending", "total": "1", "note": None}
    assert u["changed"] == ["status", "note"]
    assert d["before"] == {"id": 7, "status": "paid", "total": "1", "note": "n"}


async def test_a_changed_key_is_a_delete_and_a_create_that_name_each_other(place: Place) -> None:
    await place.run("create table orders (id int primary key, status text)")
    async with capturing(place):
        await place.run("insert into orders values (7, 'a')", "update orders set id = 8")
        _, d, c = await place.until("orders", 3)
    assert (d["op"], d["before"], d["after"]) == ("d", {"id": 7}, None)
    assert (c["op"], c["before"], c["after"]) == ("c", None, {"id": 8, "status": "a"})
    assert d["moved"] == {"id": c["id"], "key": {"id": 8}}
    assert c["moved"] == {"id": d["id"], "key": {"id": 7}}
    assert [d["transaction"]["total_order"], c["transaction"]["total_order"]] == [1, 2]
    records = await place.read_topic(f"{place.source.name}.public.orders")
    assert sorted(record.key or b"" for record in records) == [b'{"id":7}'] * 2 + [b'{"id":8}']


async def test_a_large_value_left_alone_is_listed_and_absent(place: Place) -> None:
    await place.run(
        "create table docs (id int primary key, title text, body text)",
        "alter table docs alter body set storage external",
        "insert into docs values (1, 'a', repeat('x', 10000))",
    )
    async with capturing(place):
        await place.run("update docs set title = 'b'")
        (u,) = await place.until("docs", 1)
        assert u["unavailable"] == ["body"]
        assert u["after"] == {"id": 1, "title": "b"}
        await place.run("alter table docs replica identity full", "update docs set title = 'c'")
        _, u = await place.until("docs", 2)
    assert u["unavailable"] == []
    assert u["after"] == {"id": 1, "title": "c", "body": "x" * 10_000}
    assert u["changed"] == ["title"]


async def test_a_large_key_left_alone_still_makes_the_record_key(place: Place) -> None:
    await place.run(
        "create table docs (id text primary key, title text)",
        "alter table docs alter id set storage external",
        "insert into docs values (repeat('k', 2500), 'a')",
    )
    async with capturing(place):
        await place.run("update docs set title = 'b'")
        (u,) = await place.until("docs", 1)
    assert (u["op"], u["after"]) == ("u", {"id": "k" * 2_500, "title": "b"})
    (record,) = await place.read_topic(f"{place.source.name}.public.docs")
    assert json.loads(record.key or b"") == {"id": "k" * 2_500}


async def test_tables_without_a_key_can_be_updated_whenever_they_were_made(place: Place) -> None:
    await place.run("create table before (a int, b text)", "insert into before values (1, 'x')")
    async with capturing(place):
        await place.run(
            "create table later (a int)",
            "insert into later values (1)",
            "update later set a = 2",
            "update before set a = 2",
        )
        (before,) = await place.until("before", 1)
        _, later = await place.until("later", 2)
    assert (later["before"], later["after"]) == ({"a": 1}, {"a": 2})
    assert (before["before"], before["after"]) == ({"a": 1, "b": "x"}, {"a": 2, "b": "x"})
    (record,) = await place.read_topic(f"{place.source.name}.public.before")
    assert (record.key, record.partition) == (None, 0)


async def test_a_chain_message_marks_what_follows_in_its_transaction(place: Place) -> None:
    await place.run("create table orders (id int primary key)")
    chain = b'{"root":"shop/1/1","path":["a"]}'
    async with capturing(place):
        async with place.connection.transaction():
            await place.run("insert into orders values (1)")
            await place.connection.execute(
                "select pg_logical_emit_message(true, 'rowcast.chain', %s::text)", (chain.decode(),)
            )
            await place.run("insert into orders values (2)")
        await place.run(
            "select pg_logical_emit_message(true, 'rowcast.chain', 'no chain')",
            "select pg_logical_emit_message(false, 'other', 'x')",
            "insert into orders values (3)",
        )
        await place.until("orders", 3)
    records = await place.read_topic(f"{place.source.name}.public.orders")
    headers = {record.key: record.headers for record in records}
    assert headers == {
        b'{"id":1}': (),
        b'{"id":2}': (("rowcast-chain", chain),),
        b'{"id":3}': (),
    }


async def test_types_of_ones_own_and_odd_names_arrive(place: Place) -> None:
    await place.run(
        "create type mood as enum ('ok', 'bad')",
        "create domain price as numeric check (value > 0)",
        'create table "Order %s lines" ("a""%b" mood[] primary key, "{p}" price, ps price[])',
    )
    async with capturing(place):
        await place.run("""insert into "Order %s lines" values ('{ok,bad}', 1.50, '{2.50,null}')""")
        (c,) = await place.until("Order-x20-x25s-x20lines", 1)
    assert c["after"] == {'a"%b': ["ok", "bad"], "{p}": "1.50", "ps": ["2.50", None]}
    assert c["source"]["table"] == "Order %s lines"


async def test_a_restart_publishes_nothing_twice_and_leaves_nothing_out(place: Place) -> None:
    await place.run("create table orders (id int primary key)")
    async with capturing(place):
        await place.run("insert into orders select generate_series(1, 100)")
        await place.until("orders", 100)
    await place.run("insert into orders select generate_series(101, 200)")
    async with capturing(place):
        found = await place.until("orders", 200)
    assert [body["after"]["id"] for body in found] == list(range(1, 201))
    assert len({body["id"] for body in found}) == 200


async def test_a_transaction_larger_than_a_group_is_cut_and_gone_on_with(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = replace(place.source, group_records=50)
    await place.run("create table orders (id int primary key)")
    published: list[int] = []

    async def break_after_two(self: Publisher, group: ChangeGroup, progress: bytes) -> None:
        # At the call: two groups may be on their way at once.
        if len(published) == 2:
            raise ConnectionAbortedError
        if group:
            published.append(group.record_count)
        await publish(self, group, progress)

    publish = Publisher.publish

    async def capture_until_broken() -> None:
        async with capturing(place, source) as task:
            await place.run("insert into orders select generate_series(1, 1000)")
            await task

    with monkeypatch.context() as patched:
        patched.setattr(Publisher, "publish", break_after_two)
        with pytest.raises(ConnectionAbortedError):
            await capture_until_broken()
    assert published == [100, 100]
    # The first of the records says how the table looks.
    assert (await place.progress()).ordinal == 199
    async with capturing(place):
        found = await place.until("orders", 1_000)
    assert [body["after"]["id"] for body in found] == list(range(1, 1_001))
    assert [body["transaction"]["total_order"] for body in found] == list(range(1, 1_001))


async def test_while_kafka_stands_still_no_more_than_the_groups_on_their_way_is_held(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = replace(place.source, group_records=500)
    await place.run("create table orders (id int primary key)")
    back, handed_over = asyncio.Event(), list[ChangeGroup]()
    assemblies: list[TransactionAssembly] = []

    async def stand_still(self: Publisher, group: ChangeGroup, progress: bytes) -> None:
        if group:
            handed_over.append(group)
            await back.wait()
        await publish(self, group, progress)

    def take(self: TransactionAssembly) -> tuple[ChangeGroup, PostgresProgress]:
        assemblies.append(self)
        return taken(self)

    publish, taken = Publisher.publish, TransactionAssembly.take
    monkeypatch.setattr(Publisher, "publish", stand_still)
    monkeypatch.setattr(TransactionAssembly, "take", take)
    async with capturing(place, source):
        await place.run("insert into orders select generate_series(1, 20000)")
        async with asyncio.timeout(30):
            while not assemblies or not assemblies[-1].is_full or len(handed_over) < 2:
                await asyncio.sleep(0.02)
        # The server waits: what comes next stays in its log.
        assert all(group.record_count <= 1_000 for group in handed_over)
        assert len(handed_over) == 2
        back.set()
        found = await place.until("orders", 20_000)
    assert [body["after"]["id"] for body in found] == list(range(1, 20_001))


async def test_a_second_capture_takes_over_and_the_first_ends_as_fenced(place: Place) -> None:
    await place.run("create table orders (id int primary key)")
    stop, ready = asyncio.Event(), asyncio.Event()
    async with capturing(place) as first:
        second = asyncio.create_task(
            capture_postgres(place.source, place.cluster, stop=stop, on_ready=ready.set)
        )
        # The first learns that it is fenced when it publishes, and leaves the slot then.
        while not first.done():
            await place.run("insert into orders select coalesce(max(id), 0) + 1 from orders")
            await asyncio.wait([first], timeout=0.05)
        assert isinstance(first.exception(), FencedError)
        place.captures[:] = [second]
        await ready.wait()
        cursor = await place.connection.execute("select count(*)::int from orders")
        (count,) = await cursor.fetchone() or (0,)
        found = await place.until("orders", count)
        assert [body["after"]["id"] for body in found] == list(range(1, count + 1))
        stop.set()
        await second


async def test_a_capture_of_an_idle_database_learns_that_another_has_taken_over(
    place: Place,
) -> None:
    await place.run("create table orders (id int primary key)")
    stop, ready = asyncio.Event(), asyncio.Event()
    async with capturing(place) as first:
        second = asyncio.create_task(
            capture_postgres(place.source, place.cluster, stop=stop, on_ready=ready.set)
        )
        async with asyncio.timeout(30):
            await asyncio.wait([first])
            await ready.wait()
        assert isinstance(first.exception(), FencedError)
        stop.set()
        await second


async def test_an_idle_database_moves_progress_and_then_the_slot(place: Place) -> None:
    await place.run("create table orders (id int primary key)", "create table quiet (id int)")
    source = replace(place.source, tables=("public.orders",))
    async with capturing(place, source):
        before = await place.confirmed()
        async with asyncio.timeout(20):
            while (await place.confirmed()) == before:
                await place.run("insert into quiet values (1)")
                await asyncio.sleep(0.05)
        confirmed = Lsn.parse(await place.confirmed())
        assert confirmed <= (await place.progress()).end


async def test_a_slot_that_is_gone_stops_capture_and_tells_once(place: Place) -> None:
    await place.run("create table orders (id int primary key)")
    async with capturing(place):
        pass
    await place.run("insert into orders values (1)")
    await _drop_slot(place)
    for _ in range(2):
        with pytest.raises(CaptureGapError, match=r'slot is gone.*on_gap = "continue"'):
            async with capturing(place):
                pass
    (event,) = await place.read_topic(place.cluster.topics.events)
    body = json.loads(event.value or b"")
    assert (body["type"], body["data"]["source"]) == ("system.gap", place.source.name)
    async with capturing(place, replace(place.source, on_gap="continue")):
        await place.run("insert into orders values (2)")
        (c,) = await place.until("orders", 1)
    assert c["after"] == {"id": 2}


async def test_a_slot_ahead_of_progress_is_a_gap(place: Place) -> None:
    await place.run("create table orders (id int primary key)")
    async with capturing(place):
        pass
    await place.run("insert into orders values (1)")
    await place.connection.execute(
        "select pg_replication_slot_advance(%s, pg_current_wal_lsn())", (place.source.slot,)
    )
    with pytest.raises(CaptureGapError, match="ahead of progress"):
        async with capturing(place):
            pass


async def test_a_publication_that_is_gone_is_a_gap(place: Place) -> None:
    await place.run("create table orders (id int primary key)")
    async with capturing(place):
        pass
    await place.run("drop publication rowcast", "insert into orders values (1)")
    with pytest.raises(CaptureGapError, match="publication is gone"):
        async with capturing(place):
            pass


async def test_the_server_hears_from_us_while_kafka_is_slow(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    await place.run("create table orders (id int primary key)")
    # Far below the time that the publisher is held for.
    await place.run("alter role rowcast set wal_sender_timeout = '2s'")
    try:
        publish = Publisher.publish
        held, release = asyncio.Event(), asyncio.Event()

        async def hold(self: Publisher, group: ChangeGroup, progress: bytes) -> None:
            if group:
                held.set()
                await release.wait()
            await publish(self, group, progress)

        async with capturing(place) as task:
            monkeypatch.setattr(Publisher, "publish", hold)
            await place.run("insert into orders select generate_series(1, 100000)")
            await held.wait()
            done, _ = await asyncio.wait([task], timeout=3.5)
            assert not done
            assert await place.envelopes("orders") == []
            cursor = await place.connection.execute("select pg_current_wal_lsn()::text")
            (end,) = await cursor.fetchone() or ("0/0",)
            release.set()
            async with asyncio.timeout(30):
                while (await place.progress()).end < Lsn.parse(end):
                    await asyncio.sleep(0.1)
        found = await place.envelopes("orders")
        assert len({body["id"] for body in found}) == len(found) == 100_000
    finally:
        await place.run("alter role rowcast reset wal_sender_timeout")


async def test_topics_of_published_tables_exist_once_capture_is_ready(place: Place) -> None:
    await place.run("create table orders (id int primary key)")
    async with (
        capturing(place),
        AIOKafkaConsumer(bootstrap_servers=place.cluster.bootstrap) as consumer,
    ):
        assert f"{place.source.name}.public.orders" in await consumer.topics()


async def test_partitions_are_published_under_their_root(place: Place) -> None:
    await place.run(
        "create table logs (id int, day date, primary key (id, day)) partition by range (day)",
        "create table logs_1 partition of logs for values from ('2026-01-01') to ('2027-01-01')",
    )
    async with capturing(place):
        await place.run("insert into logs values (1, '2026-11-23')", "update logs set id = 1")
        c, u = await place.until("logs", 2)
    assert c["after"] == u["after"] == {"id": 1, "day": "2026-11-23"}


async def test_a_role_without_replication_is_told_the_command(place: Place) -> None:
    role = f"r{uuid.uuid4().hex[:8]}"
    await place.connection.execute(
        sql.SQL("create role {} login password 'x'").format(sql.Identifier(role))
    )
    try:
        dsn = make_conninfo(place.source.dsn, user=role, password="x")
        with pytest.raises(CaptureConfigError, match=rf'alter role "{role}" replication'):
            async with capturing(place, replace(place.source, dsn=dsn)):
                pass
    finally:
        await place.connection.execute(sql.SQL("drop role {}").format(sql.Identifier(role)))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"password": "wrong"}, "password authentication failed.*user and password"),
        ({"dbname": "never"}, 'database "never" does not exist.*create it'),
        ({"port": "9"}, "refused.*correct host and port"),
        ({"host": "no.such.host.invalid"}, "host"),
    ],
)
async def test_a_wrong_dsn_says_which_part_to_mend(
    place: Place, change: dict[str, str], expected: str
) -> None:
    dsn = make_conninfo(place.source.dsn, **change)
    with pytest.raises(CaptureConfigError, match=f"{expected}.*dsn in ") as raised:
        async with capturing(place, replace(place.source, dsn=dsn)):
            pass
    assert "secret" not in str(raised.value)


async def test_a_dsn_that_is_none_is_named(place: Place) -> None:
    with pytest.raises(CaptureConfigError, match="expected postgresql://"):
        async with capturing(place, replace(place.source, dsn="shop at localhost")):
            pass


async def test_globs_that_match_no_table_are_named(place: Place) -> None:
    with pytest.raises(CaptureConfigError, match=r"no table that matches public\.never"):
        async with capturing(place, replace(place.source, tables=("public.never",))):
            pass


async def _drop_slot(place: Place) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                await place.connection.execute(
                    "select pg_drop_replication_slot(%s)", (place.source.slot,)
                )
            except psycopg.errors.ObjectInUse:
                await asyncio.sleep(0.02)
            else:
                return
