"""A read that a row policy told of, as a record on the table's `.reads` topic.

The policy's function (read_policy.py) writes one logical message of no transaction for each row,
so reads stand in the log in order with the writes around them. A commit is in the log before it is
visible, so the position of a read in its event is before the commits that it did not see. Pure.
"""

from __future__ import annotations

import msgspec

from cdc.errors import SourceFormatError
from cdc.pgoutput import LogicalMessage
from cdc.recent_commits import RecentCommits
from events.event_id import postgres_message_id
from events.event_type import read_type
from events.json_codec import JsonObject, encode, encode_key
from events.lsn import Lsn
from events.topic import reads_topic

READ_PREFIX = "rowcast.read"
"""Prefix of the logical messages that tell of a row that was read."""


class ReadRow(msgspec.Struct, frozen=True):
    """What one message tells: which row, who read it, and when on the server's clock.

    `seen` is the snapshot of the query.
    """

    schema: str
    table: str
    key: dict[str, msgspec.Raw]
    at_ms: int
    user: str
    role: str
    application: str
    pid: int
    client: str | None = None
    subject: str | None = None
    seen: str | None = None

    @classmethod
    def decode(cls, content: bytes) -> ReadRow:
        """Raises SourceFormatError where it is none; any role may write such a message."""
        try:
            return msgspec.json.decode(content, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise SourceFormatError(
                f"found a message with the prefix {READ_PREFIX} that tells of no read: {error}"
            ) from error

    @property
    def key_object(self) -> JsonObject:
        """The row's key as record keys have it."""
        return {name: msgspec.json.decode(value) for name, value in self.key.items()}


def read_record(
    source: str, database: str, message: LogicalMessage, commits: RecentCommits, now_ms: int
) -> tuple[str, bytes, bytes]:
    """Topic, key and value of a read; raises SourceFormatError where the message is none.

    `commits` are those before it in the log, `now_ms` is when capture saw it.
    """
    row = ReadRow.decode(message.content)
    # Inside of its record, since where that ends a commit may begin.
    position = Lsn(message.position.value - 1)
    if row.seen is not None:
        try:
            position = commits.position_of(position, row.seen)
        except ValueError as error:
            raise SourceFormatError(
                f"found a read that names no snapshot but {row.seen!r}"
            ) from error
    key = row.key_object
    body: JsonObject = {
        "id": postgres_message_id(source, message.position),
        "type": read_type(source, row.schema, row.table),
        "op": "read",
        "key": key,
        "keys": [key],
        "read": {"by": "policy", "exact": "row"},
        "who": {
            "user": row.user,
            "role": row.role,
            "application": row.application,
            "client": row.client,
            "subject": row.subject,
            "pid": row.pid,
        },
        "source": {
            "connector": "postgresql",
            "name": source,
            "db": database,
            "schema": row.schema,
            "table": row.table,
            "lsn": position.value,
            "txId": None,
            "ts_ms": row.at_ms,
            "snapshot": "false",
        },
        "transaction": None,
        "ts_ms": now_ms,
    }
    return reads_topic(source, row.schema, row.table), encode_key(key), encode(body)
