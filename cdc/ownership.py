"""Who captures a source: what each start leaves on the progress topic, beside the progress.

Kafka fences a producer for two reasons: a newer one has taken over, or a transaction stayed open
too long. The first must not be started again, since the two would take turns for ever; the second
must. A fenced capture tells them apart by this record, and can say who has taken over. Pure.
"""

from __future__ import annotations

import msgspec

from events.json_codec import encode_key


class Owner(msgspec.Struct, frozen=True):
    """One start of a capture; `instance` is drawn anew for each."""

    instance: str
    host: str
    pid: int

    def encode(self) -> bytes:
        """The record's value."""
        return msgspec.json.encode(self)


def owner_key(source: str) -> bytes:
    """Key of a source's owner record."""
    return encode_key({"owner": source})


def decode_owner(value: bytes) -> Owner | None:
    """The owner that a record's value names, None where this version cannot read it."""
    try:
        return msgspec.json.decode(value, type=Owner)
    except msgspec.DecodeError:
        return None
