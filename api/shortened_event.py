"""Events that are too large for Kafka are made to fit, and say what was left out. Pure.

An event must not be lost for its size, nor stop those behind it. What stays is never read as
numbers or text, so that it stays as it was written.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import msgspec

from events.event import OutgoingEvent
from events.json_codec import encode

EVENT_BYTES_MAX: Final = 900_000
"""Of an event of ours: fits into a record of Kafka's usual size (1,048,588 bytes)."""

_KEPT: Final = frozenset(("id", "type", "call", "ts_ms", "caller", "who", "outcome", "status"))
_NULL: Final = msgspec.Raw(b"null")
_KEY_BYTES_MAX: Final = 4_096


class _Mark(msgspec.Struct):
    """What `shortened` holds: the size of the whole event, and the fields that are null now."""

    bytes: int
    left_out: list[str]


def event_bytes(event: OutgoingEvent) -> int:
    """What of a record's size is the event's."""
    headers = sum(len(name) + len(value) for name, value in event.headers)
    return len(event.key) + len(event.value) + headers


def fitting(event: OutgoingEvent, bytes_max: int = EVENT_BYTES_MAX) -> OutgoingEvent:
    """The event itself where it is small enough, else without its largest fields.

    Those are null then, and `shortened` says which, and how large the event was. Where nothing
    more can be left out it stays larger than `bytes_max`.
    """
    size = event_bytes(event)
    if size <= bytes_max:
        return event
    fields = msgspec.json.decode(event.value, type=dict[str, msgspec.Raw])
    mark = _Mark(size, [])
    if "shortened" in fields:
        mark = msgspec.json.decode(fields.pop("shortened"), type=_Mark)
    shorter = event
    if len(event.key) > _KEY_BYTES_MAX:
        # The key of one row that is as large as this; the event goes where those of many rows do.
        shorter = replace(event, key=encode({"key": event.id}))
    while True:
        value = msgspec.json.encode({**fields, "shortened": mark})
        shorter = replace(shorter, value=value)
        sizes = {
            name: len(bytes(text))
            for name, text in fields.items()
            if name not in _KEPT and len(bytes(text)) > len(b"false")
        }
        if event_bytes(shorter) <= bytes_max or not sizes:
            return shorter
        largest = max(sizes, key=lambda name: sizes[name])
        fields[largest] = _NULL
        mark.left_out.append(largest)
        if largest == "keys" and "keys_complete" in fields:
            fields["keys_complete"] = msgspec.Raw(b"false")
