"""Logical messages as events: what an application says in a transaction, without a table.

`select pg_logical_emit_message(true, 'mail', '{"to": 7}')` is an event if and only if its
transaction commits, in order with the rows around it. Only transactional messages are: others
stand outside of the order that exactly once is told by. Prefixes that begin with `rowcast` are
ours. Pure.
"""

from __future__ import annotations

from base64 import b64encode

import orjson

from cdc.pgoutput import LogicalMessage
from cdc.row_encoder import Change, TransactionBytes
from events.json_codec import encode, encode_key
from events.names import encode_segment
from events.values.json_documents import encode_json
from events.values.text import encode_text

_OWN_PREFIX = "rowcast"


class MessageEncoder:
    """The encoder of one source's logical messages; all stand on one topic."""

    def __init__(self, source: str, database: str) -> None:
        self.topic = f"{encode_segment(source)}.messages"
        self._source = source
        own = encode({"connector": "postgresql", "name": source, "db": database})
        self._place = b',"source":' + own[:-1] + b","

    def wants(self, message: LogicalMessage) -> bool:
        """Whether a message is an event."""
        return message.transactional and not message.prefix.startswith(_OWN_PREFIX)

    def change(
        self, message: LogicalMessage, ordinal: int, transaction: TransactionBytes, end: bytes
    ) -> Change:
        """The record of a message. `end` is envelope_end's."""
        name = encode_segment(message.prefix or "_")
        event_type = f"db.{encode_segment(self._source)}.messages.{name}.emitted"
        digits = b"%d" % ordinal
        value = b"".join(
            (
                transaction.head,
                digits,
                b'","type":%b,"op":"m","prefix":%b,"data":%b'
                % (encode(event_type), encode(message.prefix), _data(message.content)),
                self._place,
                transaction.tail,
                digits,
                end,
            )
        )
        return Change(encode_key({"prefix": message.prefix}), value)


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
