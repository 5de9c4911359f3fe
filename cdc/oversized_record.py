"""Records that are larger than their topic takes, and what is told in their place.

Kafka's limit is one of batches (`max.message.bytes` of the topic, `message.max.bytes` of the
broker); a record alone in its batch is what counts. Where the source says so a change that does
not fit is left out and an event about it stands on `rowcast.dead` and `rowcast.events`, in the
same transaction, so it is told exactly once. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import msgspec

from cdc.change_group import RECORD_OVERHEAD_BYTES, Record, headers_size_bytes
from cdc.encoded_batch import encode_batches
from cdc.errors import RecordTooLargeError
from cdc.topic_record import Position, decode_record, plain_record
from events.event import OutgoingEvent, make_event
from events.json_codec import JsonObject, JsonValue, decode

OversizedPolicy: TypeAlias = Literal["stop", "dead_letter"]
"""What capture does where a record is too large: end with an error, or tell of it and go on."""

EVENT_TYPE = "system.record_too_large"


@dataclass(frozen=True, slots=True)
class OversizedRecord:
    """A record that its topic does not take; sizes are of the batch with it alone."""

    topic: str
    record: Record
    size_bytes: int
    limit_bytes: int

    def error(self, setting: str) -> RecordTooLargeError:
        """The error for a source that stops; `setting` is where its configuration stands."""
        key = self.record[0]
        return RecordTooLargeError(
            f"found a record of topic {self.topic}, key {_shown(key)}, of {self.size_bytes} bytes, "
            f"expected at most {self.limit_bytes} (max.message.bytes of the topic, "
            "message.max.bytes of the broker; Rowcast writes no more than 16 MiB); to mend it: "
            "raise them, leave the large column out of the publication, or set "
            f'on_record_too_large = "dead_letter" in {setting}, which tells of such changes in '
            "the place of them"
        )

    def letter(self, source: str, now_ms: int) -> OutgoingEvent:
        """The event that is told in its place, with all that finds the row again.

        Raises SourceFormatError where the record is no change of a table.
        """
        key, value = plain_record(self.record[0], self.record[1])
        change = decode_record(value or b"")
        commit, order = change.position
        data: JsonObject = {
            "source": source,
            "id": change.id,
            "topic": self.topic,
            "key": _key(key),
            "op": change.op,
            "lsn": commit,
            "total_order": order or None,
            "txId": change.source.txId,
            "size_bytes": self.size_bytes,
            "limit_bytes": self.limit_bytes,
        }
        return make_event(
            event_id=f"{change.id}/too_large",
            event_type=EVENT_TYPE,
            data=data,
            ts_ms=now_ms,
            key=source,
        )


class LetterData(msgspec.Struct, frozen=True):
    """What a letter tells that finds the change again; `total_order` is null of a row read."""

    source: str
    topic: str
    key: msgspec.Raw
    lsn: int
    total_order: int | None = None
    txId: int | None = None  # noqa: N815 - as in the change

    @property
    def position(self) -> Position:
        """The change's place among those of its source."""
        return self.lsn, self.total_order or 0


class _Letter(msgspec.Struct, frozen=True):
    type: str
    data: LetterData


_LETTER = msgspec.json.Decoder(_Letter)


def decode_letter(value: bytes) -> LetterData | None:
    """What a record of `rowcast.dead` tells of a change; None where it is about something else."""
    try:
        letter = _LETTER.decode(value)
    except msgspec.DecodeError:
        return None
    return letter.data if letter.type == EVENT_TYPE else None


def split_oversized(
    topic: str, records: Sequence[Record], limit_bytes: int
) -> tuple[list[Record], list[OversizedRecord]]:
    """The records that a topic with such a limit takes, and those it does not, each in order."""
    fitting: list[Record] = []
    oversized: list[OversizedRecord] = []
    for record in records:
        size_bytes = _size_bytes(record, limit_bytes)
        if size_bytes <= limit_bytes:
            fitting.append(record)
        else:
            oversized.append(OversizedRecord(topic, record, size_bytes, limit_bytes))
    return fitting, oversized


def _size_bytes(record: Record, limit_bytes: int) -> int:
    """Of the batch with this record alone; not more than it is where it is far from the limit."""
    key, value, headers, _ = record
    about = len(key or b"") + len(value or b"") + headers_size_bytes(headers)
    if about + RECORD_OVERHEAD_BYTES <= limit_bytes:
        return about
    ((_, batch),) = encode_batches([record], 1, limit_bytes)
    return batch.size()


def _key(key: bytes | None) -> JsonValue:
    if key is None:
        return None
    try:
        return decode(key)
    except ValueError:
        return key.decode("utf-8", "replace")


def _shown(key: bytes | None) -> str:
    return "none" if key is None else key[:200].decode("utf-8", "replace")
