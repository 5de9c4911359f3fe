"""Which rows of a chunk are older than what capture has put on Kafka already.

A chunk is read in one snapshot of the database and enters the stream at its high watermark, a
message written after the reading. Of the transactions that stand before the watermark some were
not visible to the chunk: the rows they touched are older in the chunk than on Kafka and must be
left out. Visibility is judged by transaction ids and never by LSN: a commit is in the log, and
may have been captured, before the server shows it to anybody, for as long as a synchronous
standby takes. So the window has no low watermark; it remembers what every transaction touched
until a chunk has seen that transaction. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

KEYS_MAX = 100_000
"""Changes remembered at most."""

_EPOCH = 1 << 32
_HALF_EPOCH = 1 << 31


@dataclass(frozen=True, slots=True)
class VisibleTransactions:
    """A pg_snapshot: all ids below `xmin` are visible, none from `xmax` on, none in `running`.

    Ids are of 64 bits and of top-level transactions
    (https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-PG-SNAPSHOT-PARTS).
    """

    xmin: int
    xmax: int
    running: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> VisibleTransactions:
        """From PostgreSQL's text, e.g. `10:20:10,14,15`; raises ValueError for any other."""
        xmin, xmax, running = text.split(":")
        return cls(int(xmin), int(xmax), frozenset(map(int, filter(None, running.split(",")))))

    def __str__(self) -> str:
        """PostgreSQL's text."""
        return f"{self.xmin}:{self.xmax}:{','.join(map(str, sorted(self.running)))}"

    def sees(self, xid: int) -> bool:
        """Whether what a transaction did is visible; `xid` as the log has it, in 32 bits."""
        full = self.full_id(xid)
        return full < self.xmin or (full < self.xmax and full not in self.running)

    def saw_written_since(self, xid: int, first: int) -> bool:
        """Whether a transaction that is visible here has an id from `first` (64 bits) on.

        Of a frozen row the id may be of any age; one beyond all that is visible is old.
        """
        return first <= self.full_id(xid) < self.xmax

    def full_id(self, xid: int) -> int:
        """The 64-bit id, which is less than 2**31 away from xmax: PostgreSQL sees to that."""
        distance = (xid - self.xmax) % _EPOCH
        return self.xmax + (distance if distance < _HALF_EPOCH else distance - _EPOCH)


class SnapshotWindow:
    """What transactions touched that no chunk has seen yet; fed in the stream's order.

    Memory is bounded: past KEYS_MAX it forgets which rows were touched and keeps that a chunk
    must have seen all that was fed by then.
    """

    def __init__(self) -> None:
        self._touched: dict[int, list[tuple[str, bytes | None]]] = {}
        self._current: list[tuple[str, bytes | None]] = []
        self._xid = 0
        self._unknown: set[int] = set()
        self._blurred: int | None = None
        self._count = 0

    def begin(self, xid: int) -> None:
        """A transaction's changes follow."""
        self._xid = xid
        self._current = self._touched[xid] = []

    def touch(self, topic: str, key: bytes | None) -> None:
        """The transaction changed the row with a record key, or moved it from or to there.

        None where the rows of a topic are not told one by one (TRUNCATE).
        """
        self._current.append((topic, key))
        self._count += 1
        if self._count > KEYS_MAX:
            self._blur()

    def touches(self) -> Iterator[tuple[int, str, bytes | None]]:
        """What is remembered: transaction, topic and key, in the order of each transaction."""
        for xid, touched in self._touched.items():
            for topic, key in touched:
                yield xid, topic, key

    def touch_everything(self) -> None:
        """The transaction changed rows that are not known."""
        self._unknown.add(self._xid)

    def stale_keys(self, topic: str, visible: VisibleTransactions) -> set[bytes] | None:
        """Keys whose rows in a chunk are older than what was fed so far.

        None where that may be any of them: the chunk must be read again.
        """
        if self._blurred is not None and visible.full_id(self._blurred) >= visible.xmin:
            return None
        if not all(map(visible.sees, self._unknown)):
            return None
        stale: set[bytes] = set()
        for xid, touched in self._touched.items():
            if visible.sees(xid):
                continue
            for touched_topic, key in touched:
                if touched_topic == topic:
                    if key is None:
                        return None
                    stale.add(key)
        return stale

    def forget(self, visible: VisibleTransactions) -> None:
        """Drop what every later chunk sees, since what is visible once stays so."""
        for xid in [xid for xid in self._touched if visible.sees(xid)]:
            self._count -= len(self._touched.pop(xid))
        self._unknown -= {xid for xid in self._unknown if visible.sees(xid)}
        if self._blurred is not None and visible.full_id(self._blurred) < visible.xmin:
            self._blurred = None

    def _blur(self) -> None:
        # Ids are compared as PostgreSQL does, around the newest.
        near = VisibleTransactions(0, self._xid, frozenset())
        known = [*self._touched, *([] if self._blurred is None else [self._blurred])]
        self._blurred = max(known, key=near.full_id)
        self._touched = {self._xid: []}
        self._current = self._touched[self._xid]
        self._count = 0
