"""An event as registrations see it: its type, its record's key, the row it tells of. Pure.

Of a change the row is `after`, with columns that the database did not send filled from `before`;
of every other event it is `data`. The old row is `before`, as far as the database sent it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

from events.connect_json import plain_key
from events.errors import EventFormatError
from events.event import decode_event
from events.json_codec import JsonObject, decode_object
from push.conditions import Conditions
from push.positions import Partition

Concern: TypeAlias = Literal["row", "left"]
"""`row`: the row fulfils the conditions, or did until it was deleted; `left`: it no longer does."""

_TRUNCATED = "t"


@dataclass(frozen=True)
class PushedEvent:
    """A record of Kafka that is an event. `raw` is its value, untouched."""

    topic: str
    partition: int
    offset: int
    type: str
    key: JsonObject
    body: JsonObject
    raw: bytes

    @property
    def place(self) -> Partition:
        """The partition it stands in."""
        return self.topic, self.partition

    @cached_property
    def is_truncation(self) -> bool:
        """Whether it tells of all rows of a table, and so concerns every condition."""
        return self.body.get("op") == _TRUNCATED and self.type.startswith("db.")

    @cached_property
    def rows(self) -> tuple[tuple[JsonObject, Concern], ...]:
        """The rows to hold against conditions, and what it means where the first holds."""
        before, after = self.body.get("before"), self.body.get("after", self.body.get("data"))
        old = before if isinstance(before, dict) else None
        if not isinstance(after, dict):
            return ((old or {}, "row"),)
        if old is None:
            return ((after, "row"),)
        return ((self._filled(after, old), "row"), (old, "left"))

    def _filled(self, after: JsonObject, old: JsonObject) -> JsonObject:
        """The new row, with what the database did not send because it is as it was."""
        unavailable = self.body.get("unavailable")
        if not isinstance(unavailable, list) or not unavailable:
            return after
        kept = [name for name in unavailable if isinstance(name, str) and name in old]
        return {**{name: old[name] for name in kept}, **after}


def pushed_event(
    place: Partition, offset: int, key: bytes | None, value: bytes | None
) -> PushedEvent | None:
    """The event of a record; None for a record that is none, such as a tombstone."""
    if value is None:
        return None
    try:
        event = decode_event(value)
    except EventFormatError:
        return None
    try:
        key_object = decode_object(plain_key(key or b"{}"))
    except ValueError:
        key_object = {}
    return PushedEvent(*place, offset, event.type, key_object, event.body, event.raw)


def concerns(conditions: Conditions, event: PushedEvent) -> Concern | None:
    """How an event concerns conditions, None for another row; what the index keeps to."""
    if event.is_truncation:
        return "row"
    for row, concern in event.rows:
        if conditions.hold(event.key, row):
            return concern
    return None
