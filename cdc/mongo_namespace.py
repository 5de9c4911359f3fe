"""What is the same for every change of one collection, encoded once.

The envelope of design.md section 2 is mostly constant for a collection: the type, the operation
and the head of `source`. They are spliced around the values as bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cdc import mongo_bson
from cdc.mongo_outbox import OUTBOX_COLLECTION
from events.event_type import RowOperation, row_type
from events.json_codec import encode
from events.topic import change_topic

MARKER_COLLECTION: Final = "rowcast_chain"
"""Where listeners write, first thing in their transaction, the chain that causes it."""

AUDIT_COLLECTION: Final = "rowcast_audit"
"""Where it stands of which collections the reads are events; mongo_audit.py."""

_SYSTEM_DATABASES: Final = frozenset(("admin", "config", "local"))
_OPERATIONS: Final = {
    "insert": RowOperation.CREATED,
    "update": RowOperation.UPDATED,
    "replace": RowOperation.UPDATED,
    "delete": RowOperation.DELETED,
}


@dataclass(frozen=True, slots=True)
class Namespace:
    """A collection, or a whole database where `collection` is empty."""

    database: str
    collection: str

    @property
    def is_marker(self) -> bool:
        """Whether its documents are chain markers."""
        return self.collection == MARKER_COLLECTION

    @property
    def is_outbox(self) -> bool:
        """Whether its documents are custom events."""
        return self.collection == OUTBOX_COLLECTION

    @property
    def is_captured(self) -> bool:
        """Whether its changes are published."""
        return not (
            self.is_marker
            or self.collection == AUDIT_COLLECTION
            or self.is_outbox
            or self.collection.startswith("system.")
            or self.database in _SYSTEM_DATABASES
        )

    def __str__(self) -> str:
        """As MongoDB writes it: `database.collection`."""
        return f"{self.database}.{self.collection}" if self.collection else self.database


def parse_namespace(data: bytes) -> Namespace:
    """The namespace of a change event's `ns` or `to`.

    Raises bson.errors.InvalidBSON where the bytes are none.
    """
    fields = mongo_bson.fields(data)
    database, collection = fields.get(b"db"), fields.get(b"coll")
    return Namespace(
        "" if database is None else mongo_bson.text(data, database),
        "" if collection is None else mongo_bson.text(data, collection),
    )


class CollectionEnvelope:
    """The constant parts of the records of one collection."""

    __slots__ = (
        "is_captured",
        "is_marker",
        "is_outbox",
        "kinds",
        "namespace",
        "source_head",
        "topic",
    )

    def __init__(self, source: str, namespace: Namespace) -> None:
        database, collection = namespace.database, namespace.collection
        self.namespace = namespace
        self.is_captured = namespace.is_captured and bool(collection)
        self.is_marker = namespace.is_marker
        self.is_outbox = namespace.is_outbox
        self.topic = ""
        self.kinds: dict[str, bytes] = {}
        self.source_head = b""
        if not (self.is_captured or self.is_outbox):
            return
        self.topic = change_topic(source, database, collection)
        self.kinds = {
            name: b',"type":'
            + encode(row_type(source, database, collection, operation))
            + b',"op":'
            + encode(operation.op)
            for name, operation in _OPERATIONS.items()
        }
        head = {
            "connector": "mongodb",
            "name": source,
            "db": database,
            "schema": database,
            "table": collection,
            "collection": collection,
            "snapshot": "false",
        }
        self.source_head = b',"source":' + encode(head)[:-1] + b',"ts_ms":'


ROW_OPERATIONS: Final = frozenset(_OPERATIONS)
"""Operation types of change events that are changes of a document."""
