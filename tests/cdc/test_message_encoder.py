from __future__ import annotations

import json

import pytest

from cdc.message_encoder import MessageEncoder
from cdc.pgoutput import LogicalMessage
from cdc.row_encoder import TransactionBytes, envelope_end
from events.event import decode_event
from events.event_type import check_event_type
from events.lsn import Lsn
from tests.cdc.postgres_place import Place, capturing

ENCODER = MessageEncoder("shop", "db")


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
    change = ENCODER.change(message("a b", content), 3, transaction, envelope_end(9))
    event = decode_event(change.value)
    assert event.id == "shop/0000000000000010/3"
    assert check_event_type(event.type) == "db.shop.messages.a-x20b.emitted"
    assert (event.body["data"], event.body["prefix"]) == (data, "a b")
    assert change.key == b'{"prefix":"a b"}'


@pytest.mark.parametrize(
    ("one", "wanted"),
    [
        (message("mail"), True),
        (message(""), True),
        (message("mail", transactional=False), False),
        (message("rowcast.chain"), False),
    ],
)
def test_messages_of_our_own_and_outside_of_transactions_are_none(
    one: LogicalMessage, wanted: bool
) -> None:
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
