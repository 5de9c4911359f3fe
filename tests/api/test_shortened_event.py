"""Large keys and events: cut between keys, shortened with a mark, never in the way of others."""

from __future__ import annotations

from pathlib import Path

import msgspec
import orjson
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from api.api_event import KEYS_BYTES_MAX, ApiCall
from api.call_journal import CallJournal
from api.errors import EventTooLargeError
from api.read_event import read_events
from api.shortened_event import EVENT_BYTES_MAX, event_bytes, fitting
from api.table_read import ReadPlace, TableRead
from cdc.topic_reading import read_to_end
from events.cluster import Cluster
from events.event import OutgoingEvent
from events.json_codec import JsonObject, decode_object, encode

pytestmark = pytest.mark.anyio

EXACT = b"123456789012345678901234567890.5"


def call(keys: bytes | None) -> ApiCall:
    return ApiCall("api_1", "api.x", "GET", "/x", 0, keys=keys)


def event(number: int, size: int = 10) -> OutgoingEvent:
    value = encode({"id": f"e{number}", "type": "api.x", "data": "x" * size})
    return OutgoingEvent(f"e{number}", "api.x", b'{"key":1}', value, ())


def test_keys_are_cut_between_them_whatever_their_text_holds() -> None:
    one = rb'{"a":"},{\"},{","n":' + EXACT + b"}"
    few = call(b",".join([one] * 3)).event("ok", 200, 1)
    assert few.value.endswith(b'"keys":[' + b",".join([one] * 3) + b"]}")
    assert decode_object(few.value)["keys_complete"] is True
    for length in range(60):
        many = call(b'{"a":"' + b"y" * length + b'"},' + b",".join([one] * 10_000))
        made = many.event("ok", 200, 1)
        body = msgspec.json.decode(made.value, type=dict[str, msgspec.Raw])
        keys = msgspec.json.decode(body["keys"], type=list[msgspec.Raw])
        assert {bytes(key) for key in keys[1:]} == {one}
        assert KEYS_BYTES_MAX - 2 * len(one) < len(bytes(body["keys"])) <= KEYS_BYTES_MAX + 2
        assert bytes(body["keys_complete"]) == b"false"
    alone = call(b'{"a":"' + b"x" * KEYS_BYTES_MAX + b'"}').event("ok", 200, 1)
    assert decode_object(alone.value)["keys"] == []


def test_an_event_is_shortened_by_its_largest_fields_and_says_so() -> None:
    large = call(b'{"n":' + EXACT + b"}")
    large.more = {"request": {"body": "r" * 500_000}, "response": {"body": "s" * 600_000}}
    made = large.event("ok", 200, 1)
    body = decode_object(made.value)
    assert (body["response"], body["call"], body["outcome"]) == (None, "api_1", "ok")
    assert body["request"] == large.more["request"]
    assert EXACT in made.value
    assert body["shortened"] == {
        "bytes": pytest.approx(1_100_400, abs=200),
        "left_out": ["response"],
    }
    again = decode_object(fitting(made, 1_000).value)
    assert again["shortened"] == {
        "bytes": body["shortened"]["bytes"],  # type: ignore[index]
        "left_out": ["response", "request"],
    }
    assert fitting(event(1)) == event(1)
    smallest = fitting(event(1, 100), 10)
    assert decode_object(smallest.value)["shortened"]


@pytest.mark.parametrize("size", [1, 2_000, KEYS_BYTES_MAX + 1, EVENT_BYTES_MAX])
def test_reads_of_rows_with_large_keys_are_told_in_parts_that_fit(size: int) -> None:
    rows = 3 if size > KEYS_BYTES_MAX else 6_000 if size == 1 else 600
    keys = [encode({"n": n, "key": "},{" * (size // 3)}) for n in range(rows)]
    asked = call(None)
    place = ReadPlace("postgresql", "shop", "shop", "public", "t")
    asked.reads = (TableRead(place, rows, b",".join(keys)),)
    made = [one for _, one in read_events(asked, 0)]
    assert all(event_bytes(one) <= EVENT_BYTES_MAX for one in made)
    bodies = [orjson.loads(one.value) for one in made]
    assert sum(body["rows"] for body in bodies) == rows
    if size < EVENT_BYTES_MAX:
        assert [key["n"] for body in bodies for key in body["keys"]] == list(range(rows))
    else:
        assert all("keys" in body["shortened"]["left_out"] for body in bodies)


@pytest.mark.integration
async def test_an_event_that_its_topic_does_not_take_is_shortened_or_refused_and_the_rest_is_sent(
    kafka_bootstrap: str, tmp_path: Path
) -> None:
    topic = tmp_path.name.replace("_", "-")
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_bootstrap)
    await admin.start()
    small = {"max.message.bytes": "20000"}
    await admin.create_topics([NewTopic(topic, 1, 1, topic_configs=small)])
    await admin.close()
    journal = CallJournal(Cluster(kafka_bootstrap), topic, durable_s=30)
    await journal.start()
    try:
        journal.note(event(0))
        journal.note(event(1, 50_000))
        # Together larger than the topic takes, each of them not.
        for number in range(2, 12):
            journal.note(event(number, 5_000))
        await journal.record(event(12, 30_000), event(12))
        with pytest.raises(EventTooLargeError, match=r"max\.message\.bytes"):
            await journal.record_all([event(13), event(14, 40_000), event(15)])
        await journal.record_all([event(16)])
    finally:
        await journal.close()
    found: dict[str, JsonObject] = {}
    for record in await read_to_end(Cluster(kafka_bootstrap), topic, 1):
        body = decode_object(record.value or b"")
        found[str(body["id"])] = body
    assert list(found) == [f"e{number}" for number in range(17) if number != 14]
    assert {name for name, one in found.items() if "shortened" in one} == {"e1", "e12"}
    assert found["e1"]["shortened"] == {
        "bytes": event_bytes(event(1, 50_000)),
        "left_out": ["data"],
    }
