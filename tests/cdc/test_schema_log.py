from __future__ import annotations

from cdc.schema_log import SchemaLog, told_looks
from events.json_codec import JsonObject
from events.lsn import Lsn


def look(table: str, *columns: str) -> JsonObject:
    return {"schema": "public", "table": table, "columns": list(columns)}


def test_a_look_is_told_once_and_again_only_when_it_is_another() -> None:
    log = SchemaLog("rowcast.schema", "shop", {})
    first = log.tell(1, look("a", "x"), Lsn(16), 1, 5)
    assert first is not None
    assert first.id == "shop/0000000000000010/1/schema"
    assert log.tell(1, look("a", "x"), Lsn(32), 1, 5) is None
    second = log.tell(1, look("a", "x", "y"), Lsn(48), 3, 5)
    assert second is not None
    known = told_looks("shop", [first.value, second.value])
    assert known == {1: look("a", "x", "y")}
    assert SchemaLog("rowcast.schema", "shop", known).tell(1, known[1], Lsn(64), 1, 5) is None


def test_the_last_look_counts_whichever_partition_it_is_read_from() -> None:
    log = SchemaLog("rowcast.schema", "shop", {})
    values = [
        event.value
        for event in (
            log.tell(1, look("a"), Lsn(16), 1, 5),
            log.tell(1, look("b"), Lsn(16), 10, 5),
            log.tell(1, look("c"), Lsn(16), 9, 5),
        )
        if event is not None
    ]
    for order in ((0, 1, 2), (2, 1, 0), (1, 0, 2)):
        assert told_looks("shop", [values[number] for number in order])[1] == look("b")


def test_other_sources_and_what_is_no_such_event_are_passed_over() -> None:
    event = SchemaLog("t", "other", {}).tell(1, look("a"), Lsn(1), 1, 5)
    assert event is not None
    assert told_looks("shop", [event.value, b"", b"[]", b'{"data":{"source":"shop"}}']) == {}
