"""The records of one Kafka transaction, collected cheaply on the way there.

A plain list a topic: at a hundred thousand rows a second every call counts. Pure; the publisher
decides partitions and batches.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

Record: TypeAlias = "tuple[bytes | None, bytes | None, list[tuple[str, bytes]], int]"
"""Key, value (None for a tombstone), headers, timestamp in ms.

Headers are in a list, as aiokafka's C code asks for.
"""

_NO_HEADERS: list[tuple[str, bytes]] = []

RECORD_OVERHEAD_BYTES = 100
"""Room for a record's lengths, offset and timestamp deltas and its share of the batch header."""


@dataclass(frozen=True, slots=True)
class GroupLimits:
    """From when on a group is full.

    A group that has come so far is published; one inside a transaction that began in it is
    filled on, up to twice as far. So a transaction up to the limits is always whole in one group.
    """

    records: int = 20_000
    size_bytes: int = 8 << 20

    def room(self, group: ChangeGroup, *, in_transaction: bool) -> tuple[int, int]:
        """How many more records and bytes a group takes, 0 or less where it is full."""
        factor = 2 if in_transaction else 1
        return (
            factor * self.records - group.record_count,
            factor * self.size_bytes - group.size_bytes,
        )


class ChangeGroup:
    """Records by topic, in the order added within each topic.

    `size_bytes` counts keys, values and headers.
    """

    __slots__ = ("record_count", "records", "size_bytes")

    def __init__(self) -> None:
        self.records: dict[str, list[Record]] = {}
        self.record_count = 0
        self.size_bytes = 0

    def add(
        self,
        topic: str,
        key: bytes | None,
        value: bytes,
        headers: Sequence[tuple[str, bytes]],
        timestamp_ms: int,
    ) -> None:
        """Append one record; a key of None goes to partition 0.

        A listener is run for what is younger than its definition, and Kafka keeps records by
        their time, so it is never left out.
        """
        try:
            records = self.records[topic]
        except KeyError:
            records = self.records[topic] = []
        records.append((key, value, list(headers) if headers else _NO_HEADERS, timestamp_ms))
        self.record_count += 1
        self.size_bytes += len(value) + (len(key) if key else 0)
        if headers:
            self.size_bytes += headers_size_bytes(headers)

    def add_rows(
        self, topic: str, rows: Iterable[tuple[bytes | None, bytes]], timestamp_ms: int
    ) -> None:
        """Append many records of one topic, without headers."""
        added: list[Record] = [(key, value, _NO_HEADERS, timestamp_ms) for key, value in rows]
        self.records.setdefault(topic, []).extend(added)
        self.record_count += len(added)
        self.size_bytes += sum(len(record[1] or b"") + len(record[0] or b"") for record in added)

    def add_note(self, topic: str, key: bytes, value: bytes | None, timestamp_ms: int) -> None:
        """Append a record that keeps state; a value of None takes the key's state away."""
        if value is not None:
            self.add(topic, key, value, (), timestamp_ms)
            return
        self.records.setdefault(topic, []).append((key, None, _NO_HEADERS, timestamp_ms))
        self.record_count += 1
        self.size_bytes += len(key)

    def __bool__(self) -> bool:
        return self.record_count > 0


def headers_size_bytes(headers: Sequence[tuple[str, bytes]]) -> int:
    """What headers add to the size of a record."""
    return sum(len(name) + len(content) for name, content in headers)
