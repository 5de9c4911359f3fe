"""One change event of MongoDB as the value of a record (design.md, section 2).

Pure: the event's BSON in, JSON bytes out. The documents inside are encoded from their bytes and
never become Python objects. What the server did not send is said (`unavailable`, `changed` null)
and never guessed. https://www.mongodb.com/docs/v6.0/reference/change-events/
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bson.errors import InvalidBSON

from cdc import mongo_bson
from cdc.mongo_bson import Field
from cdc.mongo_extended_json import extended_json
from cdc.mongo_namespace import CollectionEnvelope
from events.json_codec import encode


@dataclass(slots=True)
class ChangeEvent:
    """A change event: its bytes and where its fields lie in them."""

    data: bytes
    fields: Mapping[bytes, Field]

    @classmethod
    def of(cls, data: bytes) -> ChangeEvent:
        """Raises InvalidBSON where the bytes are no document."""
        return cls(data, mongo_bson.fields(data))

    def required(self, name: bytes) -> Field:
        """A field that every event of its kind has."""
        field = self.fields.get(name)
        if field is None:
            raise InvalidBSON(f"found a change event without {name.decode()}: {self.data[:200]!r}")
        return field

    def document(self, name: bytes) -> bytes | None:
        """A document inside, None where it is absent or null."""
        return mongo_bson.document(self.data, self.fields.get(name))

    @property
    def operation(self) -> str:
        """`insert`, `update`, `replace`, `delete`, or what else there is."""
        return mongo_bson.text(self.data, self.required(b"operationType"))

    @property
    def token(self) -> bytes:
        """The resume token, a BSON document."""
        field = self.required(b"_id")
        return self.data[field.start : field.stop]

    @property
    def cluster_time(self) -> tuple[int, int]:
        """The time of the commit: seconds since 1970 and a count within the second."""
        return mongo_bson.timestamp(self.data, self.required(b"clusterTime"))

    @property
    def wall_time_ms(self) -> int:
        """Milliseconds since 1970 at which the server made the change."""
        field = self.fields.get(b"wallTime")
        if field is None:
            return self.cluster_time[0] * 1000
        return mongo_bson.integer(self.data, field)

    @property
    def transaction(self) -> str | None:
        """`<session>:<number>` of the multi-document transaction it belongs to."""
        number, session = self.fields.get(b"txnNumber"), self.document(b"lsid")
        if number is None or session is None:
            return None
        identity = mongo_bson.fields(session).get(b"id")
        if identity is None:
            return None
        # Binary: 4 bytes of length, the subtype, then the 16 bytes of the UUID.
        session_id = uuid.UUID(bytes=session[identity.start + 5 : identity.stop])
        return f"{session_id}:{mongo_bson.integer(self.data, number)}"


def change_value(  # noqa: PLR0913 - what an envelope is made of, all by name
    event: ChangeEvent,
    envelope: CollectionEnvelope,
    *,
    event_id: str,
    increment: int,
    transaction: str | None,
    ordinal: int,
    document_key: bytes,
    now_ms: int,
    images: bool = True,
) -> bytes:
    """The JSON of a document's change.

    Parameters: `now_ms` is when it was captured; without `images` only the document's key is
    told of it, for what would be too large for Kafka. Raises InvalidBSON for an event that is
    not as documented.
    """
    operation = event.operation
    before = event.document(b"fullDocumentBeforeChange") if images else None
    after = event.document(b"fullDocument") if images else None
    changed, unavailable = b"null", b"[]"
    match operation:
        case "delete":
            before = before or document_key
        case "update":
            description = UpdateDescription.of(event)
            changed = encode(description.changed)
            if after is None:
                unavailable = b'["*"]'
                after = description.known_fields(document_key) if images else document_key
        case _ if after is None:
            unavailable, after = b'["*"]', document_key
        case "replace" if before is not None:
            changed = encode(_differing(before, after))
        case _:
            pass
    return b"".join(
        (
            b'{"id":',
            encode(event_id),
            envelope.kinds[operation],
            b',"before":',
            b"null" if before is None else extended_json(before),
            b',"after":',
            b"null" if after is None else extended_json(after),
            b',"changed":',
            changed,
            b',"unavailable":',
            unavailable,
            envelope.source_head,
            _envelope_end(event, increment, transaction, ordinal, now_ms),
        )
    )


def outbox_value(  # noqa: PLR0913 - what an envelope is made of, all by name
    event: ChangeEvent,
    envelope: CollectionEnvelope,
    *,
    event_id: str,
    event_type: str,
    data: bytes,
    increment: int,
    transaction: str | None,
    ordinal: int,
    now_ms: int,
) -> bytes:
    """The JSON of a custom event from the outbox, in the form of those that SQL emits."""
    return b"".join(
        (
            b'{"id":',
            encode(event_id),
            b',"type":',
            encode(event_type),
            b',"data":',
            data,
            envelope.source_head,
            _envelope_end(event, increment, transaction, ordinal, now_ms),
        )
    )


def _envelope_end(
    event: ChangeEvent, increment: int, transaction: str | None, ordinal: int, now_ms: int
) -> bytes:
    return b"".join(
        (
            b'%d,"ord":%d},"transaction":' % (event.wall_time_ms, increment),
            b"null" if transaction is None else encode({"id": transaction, "total_order": ordinal}),
            b',"ts_ms":%d}' % now_ms,
        )
    )


@dataclass(frozen=True, slots=True)
class UpdateDescription:
    """What an update did, by top-level fields.

    `changed` are their names; `whole` are the elements of those given in full.
    """

    changed: list[str]
    whole: dict[bytes, bytes]

    @classmethod
    def of(cls, event: ChangeEvent) -> UpdateDescription:
        """The description in an update event."""
        data = event.document(b"updateDescription")
        if data is None:
            raise InvalidBSON("found an update without updateDescription")
        parts = mongo_bson.fields(data)
        literal = _literal_names(data, parts.get(b"disambiguatedPaths"))
        updated_fields = parts.get(b"updatedFields")
        updated = {} if updated_fields is None else mongo_bson.fields(data, updated_fields.start)
        paths = [name.decode() for name in updated]
        paths += [mongo_bson.text(data, item) for item in _items(data, parts, b"removedFields")]
        for item in _items(data, parts, b"truncatedArrays"):
            paths.append(mongo_bson.text(data, mongo_bson.fields(data, item.start)[b"field"]))
        tops = (literal.get(path) or path.partition(".")[0] for path in paths)
        whole = {
            name: mongo_bson.element(data, field)
            for name, field in updated.items()
            if b"." not in name or literal.get(name.decode()) == name.decode()
        }
        return cls(list(dict.fromkeys(tops)), whole)

    def known_fields(self, document_key: bytes) -> bytes:
        """The document as far as the event tells it: its key and the fields set in full."""
        key = {
            name: mongo_bson.element(document_key, field)
            for name, field in mongo_bson.fields(document_key).items()
            if b"." not in name
        }
        return mongo_bson.compose(key | self.whole)


def _items(data: bytes, parts: Mapping[bytes, Field], name: bytes) -> Iterable[Field]:
    field = parts.get(name)
    return () if field is None else mongo_bson.items(data, field.start)


def _literal_names(data: bytes, field: Field | None) -> dict[str, str]:
    """Top-level field of each path whose dots may be part of a name (MongoDB 6.1 and later)."""
    if field is None:
        return {}
    names: dict[str, str] = {}
    for path, parts in mongo_bson.fields(data, field.start).items():
        first = mongo_bson.items(data, parts.start)[0]
        names[path.decode()] = mongo_bson.text(data, first)
    return names


def _differing(before: bytes, after: bytes) -> list[str]:
    """Names of the top-level fields that two documents do not have in common."""
    old, new = mongo_bson.fields(before), mongo_bson.fields(after)
    names = dict.fromkeys((*old, *new))
    return [
        name.decode()
        for name in names
        if name not in old
        or name not in new
        or mongo_bson.element(before, old[name]) != mongo_bson.element(after, new[name])
    ]
