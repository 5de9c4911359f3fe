"""Events that are to be emitted later: how they stand on `rowcast.schedules`, and which are due.

Pure. Each has a record of its own key, written in the transaction of the run that asked for it;
the transaction that emits it removes that record. Names are for replacing and cancelling and are
never keys: the removal of an older schedule must not remove a newer one of its name that was
written meanwhile. So a cancellation is a record too, which counts for what stands before it.

What recurs is such an event too. Instead of removing its record, the transaction that emits it
writes the record anew with the next due time, and with `asked_at`, the offset at which it was first
asked for, so that it does not pass for newer than what replaced or cancelled it meanwhile.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from events.chain import Chain
from events.errors import RecurrenceError
from events.event import OutgoingEvent, make_event
from events.json_codec import encode
from events.recurrence import Firing, Recurrence
from router.errors import ScheduleError

_STALE_TIMES = 1_000


class ScheduledEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event and when it is due; `cause` and `listener` say which run asked for it.

    `name` is unique within a tenant: a later one replaces an earlier one that is not due yet, but
    for one that recurs just the same. What a definition asks for has no cause, root and name.
    """

    id: str
    type: str
    due_ms: int
    tenant: str
    cause: str
    listener: str
    root: str
    path: tuple[str, ...]
    data: Any = None
    key: str | None = None
    name: str | None = None
    traceparent: str | None = None
    recurrence: Recurrence | None = None
    asked_at: int | None = None

    def encode(self) -> bytes:
        """The record's value; raises TypeError for data that JSON cannot hold."""
        fields = {field: getattr(self, field) for field in self.__struct_fields__}
        fields["recurrence"] = self.recurrence and msgspec.to_builtins(self.recurrence)
        return encode(fields)

    @property
    def record_key(self) -> bytes:
        """The record's key."""
        return encode({"schedule": self.id})

    def emitted(self, now_ms: int) -> OutgoingEvent:
        """The event itself, as it is emitted now."""
        event_id, data, key = self.id, self.data, self.key
        if self.recurrence is not None:
            event_id = f"{self.id}/{self.due_ms}"
            due = datetime.fromtimestamp(self.due_ms / 1_000, UTC).isoformat()
            data = {"due": due.replace("+00:00", "Z"), "due_ms": self.due_ms, "data": self.data}
            # One after the other, and in order.
            key = self.type if key is None else key
        return make_event(
            event_id=event_id,
            event_type=self.type,
            data=data,
            ts_ms=now_ms,
            key=key,
            chain=Chain(self.root, self.path) if self.root else None,
            traceparent=self.traceparent,
            cause={"event": self.cause, "listener": self.listener} if self.root else None,
        )

    def recurs_as(self, other: ScheduledEvent) -> bool:
        """Whether it recurs, and so that another of its name changes nothing."""
        if self.recurrence is None or self.recurrence != other.recurrence:
            return False
        return (self.type, self.data, self.key) == (other.type, other.data, other.key)


class Cancellation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ends the schedule of a name that stands before it."""

    tenant: str
    cancelled: str

    def encode(self) -> bytes:
        """The record's value, and what is its own of its key."""
        return encode({"tenant": self.tenant, "cancelled": self.cancelled})

    @property
    def record_key(self) -> bytes:
        """The record's key."""
        return encode({"tenant": self.tenant, "cancel": self.cancelled})


def decode_schedule(value: bytes) -> ScheduledEvent | Cancellation:
    """From a record's value; raises ScheduleError where it is neither."""
    try:
        try:
            return msgspec.json.decode(value, type=Cancellation)
        except msgspec.ValidationError:
            event = msgspec.json.decode(value, type=ScheduledEvent)
        if event.recurrence is not None:
            event.recurrence.check()
    except (msgspec.DecodeError, RecursionError, RecurrenceError) as error:
        raise ScheduleError(f"not a schedule: {error}") from error
    return event


@dataclass(frozen=True, slots=True)
class Due:
    """What one transaction writes: events to emit, keys of records to remove, what goes on."""

    events: list[ScheduledEvent]
    removed: list[bytes]
    written: list[ScheduledEvent] = field(default_factory=list[ScheduledEvent])


class Timetable:
    """What is pending, as the topic's records say that were taken in so far, in their order."""

    def __init__(self) -> None:
        self._pending: dict[bytes, tuple[int, ScheduledEvent]] = {}
        self._named: dict[tuple[str, str], bytes] = {}
        self._heap: list[tuple[int, int, bytes]] = []
        self._obsolete: dict[bytes, None] = {}
        self._cancelled: dict[bytes, tuple[int, tuple[str, str]]] = {}

    def __iter__(self) -> Iterator[ScheduledEvent]:
        """What is pending."""
        return (event for _, event in self._pending.values())

    def in_order(self) -> list[ScheduledEvent]:
        """What is pending, the next first."""
        return sorted(self, key=lambda event: event.due_ms)

    def __len__(self) -> int:
        """How many are pending."""
        return len(self._pending)

    @property
    def next_ms(self) -> int | None:
        """When there is something to write; None where nothing is pending."""
        if self._obsolete:
            return 0
        self._prune()
        return self._heap[0][0] if self._heap else None

    def take(self, offset: int, key: bytes, value: bytes | None) -> None:
        """Take a record in; raises ScheduleError where it means nothing, which changes nothing."""
        if value is None:
            self._drop(key)
            self._obsolete.pop(key, None)
            self._cancelled.pop(key, None)
            return
        match decode_schedule(value):
            case Cancellation(tenant=tenant, cancelled=name):
                self._retire((tenant, name))
                self._obsolete[key] = None
                self._cancelled[key] = (offset, (tenant, name))
            case ScheduledEvent() as event:
                self._drop(key)
                if event.name is not None:
                    if self._is_superseded(key, event, offset):
                        self._obsolete[key] = None
                        return
                    self._retire((event.tenant, event.name))
                    self._named[event.tenant, event.name] = key
                self._pending[key] = (offset, event)
                heapq.heappush(self._heap, (event.due_ms, offset, key))

    def take_due(self, now_ms: int, count: int) -> Due:
        """What is to be written now, so many events at most, the earliest first.

        What recurs is pending again once its record is taken in.
        """
        events: list[ScheduledEvent] = []
        written: list[ScheduledEvent] = []
        removed = list(self._obsolete)
        self._obsolete.clear()
        while self._heap and self._heap[0][0] <= now_ms and len(events) < count:
            time = heapq.heappop(self._heap)
            if not self._is_pending(time):
                continue
            key = time[2]
            offset, event = self._pending[key]
            self._drop(key)
            firing = Firing(event.due_ms, None)
            if event.recurrence is not None:
                firing = event.recurrence.step(event.due_ms, now_ms)
            if firing.fire_ms is not None:
                events.append(msgspec.structs.replace(event, due_ms=firing.fire_ms))
            if firing.next_ms is None:
                removed.append(key)
            else:
                asked_at = offset if event.asked_at is None else event.asked_at
                again = msgspec.structs.replace(event, due_ms=firing.next_ms, asked_at=asked_at)
                written.append(again)
        return Due(events, removed, written)

    def _prune(self) -> None:
        """Forget times of what is no longer pending: at once those ahead, the others in bulk."""
        while self._heap and not self._is_pending(self._heap[0]):
            heapq.heappop(self._heap)
        if len(self._heap) > 2 * len(self._pending) + _STALE_TIMES:
            self._heap = [time for time in self._heap if self._is_pending(time)]
            heapq.heapify(self._heap)

    def _is_pending(self, time: tuple[int, int, bytes]) -> bool:
        entry = self._pending.get(time[2])
        return entry is not None and entry[0] == time[1]

    def _is_superseded(self, key: bytes, event: ScheduledEvent, offset: int) -> bool:
        """Whether what stands before a record, or was asked for after it, holds instead of it."""
        name = (event.tenant, event.name or "")
        asked_at = offset if event.asked_at is None else event.asked_at
        if any(name == one and asked_at < at for at, one in self._cancelled.values()):
            return True
        holder = self._named.get(name)
        if holder is None or holder == key:
            return False
        held_at, held = self._pending[holder]
        held_at = held_at if held.asked_at is None else held.asked_at
        return held_at > asked_at or held.recurs_as(event)

    def _retire(self, name: tuple[str, str]) -> None:
        key = self._named.get(name)
        if key is not None:
            self._drop(key)
            self._obsolete[key] = None

    def _drop(self, key: bytes) -> None:
        entry = self._pending.pop(key, None)
        if entry is None:
            return
        _, event = entry
        if event.name is not None and self._named.get((event.tenant, event.name)) == key:
            del self._named[event.tenant, event.name]
