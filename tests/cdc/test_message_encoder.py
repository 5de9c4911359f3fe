from __future__ import annotations

import asyncio
import json

import pytest
from psycopg import errors

from cdc.message_encoder import MessageEncoder, MessagePlace
from cdc.pgoutput import LogicalMessage
from cdc.row_encoder import TransactionBytes, envelope_end
from events.event import decode_event
from events.event_type import check_event_type
from events.lsn import Lsn
from tests.cdc.postgres_place import Envelope, Place, capturing

ENCODER = MessageEncoder("shop", "db", "rowcast.events")


def message(prefix: str, content: bytes = b"{}", *, transactional: bool = True) -> LogicalMessage:
    return LogicalMessage(transactional, Lsn(7), prefix, content)


@pytest.mark.parametrize(
    ("content", "data"),
    [
        (b'{"to": 7}', {"to": 7}),
        (b"hello", "hello"),
        (b"", ""),
        (b"1,2", "1,2"),
        (b"],[", "],["),
        (b"\xff\x00", "/wA="),
        (b"1e999", "1e999"),
        (b"[" * 2_000, "[" * 2_000),
    ],
)
def test_any_content_is_an_event(content: bytes, data: object) -> None:
    transaction = TransactionBytes.of("shop", Lsn(16), 5, 1_000)
    place = MessagePlace.inside(transaction, 3, envelope_end(9))
    topic, key, value = ENCODER.record(message("a b", content), place)
    event = decode_event(value)
    assert (topic, key) == ("shop.messages", b'{"prefix":"a b"}')
    assert event.id == "shop/0000000000000010/3"
    assert check_event_type(event.type) == "db.shop.messages.a-x20b.emitted"
    assert (event.body["data"], event.body["prefix"]) == (data, "a b")
    assert event.body["transaction"] == {"id": "5:16", "total_order": 3}


def test_a_message_of_no_transaction_has_the_place_where_it_stands_in_the_log() -> None:
    place = MessagePlace.outside("shop", message("mail", transactional=False), 9)
    event = decode_event(ENCODER.record(message("mail", b"x"), place).value)
    assert event.id == "shop/0000000000000007"
    source = event.body["source"]
    assert isinstance(source, dict)
    assert (source["lsn"], source["txId"], source["name"]) == (7, None, "shop")
    assert (event.body["transaction"], event.body["ts_ms"]) == (None, 9)


@pytest.mark.parametrize(
    ("one", "wanted"),
    [
        (message("mail"), True),
        (message(""), True),
        (message("mail", transactional=False), True),
        (message("rowcast.chain"), False),
        (message("rowcast.snapshot", transactional=False), False),
    ],
)
def test_messages_of_our_own_are_no_events(one: LogicalMessage, wanted: bool) -> None:
    assert ENCODER.wants(one) is wanted


@pytest.mark.anyio
@pytest.mark.integration
async def test_a_message_is_an_event_in_order_with_the_rows_of_its_transaction(
    place: Place,
) -> None:
    await place.run("create table orders (id int primary key)")
    async with capturing(place):
        async with place.connection.transaction():
            await place.run("insert into orders values (1)")
            await place.run("""select pg_logical_emit_message(true, 'mail', '{"to": 7}')""")
            await place.run("insert into orders values (2)")
        await place.run("begin", "select pg_logical_emit_message(true, 'mail', 'x')", "rollback")
        await place.run("select pg_logical_emit_message(true, '', 'alone')")
        rows = await place.until("orders", 2)
        while len(records := await place.read_topic(f"{place.source.name}.messages")) < 2:
            assert not place.captures[-1].done()
    said = sorted((json.loads(record.value or b"") for record in records), key=lambda m: m["id"])
    orders = [body["transaction"]["total_order"] for body in (*rows, said[0])]
    assert orders == [1, 3, 2]
    assert said[0]["transaction"]["id"] == rows[0]["transaction"]["id"]
    assert [body["data"] for body in said] == [{"to": 7}, "alone"]
    # A restart says nothing again.
    async with capturing(place):
        await place.run("insert into orders values (3)")
        await place.until("orders", 3)
    assert len(await place.read_topic(f"{place.source.name}.messages")) == 2


@pytest.mark.anyio
@pytest.mark.integration
async def test_messages_of_no_transaction_are_events_once_in_order_with_commits(
    place: Place,
) -> None:
    await place.run("create table orders (id int primary key)")
    say = "select pg_logical_emit_message(false, 'read', %s::text)"

    async def said() -> list[Envelope]:
        records = await place.read_topic(f"{place.source.name}.messages")
        bodies = [json.loads(record.value or b"") for record in records]
        return sorted(bodies, key=lambda body: body["source"]["lsn"])

    for start in range(1, 31, 10):
        async with capturing(place):
            for number in range(start, start + 10):
                await place.connection.execute(say, (str(number),))
                await place.run("begin")
                await place.connection.execute("insert into orders values (%s)", (number,))
                await place.connection.execute(say, (str(number),))
                # What a transaction wrote that is rolled back was said all the same.
                await place.run("commit" if number % 2 else "rollback")
            # The log is flushed with a commit at the latest.
            await place.run("select pg_current_xact_id()")
            async with asyncio.timeout(30):
                while len(await said()) < 2 * (start + 9):
                    assert not place.captures[-1].done()
                    await asyncio.sleep(0.05)
    bodies = await said()
    assert [body["data"] for body in bodies] == [n for n in range(1, 31) for _ in range(2)]
    assert len({body["id"] for body in bodies}) == 60
    assert all(body["transaction"] is None for body in bodies)
    rows = await place.until("orders", 15)
    # Those said inside end before the commit record begins, the next outside ends after it.
    positions = [body["source"]["lsn"] for body in bodies]
    for row in rows:
        inside, after = 2 * row["after"]["id"] - 1, 2 * row["after"]["id"]
        assert positions[inside] <= row["source"]["lsn"] < [*positions, 1 << 64][after]


def test_what_rowcast_emit_did_not_write_is_a_message_like_any_other() -> None:
    place = MessagePlace.inside(TransactionBytes.of("shop", Lsn(16), 5, 1_000), 3, envelope_end(9))
    for content in (b"", b"{}", b'{"type":"system.gap"}\n{}', b"\xff", b'{"type":7}\n1'):
        record = ENCODER.record(message("rowcast.emit", content), place)
        assert record.topic == "shop.messages"
        assert decode_event(record.value).type == "db.shop.messages.rowcast-x2Eemit.emitted"
    record = ENCODER.record(message("rowcast.emit", b'{"type":"custom.x"}\nnot json'), place)
    assert decode_event(record.value).body["data"] == "not json"


@pytest.mark.anyio
@pytest.mark.integration
async def test_rowcast_emit_is_a_custom_event_exactly_if_its_transaction_commits(
    place: Place,
) -> None:
    await place.run("create table orders (id int primary key)")
    async with capturing(place):
        await place.run("insert into orders values (1)")
        await place.until("orders", 1)
        await place.run(
            "begin",
            "select rowcast.emit('custom.never')",
            "rollback",
            """select rowcast.emit('custom.paid', '{"n": 12.50, "t": "ä"}', 'k')""",
        )
        for refused in ("system.gap", "custom", "custom.a b", "custom.x\n", None):
            with pytest.raises(errors.InvalidParameterValue, match=r"custom\.<name>"):
                await place.connection.execute("select rowcast.emit(%s)", (refused,))
        topic = place.cluster.topics.events
        async with asyncio.timeout(30):
            while not (records := await place.read_topic(topic)):
                assert not place.captures[-1].done()
    (record,) = records
    body = json.loads(record.value or b"", parse_float=str)
    assert record.key == b'{"key":"k"}'
    assert (body["type"], body["data"]) == ("custom.paid", {"n": "12.50", "t": "ä"})
    assert body["id"].startswith(f"{place.source.name}/")
    assert body["source"]["name"] == place.source.name
