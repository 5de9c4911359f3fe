from __future__ import annotations

import json

import pytest

from events.json_codec import JsonObject
from push.conditions import Conditions
from push.pushed_event import PushedEvent, concerns, pushed_event

PAID = Conditions.parse(None, {"status": "paid"})


def event(
    body: JsonObject, key: bytes | None = b'{"id":7}', event_type: str = "db.shop.public.orders.x"
) -> PushedEvent:
    whole = {"id": "e", "type": event_type, **body}
    made = pushed_event(("t", 0), 5, key, json.dumps(whole).encode())
    assert made is not None
    return made


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (None, {"status": "paid"}, "row"),
        (None, {"status": "new"}, None),
        ({"status": "new"}, {"status": "paid"}, "row"),
        ({"status": "paid"}, {"status": "paid"}, "row"),
        ({"status": "paid"}, {"status": "sent"}, "left"),
        ({"id": 7}, {"status": "sent"}, None),
        ({"status": "paid"}, None, "row"),
        ({"status": "new"}, None, None),
        ({"id": 7}, None, None),
    ],
)
def test_a_row_that_fulfils_conditions_or_leaves_them_concerns_them(
    before: JsonObject | None, after: JsonObject | None, expected: str | None
) -> None:
    assert concerns(PAID, event({"before": before, "after": after})) == expected


def test_a_column_that_was_not_sent_is_as_it_was() -> None:
    body: JsonObject = {"before": {"id": 7, "status": "paid"}, "after": {"id": 7}}
    assert concerns(PAID, event({**body, "unavailable": ["status"]})) == "row"
    assert concerns(PAID, event({**body, "unavailable": ["*"]})) == "left"


def test_truncation_concerns_every_condition_and_a_message_that_looks_like_it_does_not() -> None:
    body: JsonObject = {"op": "t", "before": None, "after": None}
    assert concerns(PAID, event(body)) == "row"
    assert concerns(PAID, event({"op": "t", "data": {}}, event_type="push.x")) is None


def test_conditions_of_a_message_are_held_against_its_data() -> None:
    message = event({"data": {"status": "paid"}}, event_type="push.orders")
    assert concerns(PAID, message) == "row"
    assert concerns(PAID, event({"data": "paid"}, event_type="push.orders")) is None


def test_the_key_is_the_records_own() -> None:
    seven = Conditions.parse({"id": 7}, None)
    assert concerns(seven, event({"before": {"id": 7}, "after": None})) == "row"
    assert concerns(seven, event({"after": {"id": 7}}, key=b'{"id":8}')) is None
    assert concerns(seven, event({"after": {"id": 7}}, key=None)) is None
    assert concerns(seven, event({"after": {"id": 7}}, key=b"not json")) is None


@pytest.mark.parametrize("value", [None, b"", b"7", b"{", b"{}", b'{"id":1,"type":"x"}'])
def test_a_record_that_is_no_event_is_left_out(value: bytes | None) -> None:
    assert pushed_event(("t", 0), 5, None, value) is None


def test_a_record_of_connect_json_is_seen_as_one_of_the_plain_format() -> None:
    fields = b'[{"type":"int32","optional":true,"name":"io.debezium.time.Date","field":"day"}]'
    row = b'{"type":"struct","fields":%b,"optional":true,"field":"after"}' % fields
    value = (
        b'{"schema":{"type":"struct","fields":[%b]},"payload":'
        b'{"id":"e","type":"db.shop.public.days.created","after":{"day":20416}}}' % row
    )
    key = b'{"schema":{"type":"struct","fields":%b},"payload":{"day":20416}}' % fields
    made = pushed_event(("t", 0), 5, key, value)
    assert made is not None
    assert made.key == {"day": "2025-11-24"}
    assert made.body["after"] == {"day": "2025-11-24"}
    assert json.loads(made.raw) == made.body
