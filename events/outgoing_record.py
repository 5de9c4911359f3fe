"""A record on its way to Kafka, in the partition that Java clients choose for its key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from events.event import Headers, OutgoingEvent

RECORD_BYTES_MAX: Final = 15 * 1024 * 1024
"""Of what is emitted: below the 16 MiB that our topics take, with room for headers and batch."""


@dataclass(frozen=True, slots=True)
class OutgoingRecord:
    """A record to write; its value is None where its key is removed."""

    topic: str
    key: bytes
    value: bytes | None
    headers: Headers = ()

    @classmethod
    def of(cls, event: OutgoingEvent, topic: str) -> OutgoingRecord:
        """An event's."""
        return cls(topic, event.key, event.value, event.headers)

    @property
    def size_bytes(self) -> int:
        """Of key, value and headers."""
        return len(self.key) + len(self.value or b"") + sum(len(one) for _, one in self.headers)
