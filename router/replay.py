"""An event that is given to one listener again: how it stands on `rowcast.retry`. Pure.

The record is the event's own, value, key and context, with one header more that names the
listener; so its runs are in the order of its key, and what they leave bears the ids of a retry.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from events.chain import CHAIN_HEADER, TRACEPARENT_HEADER
from events.event import Event
from events.json_codec import encode
from events.outgoing_record import OutgoingRecord

LISTENER_HEADER: Final = "rowcast-listener"


def replay_record(topic: str, listener: str, event: Event, key: bytes | None) -> OutgoingRecord:
    """The record that gives an event to a listener once more."""
    headers = [(LISTENER_HEADER, listener.encode())]
    if event.chain is not None:
        headers.append((CHAIN_HEADER, event.chain.encode()))
    if event.traceparent is not None:
        headers.append((TRACEPARENT_HEADER, event.traceparent.encode()))
    own_key = encode({"key": event.id}) if key is None else key
    return OutgoingRecord(topic, own_key, event.raw, tuple(headers))


def replayed_for(headers: Iterable[tuple[str, bytes | None]]) -> str | None:
    """The listener that a record is for; None where it names none."""
    for name, value in headers:
        if name == LISTENER_HEADER and value is not None:
            return value.decode("utf-8", "replace")
    return None
