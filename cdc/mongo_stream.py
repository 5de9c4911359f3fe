"""The change stream as a state machine: events in, records for Kafka out, progress at any time.

Pure. It counts what bears one cluster time (for ids), carries the chain from a transaction's
marker to the transaction's other changes, joins what $changeStreamSplitLargeEvent split, and
knows the progress that belongs to all it has taken. It must never give an event another id
after a restart than before: everything that ids depend on is in the progress.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from bson.errors import InvalidBSON

from cdc import mongo_bson
from cdc.mongo_bson import EMPTY_DOCUMENT
from cdc.mongo_change_event import ChangeEvent, change_value, outbox_value
from cdc.mongo_extended_json import extended_json, key_json, token_json
from cdc.mongo_namespace import (
    ROW_OPERATIONS,
    CollectionEnvelope,
    Namespace,
    parse_namespace,
)
from cdc.mongo_outbox import Outbox
from cdc.progress import MongoProgress
from events.chain import CHAIN_HEADER, Chain
from events.errors import EventFormatError
from events.event import Headers, make_event
from events.event_id import mongo_change_id
from events.event_schema import EventSchemas
from events.json_codec import JsonObject, decode_object
from events.topic import Topics

SCHEMA_CHANGED: Final = "system.schema_changed"
_ENVELOPES_KEPT: Final = 4_096


class StreamRecord(NamedTuple):
    """A record to publish, in the order of ChangeGroup.add's parameters."""

    topic: str
    key: bytes
    value: bytes
    headers: Headers
    timestamp_ms: int


class MongoStream:
    """What has been taken from one change stream.

    `invalidated` says that the server closed the stream behind the last event; `created` are
    captured collections that came to be and wait for whoever switches their pre-images on;
    `read_outbox` are the outbox's documents taken, by their keys, for whoever deletes them.
    """

    def __init__(
        self,
        source: str,
        topics: Topics,
        progress: MongoProgress,
        *,
        largest_record_bytes: int,
        schemas: EventSchemas | None = None,
    ) -> None:
        self._source = source
        self._schema_topic = topics.schema
        self._events_topic = topics.events
        self._outbox = Outbox(source, largest_record_bytes, schemas or EventSchemas())
        self._largest_record_bytes = largest_record_bytes
        self._deployment = progress.deployment
        self._token: bytes | JsonObject = progress.token
        self._time = (progress.seconds, progress.increment)
        self._ordinal = progress.ordinal
        self._transaction = progress.transaction
        self._headers: Headers = ()
        if progress.chain is not None:
            self._headers = ((CHAIN_HEADER, progress.chain.encode()),)
        self._envelopes: dict[bytes, CollectionEnvelope] = {}
        self._fragments: dict[bytes, bytes] = {}
        self.invalidated = False
        self.created: list[Namespace] = []
        self.read_outbox: list[tuple[Namespace, bytes]] = []

    @property
    def in_transaction(self) -> bool:
        """Whether the last event belongs to a transaction that may have more of them."""
        return self._transaction is not None

    @property
    def progress(self) -> MongoProgress:
        """The progress of all that was taken."""
        token = self._token
        return MongoProgress(
            token=token_json(token) if isinstance(token, bytes) else token,
            seconds=self._time[0],
            increment=self._time[1],
            ordinal=self._ordinal,
            deployment=self._deployment,
            transaction=self._transaction,
            chain=self._headers[0][1].decode() if self._headers else None,
        )

    def advance(self, token: bytes) -> None:
        """Move to a token of the server's that says: nothing more up to here."""
        if not self._fragments:
            self._token = token

    def take(self, data: bytes, now_ms: int) -> StreamRecord | None:
        """The record that a change event becomes, None where none is published for it.

        Parameters: the event's BSON; milliseconds since 1970. Raises bson.errors.InvalidBSON
        for an event that is not as documented.
        """
        event = self._joined(ChangeEvent.of(data))
        if event is None:
            return None
        time = event.cluster_time
        self._ordinal = self._ordinal + 1 if time == self._time else 1
        self._time = time
        self._token = event.token
        transaction = event.transaction
        if transaction != self._transaction:
            self._transaction, self._headers = transaction, ()
        operation = event.operation
        if operation in ROW_OPERATIONS:
            return self._change(event, operation, now_ms)
        if operation == "invalidate":
            self.invalidated = True
            return None
        return self._schema_change(event, operation, now_ms)

    def _change(self, event: ChangeEvent, operation: str, now_ms: int) -> StreamRecord | None:
        envelope = self._envelope(event)
        if envelope.is_marker:
            if self._transaction is not None and operation != "delete":
                self._headers = _chain_headers(event) or self._headers
            return None
        if envelope.is_outbox and operation == "insert":
            return self._custom_event(event, envelope, now_ms)
        if not envelope.is_captured:
            return None
        document_key = event.document(b"documentKey") or EMPTY_DOCUMENT
        seconds, increment = self._time

        def value(*, images: bool) -> bytes:
            return change_value(
                event,
                envelope,
                event_id=mongo_change_id(self._source, seconds, increment, self._ordinal),
                increment=increment,
                transaction=self._transaction,
                ordinal=self._ordinal,
                document_key=document_key,
                now_ms=now_ms,
                images=images,
            )

        whole = value(images=True)
        if len(whole) > self._largest_record_bytes:
            whole = value(images=False)
        return StreamRecord(
            envelope.topic, key_json(document_key), whole, self._headers, event.wall_time_ms
        )

    def _custom_event(
        self, event: ChangeEvent, envelope: CollectionEnvelope, now_ms: int
    ) -> StreamRecord:
        document = event.document(b"fullDocument") or EMPTY_DOCUMENT
        key = event.document(b"documentKey") or EMPTY_DOCUMENT
        found = self._outbox.event(document, key)
        seconds, increment = self._time
        value = outbox_value(
            event,
            envelope,
            event_id=mongo_change_id(self._source, seconds, increment, self._ordinal),
            event_type=found.type,
            data=found.data,
            increment=increment,
            transaction=self._transaction,
            ordinal=self._ordinal,
            now_ms=now_ms,
        )
        self.read_outbox.append((envelope.namespace, key))
        # A listener's own chain counts, whatever its code wrote.
        headers = self._headers or found.headers
        return StreamRecord(self._events_topic, found.key, value, headers, event.wall_time_ms)

    def _schema_change(
        self, event: ChangeEvent, operation: str, now_ms: int
    ) -> StreamRecord | None:
        namespace = parse_namespace(event.document(b"ns") or EMPTY_DOCUMENT)
        if not namespace.is_captured:
            return None
        change: JsonObject = {
            "connector": "mongodb",
            "source": self._source,
            "db": namespace.database,
            "collection": namespace.collection or None,
            "operation": operation,
        }
        to, description = event.document(b"to"), event.document(b"operationDescription")
        if operation == "create" and not _keeps_images(description or EMPTY_DOCUMENT):
            self.created.append(namespace)
        if to is not None:
            change["to"] = decode_object(extended_json(to))
        if description is not None:
            change["description"] = decode_object(extended_json(description))
        made = make_event(
            event_id=mongo_change_id(self._source, *self._time, self._ordinal),
            event_type=SCHEMA_CHANGED,
            data=change,
            ts_ms=now_ms,
            key=f"{self._source}.{namespace}",
        )
        return StreamRecord(
            self._schema_topic, made.key, made.value, self._headers, event.wall_time_ms
        )

    def _envelope(self, event: ChangeEvent) -> CollectionEnvelope:
        field = event.required(b"ns")
        name = event.data[field.start : field.stop]
        envelope = self._envelopes.get(name)
        if envelope is None:
            if len(self._envelopes) >= _ENVELOPES_KEPT:
                self._envelopes.clear()
            envelope = CollectionEnvelope(self._source, parse_namespace(name))
            self._envelopes[name] = envelope
        return envelope

    def _joined(self, event: ChangeEvent) -> ChangeEvent | None:
        """The event itself, or the whole of a split one with its last fragment."""
        split = event.document(b"splitEvent")
        if split is None:
            return event
        parts = mongo_bson.fields(split)
        self._fragments |= {
            name: mongo_bson.element(event.data, field)
            for name, field in event.fields.items()
            if name != b"splitEvent"
        }
        if mongo_bson.integer(split, parts[b"fragment"]) < mongo_bson.integer(split, parts[b"of"]):
            return None
        whole = mongo_bson.compose(self._fragments)
        self._fragments = {}
        return ChangeEvent.of(whole)


def _chain_headers(event: ChangeEvent) -> Headers:
    """The header that a marker document gives; none where it holds no chain."""
    marker = event.document(b"fullDocument")
    if marker is None:
        return ()
    try:
        chain = mongo_bson.document(marker, mongo_bson.fields(marker).get(b"chain"))
        if chain is None:
            return ()
        return ((CHAIN_HEADER, Chain.decode(extended_json(chain)).encode()),)
    except (EventFormatError, InvalidBSON):
        # A client's own document in our collection: it is no reason to stop capture.
        return ()


def _keeps_images(description: bytes) -> bool:
    """Whether a collection was created with pre-images."""
    images = mongo_bson.document(
        description, mongo_bson.fields(description).get(b"changeStreamPreAndPostImages")
    )
    if images is None:
        return False
    enabled = mongo_bson.fields(images).get(b"enabled")
    return enabled is not None and mongo_bson.element(images, enabled) == b"\x08\x01"
