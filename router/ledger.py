"""What of one partition is finished, and how that survives a restart.

An event is finished when every listener it is for is finished. Offsets are committed up to the
watermark, below which everything is finished; what is finished beyond it stands in the commit's
metadata: whole offsets as a bitmap, partly finished ones with a short hash of each listener that
is done. So a restart repeats only what was not finished, and never skips what was not.

Kafka keeps 4096 bytes of metadata (offset.metadata.max.bytes), so dispatch has a window: how far
it runs ahead of the watermark, and how much the partly finished could come to. Only one event
alone that is for hundreds of listeners can pass that; then its listeners may be run again.
"""

from __future__ import annotations

import hashlib
from base64 import b85decode, b85encode
from collections.abc import Iterable
from dataclasses import dataclass, field

from events.json_codec import decode_object, encode

METADATA_LIMIT = 4_096
WINDOW_OFFSETS = 8_192
_BITMAP_BYTES = WINDOW_OFFSETS // 8
_PARTS_BUDGET = METADATA_LIMIT - _BITMAP_BYTES * 5 // 4 - 64
_OFFSET_COST = 12
_LISTENER_COST = 12


def listener_mark(listener: str) -> str:
    """The short hash of a listener's name; 40 bits, so that few meet in one event."""
    return hashlib.blake2s(listener.encode(), digest_size=5).hexdigest()


@dataclass(slots=True)
class _Entry:
    open: set[str]
    done: set[str] = field(default_factory=set[str])
    cost: int = 0


class PartitionLedger:
    """The ledger of one partition, from a committed offset and its metadata on."""

    def __init__(self, watermark: int, metadata: str = "") -> None:
        self._watermark = watermark
        self._next = watermark
        self._open: dict[int, _Entry] = {}
        self._finished: set[int] = set()
        self._restored_offsets, self._restored_parts = _decode(watermark, metadata)
        self._cost = 0

    @property
    def watermark(self) -> int:
        """Everything below this offset is finished."""
        return self._watermark

    @property
    def next_offset(self) -> int:
        """The offset after the last one seen."""
        return self._next

    @property
    def open_events(self) -> int:
        """How many events are seen and not finished."""
        return len(self._open)

    def has_room(self, offset: int, listeners: int) -> bool:
        """Whether an event for so many listeners may be dispatched now."""
        if not self._open:
            return True
        fits = self._cost + _cost(listeners) <= _PARTS_BUDGET
        return fits and offset - self._watermark < WINDOW_OFFSETS

    def open_event(self, offset: int, listeners: Iterable[str]) -> list[str]:
        """Take an event in; returns the listeners that are still to be run for it."""
        self._next = max(self._next, offset + 1)
        wanted = sorted(listeners)
        if offset < self._watermark or offset in self._restored_offsets:
            self._settle(offset)
            return []
        done = self._restored_parts.pop(offset, set[str]())
        left = [name for name in wanted if listener_mark(name) not in done]
        if not left:
            self._settle(offset)
            return []
        entry = _Entry(set(left), {mark for mark in done if len(wanted) > 1}, _cost(len(wanted)))
        self._open[offset] = entry
        self._cost += entry.cost
        return left

    def finish(self, offset: int, listener: str) -> None:
        """A listener is finished with an event."""
        entry = self._open.get(offset)
        if entry is None or listener not in entry.open:
            return
        entry.open.remove(listener)
        entry.done.add(listener_mark(listener))
        if not entry.open:
            del self._open[offset]
            self._cost -= entry.cost
            self._settle(offset)

    def commit_point(self) -> tuple[int, str]:
        """The offset to commit and its metadata."""
        beyond = self._finished | {o for o in self._restored_offsets if o >= self._next}
        parts = {o: marks for o, marks in self._restored_parts.items() if o >= self._next}
        parts |= {offset: entry.done for offset, entry in self._open.items() if entry.done}
        return self._watermark, _encode(self._watermark, beyond, parts)

    def _settle(self, offset: int) -> None:
        self._restored_offsets.discard(offset)
        if offset >= self._watermark:
            self._finished.add(offset)
        # Offsets have holes (transaction markers, compaction): what was never seen below the
        # next offset is nothing to wait for.
        # Events are taken in by rising offset, so the first that is open is the lowest.
        low = next(iter(self._open), self._next)
        if low > self._watermark:
            self._finished.difference_update(range(self._watermark, low))
            self._watermark = low


def _cost(listeners: int) -> int:
    return 0 if listeners < 2 else _OFFSET_COST + (listeners - 1) * _LISTENER_COST


def _encode(watermark: int, finished: set[int], parts: dict[int, set[str]]) -> str:
    if not finished and not parts:
        return ""
    bitmap = bytearray(_BITMAP_BYTES)
    for offset in finished:
        place = offset - watermark
        if place < WINDOW_OFFSETS:
            bitmap[place >> 3] |= 1 << (place & 7)
    # The alphabet of b85 has no character that JSON escapes.
    fields: dict[str, object] = {"f": b85encode(bytes(bitmap).rstrip(b"\0")).decode()}
    if parts:
        fields["p"] = {str(o - watermark): "".join(sorted(parts[o])) for o in sorted(parts)}
    text = encode(fields).decode()
    if len(text) > METADATA_LIMIT:
        fields.pop("p", None)
        text = encode(fields).decode()
    return text


def _decode(watermark: int, metadata: str) -> tuple[set[int], dict[int, set[str]]]:
    """What stands in metadata; nothing where somebody else wrote it, so that nothing is skipped."""
    finished: set[int] = set()
    parts: dict[int, set[str]] = {}
    if not metadata:
        return finished, parts
    try:
        fields = decode_object(metadata)
        bitmap = b85decode(str(fields.get("f", "")))
        listed = fields.get("p", {})
        if isinstance(listed, dict):
            for place, marks in listed.items():
                text = str(marks)
                cut = {text[start : start + 10] for start in range(0, len(text), 10)}
                parts[watermark + int(place)] = cut
    except ValueError:
        return set(), {}
    for index, byte in enumerate(bitmap):
        for bit in range(8):
            if byte >> bit & 1:
                finished.add(watermark + index * 8 + bit)
    return finished, parts
