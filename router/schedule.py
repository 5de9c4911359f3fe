"""Events that are to be emitted later: how they stand on `rowcast.schedules`, and which are due.

Pure. Each has a record of its own key, written in the transaction of the run that asked for it;
the transaction that emits it removes that record. Names are for replacing and cancelling and are
never keys: the removal of an older schedule must not remove a newer one of its name that was
written meanwhile. So a cancellation is a record too, which counts for what stands before it.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Any

import msgspec

from events.chain import Chain
from events.event import OutgoingEvent, make_event
from events.json_codec import encode
from router.errors import ScheduleError

_STALE_TIMES = 1_000


class ScheduledEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event and when it is due; `cause` and `listener` say which run asked for it.

    `name` is unique within a tenant: a later one replaces an earlier one that is not due yet.
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

    def encode(self) -> bytes:
        """The record's value; raises TypeError for data that JSON cannot hold."""
        return encode({field: getattr(self, field) for field in self.__struct_fields__})

    @property
    def record_key(self) -> bytes:
        """The record's key."""
        return encode({"schedule": self.id})

    def emitted(self, now_ms: int) -> OutgoingEvent:
        """The event itself, as it is emitted now."""
        return make_event(
            event_id=self.id,
            event_type=self.type,
            data=self.data,
            ts_ms=now_ms,
            key=self.key,
            chain=Chain(self.root, self.path),
            traceparent=self.traceparent,
            cause={"event": self.cause, "listener": self.listener},
        )


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
            return msgspec.json.decode(value, type=ScheduledEvent)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ScheduleError(f"not a schedule: {error}") from error


@dataclass(frozen=True, slots=True)
class Due:
    """What one transaction writes: events to emit, and keys of records to remove."""

    events: list[ScheduledEvent]
    removed: list[bytes]


class Timetable:
    """What is pending, as the topic's records say that were taken in so far, in their order."""

    def __init__(self) -> None:
        self._pending: dict[bytes, tuple[int, ScheduledEvent]] = {}
        self._named: dict[tuple[str, str], bytes] = {}
        self._heap: list[tuple[int, int, bytes]] = []
        self._obsolete: dict[bytes, None] = {}

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
            return
        match decode_schedule(value):
            case Cancellation(tenant=tenant, cancelled=name):
                self._retire((tenant, name))
                self._obsolete[key] = None
            case ScheduledEvent() as event:
                self._drop(key)
                if event.name is not None:
                    self._retire((event.tenant, event.name))
                    self._named[event.tenant, event.name] = key
                self._pending[key] = (offset, event)
                heapq.heappush(self._heap, (event.due_ms, offset, key))

    def take_due(self, now_ms: int, count: int) -> Due:
        """What is to be written now, so many events at most, the earliest first."""
        events: list[ScheduledEvent] = []
        removed = list(self._obsolete)
        self._obsolete.clear()
        while self._heap and self._heap[0][0] <= now_ms and len(events) < count:
            time = heapq.heappop(self._heap)
            if self._is_pending(time):
                key = time[2]
                events.append(self._pending[key][1])
                removed.append(key)
                self._drop(key)
        return Due(events, removed)

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
