"""How far a source's server log is read, as the record on `rowcast.progress` that says so.

Its key is `{"source": "<name>", "log": "pgaudit"}`. A position in a file alone says nothing once
files are replaced, so it goes with what the file begins with, and with when it was last written,
by which its successors are known. Pure.
"""

from __future__ import annotations

import msgspec

from cdc.errors import CaptureGapError, ProgressFormatError
from events.event import OutgoingEvent, make_event

READ_LOG = "pgaudit"

HEAD_BYTES = 96
"""Of a file's beginning: its first record's time to the millisecond, and process or user."""

_TOLD_MAX = 64


class LogPlace(msgspec.Struct, frozen=True):
    """Where in the server's log: file, byte, what the file begins with, when it was written (s).

    What was written before `since` (s) was read in files of another format.
    """

    file: str
    position: int = 0
    head: str = ""
    written: float = 0.0
    since: float = 0.0


class LogProgress(msgspec.Struct, frozen=True):
    """What is published of a log.

    `audit` is the id of the audit that it belongs to: when reads were no longer asked for and
    then are again, what was read before says nothing. `tables` are those asked for when it was
    read. `told` are the last ids of the sessions that read last: entries of one statement may
    stand on both sides of the place. `seen_ms` is when all up to the place had been read.
    """

    audit: str
    place: LogPlace
    tables: tuple[tuple[str, str], ...] = ()
    told: dict[str, tuple[str, ...]] = {}
    seen_ms: int = 0

    def encode(self) -> bytes:
        """The record's value."""
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, value: bytes) -> LogProgress:
        """Raises ProgressFormatError where the value is none."""
        try:
            return msgspec.json.decode(value, type=cls)
        except msgspec.DecodeError as error:
            raise ProgressFormatError(
                f"the progress record {value[:200]!r} of a log cannot be read: {error}"
            ) from error


class ToldReads:
    """Ids of reads just told, by session: a statement that names a table twice has read it once.

    The entries of a statement come one behind the other in its session, so the ids of a
    session's last statement are enough, and those of the sessions that spoke last.
    """

    def __init__(self, told: dict[str, tuple[str, ...]]) -> None:
        self._told = {session: list(ids) for session, ids in told.items()}

    def is_new(self, session: str, statement: str, identity: str) -> bool:
        """Whether a read of a statement was not told yet; from now on it is."""
        known = self._told.pop(session, [])
        if not known or known[0] != statement:
            known = [statement]
        is_new = identity not in known[1:]
        if is_new:
            known.append(identity)
        # Behind all others: the first is the one that spoke longest ago.
        self._told[session] = known
        if len(self._told) > _TOLD_MAX:
            del self._told[next(iter(self._told))]
        return is_new

    def state(self) -> dict[str, tuple[str, ...]]:
        """For the progress."""
        return {session: tuple(ids) for session, ids in self._told.items()}


class LogGap(msgspec.Struct, frozen=True):
    """A piece of a log that could not be read: which, since when, and why."""

    source: str
    file: str
    position: int
    since_ms: int
    reason: str

    @property
    def event_id(self) -> str:
        """Deterministic: the same gap has the same id."""
        return f"{self.source}/{READ_LOG}/{self.file}/{self.position}/gap"

    def event(self, now_ms: int) -> OutgoingEvent:
        """The event for `rowcast.events`."""
        return make_event(
            event_id=self.event_id,
            event_type="system.gap",
            data={
                "source": self.source,
                "connector": "postgresql",
                "log": READ_LOG,
                "reason": self.reason,
                "file": self.file,
                "position": self.position,
                "since_ms": self.since_ms,
            },
            ts_ms=now_ms,
            key=self.source,
        )

    def error(self) -> CaptureGapError:
        """What to write to our own log."""
        return CaptureGapError(
            f"reads of {self.source} may be missing among the events: {self.reason} "
            f"({self.file} from byte {self.position})"
        )
