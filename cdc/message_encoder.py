"""Logical messages as events: what an application says in the log, without a table.

`select pg_logical_emit_message(true, 'mail', '{"to": 7}')` is an event if and only if its
transaction commits, in order with the rows around it. With `false` it belongs to no transaction:
it is an event as soon as it is in the log, whatever becomes of the transaction that wrote it.
This module alone decides what record a message becomes, by its prefix; those that begin with
`rowcast` are ours. One of those is what `rowcast.emit` writes: a custom event, which stands on the
topic of custom events like those emitted elsewhere. Pure.
"""

from __future__ import annotations

import logging
from base64 import b64encode
from dataclasses import dataclass
from typing import NamedTuple

import orjson

from cdc.errors import SourceFormatError
from cdc.pgoutput import LogicalMessage
from cdc.read_message import READ_PREFIX, read_record
from cdc.recent_commits import RecentCommits
from cdc.row_encoder import TransactionBytes
from events.event_id import postgres_message_id
from events.event_type import check_custom_type
from events.json_codec import decode_object, encode, encode_key
from events.names import encode_segment
from events.values.json_documents import encode_json
from events.values.text import encode_text

_log = logging.getLogger(__name__)

_OWN_PREFIX = "rowcast"
EMIT_PREFIX = "rowcast.emit"
"""What `rowcast.emit` writes: a line of JSON with type and key, then the data."""


class MessageRecord(NamedTuple):
    """One record to be."""

    topic: str
    key: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class MessagePlace:
    """Where a message stands: how its envelope begins and ends."""

    head: bytes
    tail: bytes

    @classmethod
    def inside(cls, transaction: TransactionBytes, ordinal: int, end: bytes) -> MessagePlace:
        """As a change of a transaction; `end` is envelope_end's."""
        digits = b"%d" % ordinal
        return cls(transaction.head + digits + b'"', transaction.tail + digits + end)

    @classmethod
    def outside(cls, source: str, message: LogicalMessage, now_ms: int) -> MessagePlace:
        """Of no transaction: the log tells neither which wrote it nor when."""
        tail = (
            f'"lsn":{message.position.value},"txId":null,"ts_ms":{now_ms},"snapshot":"false"}},'
            f'"transaction":null,"ts_ms":{now_ms}}}'
        )
        identity = postgres_message_id(source, message.position)
        return cls(b'{"id":' + encode(identity), tail.encode())


class MessageEncoder:
    """The encoder of one source's logical messages; all stand on one topic but custom events."""

    def __init__(self, source: str, database: str, events_topic: str) -> None:
        self.commits = RecentCommits()
        """Fed by whoever reads the stream."""
        self._events_topic = events_topic
        self._topic = f"{encode_segment(source)}.messages"
        self._source = source
        self._database = database
        own = encode({"connector": "postgresql", "name": source, "db": database})
        self._source_json = b',"source":' + own[:-1] + b","

    def wants(self, message: LogicalMessage) -> bool:
        """Whether a message is an event."""
        if message.prefix == EMIT_PREFIX:
            return message.transactional
        if message.prefix == READ_PREFIX:
            return not message.transactional
        return not message.prefix.startswith(_OWN_PREFIX)

    def lone(self, message: LogicalMessage, now_ms: int) -> MessageRecord | None:
        """The record of a message of no transaction; None where one of ours tells of no read."""
        if message.prefix != READ_PREFIX:
            return self.record(message, MessagePlace.outside(self._source, message, now_ms))
        try:
            read = read_record(self._source, self._database, message, self.commits, now_ms)
            return MessageRecord(*read)
        except SourceFormatError as error:
            # Any role may write one, so it must not stop capture.
            _log.warning("%s: %s", message.position, error)
            return None

    def record(self, message: LogicalMessage, place: MessagePlace) -> MessageRecord:
        """The record of a message that is wanted and tells of no read."""
        emission = _emission(message) if message.prefix == EMIT_PREFIX else None
        if emission is not None:
            event_type, key, data = emission
            body = b',"type":%b,"data":%b' % (encode(event_type), _data(data))
            value = b"".join((place.head, body, self._source_json, place.tail))
            return MessageRecord(self._events_topic, encode_key({"key": key}), value)
        name = encode_segment(message.prefix or "_")
        event_type = f"db.{encode_segment(self._source)}.messages.{name}.emitted"
        body = b',"type":%b,"op":"m","prefix":%b,"data":%b' % (
            encode(event_type),
            encode(message.prefix),
            _data(message.content),
        )
        key = encode_key({"prefix": message.prefix})
        value = b"".join((place.head, body, self._source_json, place.tail))
        return MessageRecord(self._topic, key, value)


def _emission(message: LogicalMessage) -> tuple[str, str, bytes] | None:
    """Type, key and data of a custom event.

    None where somebody else wrote the prefix: then it is a message like any other.
    """
    head, _, data = message.content.partition(b"\n")
    try:
        said = decode_object(head)
        event_type = check_custom_type(str(said.get("type")))
    except ValueError:
        return None
    key = said.get("key")
    return event_type, key if isinstance(key, str) else event_type, data


def _data(content: bytes) -> bytes:
    """JSON as it is, other text as a string, other bytes as base64."""
    try:
        content.decode()
    except UnicodeDecodeError:
        return encode_text(b64encode(content))
    try:
        orjson.loads(content)
    except orjson.JSONDecodeError:
        return encode_text(content)
    # Of json that is one, it knows what readers refuse.
    return encode_json(content)
