"""An event as it stands on Kafka, and the making of custom and system events.

The value is one JSON object with at least `id` and `type`; headers carry context only. Changes
are written by cdc/ straight to bytes; this module reads them back and writes all the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from events.chain import CHAIN_HEADER, TRACEPARENT_HEADER, Chain
from events.connect_json import plain_value
from events.errors import EventFormatError
from events.event_type import check_event_type
from events.json_codec import JsonObject, JsonValue, decode_object, encode

Headers = tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Event:
    """A decoded event. `body` is the whole JSON object, `raw` its bytes, in the plain format."""

    id: str
    type: str
    body: JsonObject
    raw: bytes
    chain: Chain | None = None
    traceparent: str | None = None

    @property
    def own_chain(self) -> Chain:
        """The chain it carries, or the one that begins with it."""
        return self.chain or Chain(self.id)


@dataclass(frozen=True, slots=True)
class OutgoingEvent:
    """An event on its way to Kafka: key and value in JSON, headers ready."""

    id: str
    type: str
    key: bytes
    value: bytes
    headers: Headers


def decode_event(value: bytes, headers: Iterable[tuple[str, bytes | None]] = ()) -> Event:
    """The event that a record holds; Kafka allows a header without a value.

    Raises EventFormatError where the value is no event.
    """
    try:
        value = plain_value(value)
        body = decode_object(value)
    except ValueError as error:
        raise EventFormatError(f"the value is not a JSON object: {error}") from error
    event_id, event_type = body.get("id"), body.get("type")
    if not isinstance(event_id, str) or not isinstance(event_type, str):
        raise EventFormatError(
            f"found the fields {sorted(body)[:20]}, expected the strings 'id' and 'type' among them"
        )
    chain: Chain | None = None
    traceparent: str | None = None
    for name, header in headers:
        if header is None:
            continue
        if name == CHAIN_HEADER:
            chain = Chain.decode(header)
        elif name == TRACEPARENT_HEADER:
            traceparent = header.decode("ascii", "replace")
    return Event(event_id, event_type, body, value, chain, traceparent)


def make_event(  # noqa: PLR0913 - the fields of one record, all by name
    *,
    event_id: str,
    event_type: str,
    data: JsonValue,
    ts_ms: int,
    key: str | None = None,
    chain: Chain | None = None,
    traceparent: str | None = None,
    cause: JsonObject | None = None,
) -> OutgoingEvent:
    """A custom, system or push event.

    Parameters: `key` decides the partition and so the order, the event's own id where None;
    `cause` names the event and listener it was emitted from. Raises InvalidNameError for a bad
    type and TypeError for data that JSON cannot hold.
    """
    check_event_type(event_type)
    body: JsonObject = {"id": event_id, "type": event_type, "data": data, "ts_ms": ts_ms}
    if cause is not None:
        body["cause"] = cause
    headers: list[tuple[str, bytes]] = []
    if chain is not None:
        headers.append((CHAIN_HEADER, chain.encode()))
    if traceparent is not None:
        headers.append((TRACEPARENT_HEADER, traceparent.encode()))
    key_bytes = encode({"key": key if key is not None else event_id})
    return OutgoingEvent(event_id, event_type, key_bytes, encode(body), tuple(headers))
