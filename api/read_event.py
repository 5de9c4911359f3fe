"""The events of the rows in a call's answer, on the tables' `.reads` topics. Pure.

One event a table and call, with the keys of all its rows: an event a row would cost more than the
read itself. A table whose row policy tells of the same rows is left to that (docs/read-audit.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, TypeAlias

import orjson

from api.api_event import KEYS_BYTES_MAX, ApiCall
from api.key_list import split_keys
from api.shortened_event import fitting
from api.table_read import ReadPlace, TableRead
from events.event import OutgoingEvent
from events.event_type import read_type
from events.json_codec import JsonObject, encode
from events.topic import reads_topic

TopicEvent: TypeAlias = tuple[str, OutgoingEvent]

KEYS_MAX: Final = 5_000
"""Keys that one event holds; a call that read more rows has more events."""


def read_events(call: ApiCall, now_ms: int) -> list[TopicEvent]:
    """The events of a call's reads, each with its topic."""
    found: list[TopicEvent] = []
    for read in call.reads:
        if read.rows == 0:
            continue
        for rows, keys in _parts(read):
            found.append(_event(call, read.place, rows, keys, len(found) + 1, now_ms))
    return found


def _parts(read: TableRead) -> Sequence[tuple[int, bytes | None]]:
    if read.keys is None or (read.rows <= KEYS_MAX and len(read.keys) <= KEYS_BYTES_MAX):
        return [(read.rows, read.keys)]
    return [*split_keys(read.keys, KEYS_MAX, KEYS_BYTES_MAX)]


def _event(
    call: ApiCall, place: ReadPlace, rows: int, keys: bytes | None, number: int, now_ms: int
) -> TopicEvent:
    topic, event_type, source = _constants(place)
    event_id = f"{call.id}/{number}"
    caller = call.caller
    who: JsonObject = {
        "user": None,
        "role": caller.role if caller else None,
        "application": "rowcast api",
        "client": caller.address if caller else None,
        "subject": (caller.subject or None) if caller else None,
        "pid": None,
    }
    body: JsonObject = {
        "id": event_id,
        "type": event_type,
        "op": "read",
        "read": {"by": "data-api", "exact": "row" if keys is not None else "statement"},
        "who": who,
        "call": call.id,
        "rows": rows,
    }
    one = keys if rows == 1 and keys is not None else None
    value = b"".join(
        (
            *(orjson.dumps(body)[:-1], b',"key":', one or b"null"),
            *(b',"keys":', b"null" if keys is None else b"[" + keys + b"]"),
            *(b',"source":', source, b',"ts_ms":%d}' % call.begun_ms),
            b',"transaction":null,"ts_ms":%d}' % now_ms,
        )
    )
    record_key = one if one is not None else encode({"key": event_id})
    made = OutgoingEvent(event_id, event_type, record_key, value, call.headers())
    return topic, fitting(made)


@lru_cache(maxsize=4_096)
def _constants(place: ReadPlace) -> tuple[str, str, bytes]:
    """Topic, type, and all of `source` but its time, which is last."""
    source: JsonObject = {
        "connector": place.connector,
        "name": place.source,
        "db": place.database,
        "schema": place.schema,
        "table": place.table,
        "lsn": None,
        "txId": None,
        "snapshot": "false",
    }
    if place.connector == "mongodb":
        source = {
            "connector": "mongodb",
            "name": place.source,
            "db": place.database,
            "schema": place.schema,
            "table": place.table,
            "collection": place.table,
            "snapshot": "false",
        }
    names = (place.source, place.schema, place.table)
    return reads_topic(*names), read_type(*names), orjson.dumps(source)[:-1]
