"""How far the profilers of a source are read, as the record on `rowcast.progress` that says so.

Its key is `{"source": "<name>", "log": "profiler"}`. The profiler's collection is capped, is not
replicated, and what mongod writes into it just before it is killed is lost, so that records are
numbered anew from an older one. A place therefore names the mongod's run and the collection it is
of. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from cdc.errors import ProgressFormatError
from events.event import OutgoingEvent, make_event

PROFILER_LOG = "profiler"


class ProfilePlace(msgspec.Struct, frozen=True):
    """What is told of one database's profiler on one mongod.

    All entries up to `record` are; so are those up to `floor_record` that are not younger than
    `floor_ms`, which an earlier run of the mongod wrote. `last_ms` is when the last one told ran,
    `seen_ms` when all there was had been read, as the audit's `version` asked, of `collections`.
    `setting` is a digest of how the profiler was set. An `ended` one is not gone on from.
    """

    process: str
    collection: str
    record: int = 0
    last_ms: int = 0
    seen_ms: int = 0
    floor_record: int = 0
    floor_ms: int = 0
    setting: str = ""
    collections: tuple[str, ...] = ()
    version: int = 0
    ended: bool = False

    def is_told(self, record: int, at_ms: int) -> bool:
        """Whether an entry is told already."""
        return record <= self.record or (record <= self.floor_record and at_ms <= self.floor_ms)

    def missing_before(self, first: int) -> int:
        """How many entries are gone untold where `first` is the oldest one there is."""
        last = max(self.record, self.floor_record)
        return max(0, first - last - 1) if last else 0

    def restarted(self, process: str) -> ProfilePlace:
        """The place in the same collection of a new run of the mongod."""
        return msgspec.structs.replace(
            self,
            process=process,
            record=0,
            floor_record=max(self.record, self.floor_record),
            floor_ms=max(self.last_ms, self.floor_ms),
        )


class ProfilerProgress(msgspec.Struct, frozen=True):
    """The places of all profilers, by `member/database`, of the audit with an id.

    An audit that was ended and begun again has another id, and older places say nothing then.
    """

    audit: str = ""
    places: dict[str, ProfilePlace] = {}

    def encode(self) -> bytes:
        """The record's value."""
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, value: bytes) -> ProfilerProgress:
        """Raises ProgressFormatError where the value is none."""
        try:
            return msgspec.json.decode(value, type=cls)
        except msgspec.DecodeError as error:
            raise ProgressFormatError(
                f"the progress record {value[:200]!r} of a profiler cannot be read: {error}"
            ) from error

    def has_told(self, audit: str, version: int, profilers: Iterable[str]) -> bool:
        """Whether all is told that these had written down as a version of an audit asked."""
        if audit != self.audit:
            return False
        places = (self.places.get(profiler) for profiler in profilers)
        return all(place is not None and place.version >= version for place in places)


class ProfileGap(msgspec.Struct, frozen=True):
    """Reads that the profiler did not keep: between when, how many where that is known, and why."""

    source: str
    member: str
    database: str
    reason: str
    since_ms: int
    until_ms: int
    count: int | None = None

    def event(self) -> OutgoingEvent:
        """The event for `rowcast.events`."""
        place = f"{self.member}/{self.database}/{self.since_ms}-{self.until_ms}"
        return make_event(
            event_id=f"{self.source}/{PROFILER_LOG}/{place}/gap",
            event_type="system.gap",
            data={
                "source": self.source,
                "connector": "mongodb",
                "log": PROFILER_LOG,
                "reason": self.reason,
                "member": self.member,
                "database": self.database,
                "since_ms": self.since_ms,
                "until_ms": self.until_ms,
                "count": self.count,
            },
            ts_ms=self.until_ms,
            key=self.source,
        )

    def __str__(self) -> str:
        """For our own log."""
        many = "reads" if self.count is None else f"up to {self.count} reads"
        return (
            f"{many} of {self.database} on {self.member} in the last "
            f"{(self.until_ms - self.since_ms) / 1_000:.1f} s are no events of "
            f"{self.source!r}: {self.reason}"
        )
