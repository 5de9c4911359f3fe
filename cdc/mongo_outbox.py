"""The outbox: a document inserted into `rowcast_outbox` is a custom event, as SQL's `rowcast.emit`.

`{type: "custom.paid", data: {...}, key: "..."}` becomes an event if its transaction commits, in
order with the documents around it. `chain: {root, path}` and `traceparent` become its headers, for
writers that carry on what an event caused. What happens to the document later (a clean-up by TTL,
a delete) says nothing. A document that is no event becomes `system.outbox_refused`, which says
why: any client may write one, so it must not stop capture. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from bson.errors import InvalidBSON

from cdc import mongo_bson
from cdc.mongo_bson import Field
from cdc.mongo_extended_json import extended_json
from cdc.mongo_outbox_validator import KEY_CHARS_MAX
from events.chain import CHAIN_HEADER, TRACEPARENT_HEADER, Chain
from events.errors import EventsError, InvalidDataError
from events.event import Headers
from events.event_schema import EventSchemas
from events.event_type import check_custom_type
from events.json_codec import JsonObject, decode, encode, encode_key
from events.traceparent import is_traceparent

OUTBOX_COLLECTION: Final = "rowcast_outbox"
REFUSED_TYPE: Final = "system.outbox_refused"

_EXPECTED: Final = '{type: "custom.<name>", data: <anything>, key: "<text>"}'
_DATA_FIELD: Final = b'{"data":'
_SHOWN_BYTES: Final = 4_096


class OutboxError(Exception):
    """A document that is no event; `path` says where."""

    def __init__(self, problem: str, path: str = "$") -> None:
        super().__init__(problem)
        self.problem = problem
        self.path = path


@dataclass(frozen=True, slots=True)
class OutboxEvent:
    """What a record is made of: the event's type, its key, the JSON of its data, and headers."""

    type: str
    key: bytes
    data: bytes
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class Outbox:
    """Reads documents; `largest_data_bytes` is what fits into a record with all around it."""

    source: str
    largest_data_bytes: int
    schemas: EventSchemas = field(default_factory=EventSchemas)

    def event(self, document: bytes, document_key: bytes) -> OutboxEvent:
        """The event of an inserted document, or the one that says why it is none."""
        try:
            return self._read(document)
        except (OutboxError, InvalidBSON) as error:
            path = error.path if isinstance(error, OutboxError) else "$"
            return self._refusal(str(error), path, document, document_key)

    def _read(self, document: bytes) -> OutboxEvent:
        fields = mongo_bson.fields(document)
        event_type = _string(document, fields.get(b"type"), "type")
        if event_type is None:
            raise OutboxError(f"found no `type`, expected {_EXPECTED}", "$.type")
        headers = _headers(document, fields)
        key = _string(document, fields.get(b"key"), "key")
        if key is not None and len(key) > KEY_CHARS_MAX:
            raise OutboxError(f"found a key of {len(key):,} characters", "$.key")
        data = _data(document, fields.get(b"data"))
        if len(data) > self.largest_data_bytes:
            raise OutboxError(f"found data of {len(data):,} bytes, more than Kafka takes", "$.data")
        try:
            check_custom_type(event_type)
            if self.schemas.has(event_type):
                self.schemas.check(event_type, decode(data))
        except InvalidDataError as error:
            raise OutboxError(str(error), f"$.data{error.path.removeprefix('$')}") from error
        except EventsError as error:
            raise OutboxError(str(error), "$.type") from error
        return OutboxEvent(event_type, encode_key({"key": key or event_type}), data, headers)

    def _refusal(
        self, problem: str, path: str, document: bytes, document_key: bytes
    ) -> OutboxEvent:
        shown = extended_json(document)
        told: JsonObject = {
            "source": self.source,
            "collection": OUTBOX_COLLECTION,
            "key": decode(extended_json(document_key)),
            "problem": problem,
            "path": path,
            "expected": _EXPECTED,
            "document": decode(shown) if len(shown) <= _SHOWN_BYTES else None,
        }
        return OutboxEvent(REFUSED_TYPE, encode_key({"key": self.source}), encode(told))


def _string(document: bytes, at: Field | None, name: str) -> str | None:
    if at is None or at.kind == mongo_bson.NULL:
        return None
    if at.kind != mongo_bson.STRING:
        raise OutboxError(f"found another type than a string as `{name}`", f"$.{name}")
    try:
        return mongo_bson.text(document, at)
    except UnicodeDecodeError as error:
        raise OutboxError(f"found `{name}` that is not UTF-8", f"$.{name}") from error


def _headers(document: bytes, fields: Mapping[bytes, Field]) -> Headers:
    found: list[tuple[str, bytes]] = []
    chain = fields.get(b"chain")
    if chain is not None and chain.kind != mongo_bson.NULL:
        try:
            said = mongo_bson.document(document, chain) or b""
            found.append((CHAIN_HEADER, Chain.decode(extended_json(said)).encode()))
        except (EventsError, InvalidBSON) as error:
            raise OutboxError(str(error), "$.chain") from error
    parent = _string(document, fields.get(b"traceparent"), "traceparent")
    if parent is not None:
        if not is_traceparent(parent):
            raise OutboxError(f"found {parent[:100]!r}, expected a traceparent", "$.traceparent")
        found.append((TRACEPARENT_HEADER, parent.encode()))
    return tuple(found)


def _data(document: bytes, at: Field | None) -> bytes:
    """Any value as relaxed Extended JSON; an empty object where there is none, as in SQL."""
    if at is None:
        return b"{}"
    whole = mongo_bson.compose({b"data": mongo_bson.element(document, at)})
    return extended_json(whole)[len(_DATA_FIELD) : -1]
