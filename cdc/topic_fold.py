"""What a table's topic says as of one snapshot of the database: the last state of each key.

A change belongs to it where its transaction is visible in the snapshot, which is judged by
transaction ids as in `snapshot_window` and never by LSN. The visible changes of a key are the
first of those on the topic, since whoever changes a row next waits until the one before is
visible. So the fold is exact however many writes go on. Records are given in the order of each
partition; memory is bounded, states go to the store.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from cdc.errors import SourceFormatError
from cdc.snapshot_window import VisibleTransactions
from cdc.topic_record import (
    Position,
    TopicRecord,
    decode_record,
    decode_row,
    encode_row,
    plain_record,
)
from cdc.verification_store import Tally, ToldState, VerificationStore
from events.lsn import Lsn

_HELD_STATES = 20_000
_HELD_BYTES = 16 * 1024 * 1024
_HELD_TRANSACTIONS = 20_000
_START: Position = (0, 0)
_NOTHING = ToldState(None, (), _START, "", "")


@dataclass(frozen=True, slots=True)
class ReadingMoment:
    """The snapshot in which a table was read.

    `before` is the end of the log at a moment before it, `after` at one after it: all that is
    visible stands before `after`. `next_id` is an id (64 bits) beyond all that were given by then.
    """

    visible: VisibleTransactions
    before: Lsn
    after: Lsn
    next_id: int

    def sees(self, xid: int, commit: int) -> bool:
        """Whether a change of a topic is visible."""
        if self.visible.sees(xid):
            return True
        full = self.visible.full_id(xid)
        # An id that was not given yet is one of 2**32 transactions ago.
        return commit < self.before.value and full >= self.next_id


class TopicFold:
    """The states of one topic, keyed or (by the whole row) not.

    `loaded` says whether a snapshot has ever read rows of the table. `on_problem` is told of a
    record that breaks a promise: what it is, and where. `lettered` are the positions of changes
    that were too large for the topic, by key.
    """

    def __init__(
        self,
        store: VerificationStore,
        moment: ReadingMoment,
        on_problem: Callable[[str, str], None],
        *,
        keyed: bool,
        loaded: bool,
        lettered: Mapping[bytes, Sequence[Position]],
    ) -> None:
        self._lettered = lettered
        self._store = store
        self._moment = moment
        self._on_problem = on_problem
        self._keyed = keyed
        self._loaded = loaded
        self._held: dict[bytes, ToldState] = {}
        self._held_bytes = 0
        self._last: dict[int, Position] = {}
        self._emptied = _START
        self.record_count = 0

    def take(self, partition: int, offset: int, key: bytes | None, value: bytes | None) -> None:
        """One record of the topic."""
        if value is None:
            # A tombstone, behind the delete that said it.
            return
        self.record_count += 1
        place = f"partition {partition}, offset {offset}"
        try:
            key, value = plain_record(key, value)
            record = decode_record(value or b"")
            self._take(record, partition, place, key)
        except SourceFormatError as error:
            self._on_problem("unreadable", f"{place}: {error}")

    def finish(self) -> None:
        """All records are given."""
        self._flush()
        self._store.forget_before(self._emptied)

    def _take(self, record: TopicRecord, partition: int, place: str, key: bytes | None) -> None:
        if record.op == "r":
            # One read later may be newer than the table was read; it is of a load begun since.
            if record.source.lsn < self._moment.before.value:
                self._read(record, place, key)
            return
        position = record.position
        if position <= self._last.get(partition, _START):
            self._on_problem(
                "repeated",
                f"{place}: the event {record.id} is not beyond the one before it in its partition; "
                "it was published twice, or out of order",
            )
        else:
            self._last[partition] = position
        if record.source.txId is None:
            raise SourceFormatError(f"the change {record.id} names no transaction")
        if not self._moment.sees(record.source.txId, record.source.lsn):
            return
        if record.op == "t":
            self._emptied = max(self._emptied, position)
            if not self._keyed:
                self._flush()
                self._store.forget_before(position)
        elif self._keyed:
            self._change(record, _given(key, record))
        else:
            self._count(record, record.old_row, -1)
            self._count(record, record.row, 1)

    def _read(self, record: TopicRecord, place: str, key: bytes | None) -> None:
        identity = _given(key, record) if self._keyed else b"read" + record.id.encode()
        before = self._state(identity) or _NOTHING
        if before.read_id == record.id:
            self._on_problem(
                "repeated", f"{place}: the event {record.id} of a snapshot was published twice"
            )
        if self._keyed:
            self._hold(identity, _state_of(record, record.row, (), record.id))
            return
        # Kept by its id only, so that it is known again.
        self._hold(identity, _state_of(record, None, (), record.id))
        self._count(record, record.row, 1)

    def _change(self, record: TopicRecord, key: bytes) -> None:
        before = self._state(key)
        read_id = before.read_id if before is not None else ""
        row, unavailable = record.row, record.unavailable
        if unavailable and row is not None and before is not None and before.row is not None:
            between = (before.position < at < record.position for at in self._lettered.get(key, ()))
            if not any(between):
                row, unavailable = _filled(row, unavailable, before)
        self._hold(key, _state_of(record, row, unavailable, read_id))

    def _count(self, record: TopicRecord, row: bytes | None, difference: int) -> None:
        if row is None:
            return
        key = row_digest(row)
        before = self._state(key)
        count = (before.copies if before is not None else 0) + difference
        if self._loaded:
            # A snapshot leaves out what the stream has; a row's end may come without its beginning.
            count = max(count, 0)
        self._hold(key, _state_of(record, row, (), "")._replace(copies=count))

    def _state(self, key: bytes) -> ToldState | None:
        held = self._held.get(key)
        return held if held is not None else self._store.state(key)

    def _hold(self, key: bytes, state: ToldState) -> None:
        self._held[key] = state
        self._held_bytes += len(key) + len(state.row or b"")
        if len(self._held) >= _HELD_STATES or self._held_bytes >= _HELD_BYTES:
            self._flush()

    def _flush(self) -> None:
        self._store.put_states(self._held.items())
        self._held.clear()
        self._held_bytes = 0


class TransactionTally:
    """Which changes of each transaction are on a source's topics, up to a position."""

    def __init__(self, store: VerificationStore, source: str, end: Lsn) -> None:
        self._store = store
        self._source = source
        self._end = end.value
        self._held: dict[int, Tally] = {}

    def take(self, value: bytes | None) -> None:
        """A record of any topic; one that is no change of the source is left out."""
        if value is None:
            return
        try:
            _, value = plain_record(None, value)
            place = _PLACE.decode(value or b"")
        except (msgspec.DecodeError, SourceFormatError):
            return
        if place.transaction is None or place.source.name != self._source:
            return
        self.count(place.source.lsn, place.transaction.total_order)

    def count(self, lsn: int, order: int) -> None:
        """A change, given by its commit and its ordinal."""
        if lsn >= self._end:
            return
        _, count, total, last = self._held.get(lsn, (lsn, 0, 0, 0))
        self._held[lsn] = lsn, count + 1, total + order, max(last, order)
        if len(self._held) >= _HELD_TRANSACTIONS:
            self.flush()

    def flush(self) -> None:
        """Hand what is held to the store."""
        self._store.count_transactions(self._held.values())
        self._held.clear()


class _Commit(msgspec.Struct):
    lsn: int
    name: str


class _Order(msgspec.Struct):
    total_order: int


class _Place(msgspec.Struct):
    source: _Commit
    transaction: _Order | None = None


_PLACE = msgspec.json.Decoder(_Place)


def row_digest(row: bytes) -> bytes:
    """What stands for a row in a table without a key."""
    return hashlib.blake2b(row, digest_size=16).digest()


def _given(key: bytes | None, record: TopicRecord) -> bytes:
    if key is None:
        raise SourceFormatError(f"the change {record.id} has no key, the table has one")
    return key


def _state_of(
    record: TopicRecord, row: bytes | None, unavailable: tuple[str, ...], read_id: str
) -> ToldState:
    return ToldState(row, unavailable, record.position, record.id, read_id)


def _filled(
    row: bytes, unavailable: tuple[str, ...], before: ToldState
) -> tuple[bytes, tuple[str, ...]]:
    """A row with the large values that an update left alone, where the state before has them."""
    known = decode_row(before.row or b"{}")
    columns = decode_row(row)
    still = tuple(name for name in unavailable if name not in known)
    columns |= {name: known[name] for name in unavailable if name in known}
    return encode_row(columns), still
