"""Both sides of a comparison, a table's rows and what its topic says, in a temporary file.

SQLite keeps them by key in a bounded cache, so memory does not grow with the table: what does not
fit is in the file, which takes about what the rows take as JSON, twice. Written once and thrown
away, so nothing is synced.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeAlias

import msgspec

from cdc.topic_record import Position

CACHE_BYTES = 64 * 1024 * 1024
"""What SQLite keeps of one table's file in memory."""

_TABLES = """
    create table rows (key blob primary key, row blob, count integer) without rowid;
    create table told (key blob primary key, row blob, unavailable blob, lsn integer,
        ordinal integer, id text, read_id text, count integer) without rowid;
    create table transactions (lsn integer primary key, count integer, sum integer, last integer);
"""
_PUT_ROW = """
    insert into rows values (?, ?, 1) on conflict do update set count = count + 1
"""
_PUT_STATE = "insert or replace into told values (?, ?, ?, ?, ?, ?, ?, ?)"
_STATE = "select row, unavailable, lsn, ordinal, id, read_id, count from told where key = ?"
_COUNT_TRANSACTION = """
    insert into transactions values (?, ?, ?, ?) on conflict do update set
        count = count + excluded.count, sum = sum + excluded.sum, last = max(last, excluded.last)
"""
_TORN = """
    select lsn, count, last from transactions
    where count <> last or sum <> last * (last + 1) / 2 order by lsn
"""
_NOT_AS_TOLD = """
    select r.key, r.row, r.count, t.row, t.unavailable, t.lsn, t.ordinal, t.id, t.read_id, t.count
    from rows r left join told t on t.key = r.key
    where t.row is null or t.row <> r.row or t.count <> r.count
"""
_NOT_THERE = """
    select t.key, null, 0, t.row, t.unavailable, t.lsn, t.ordinal, t.id, t.read_id, t.count
    from told t where t.row is not null and t.count <> 0
        and not exists (select from_row.key from rows from_row where from_row.key = t.key)
"""


class ToldState(NamedTuple):
    """The last that a topic says of a key: the row (None: it is gone), and by which event.

    `unavailable` are columns that no record of the key told. `read_id` is the last event of the
    key that a snapshot wrote. `copies` is how many equal rows there are, of a table without a key.
    """

    row: bytes | None
    unavailable: tuple[str, ...]
    position: Position
    id: str
    read_id: str
    copies: int = 1


class Compared(NamedTuple):
    """A key of which table and topic do not say the same, byte for byte.

    `row` is None where the table has none, `told` where the topic never had one.
    """

    key: bytes
    row: bytes | None
    copies: int
    told: ToldState | None


Tally: TypeAlias = "tuple[int, int, int, int]"
"""Of one transaction, in part: commit, how many changes, the sum of their ordinals, the last."""


class TornTransaction(NamedTuple):
    """A transaction of which not all ordinals from 1 to the last are on the topics, once each."""

    lsn: int
    changes: int
    last: int


class VerificationStore:
    """The file of one table, or of one source's transactions; gone when closed."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._database = sqlite3.connect(file, isolation_level=None)
        self._database.executescript(
            f"pragma journal_mode = off; pragma synchronous = off; pragma locking_mode = exclusive;"
            f"pragma cache_size = -{CACHE_BYTES // 1024}; {_TABLES} begin"
        )

    def put_rows(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """Rows of the table by key; the same key again counts as one more equal row."""
        self._database.executemany(_PUT_ROW, rows)

    def settle(self) -> None:
        """Have all that was put in the file, and give the cache back."""
        for statement in ("commit", "pragma shrink_memory", "begin"):
            self._database.execute(statement)

    def state(self, key: bytes) -> ToldState | None:
        """What the topic says of a key, so far as it was put."""
        found = self._database.execute(_STATE, (key,)).fetchone()
        return None if found is None else _state(*found)

    def put_states(self, states: Iterable[tuple[bytes, ToldState]]) -> None:
        """What the topic says of keys now."""
        self._database.executemany(
            _PUT_STATE,
            (
                (
                    key,
                    state.row,
                    _encode_names(state.unavailable),
                    *state.position,
                    state.id,
                    state.read_id,
                    state.copies,
                )
                for key, state in states
            ),
        )

    def forget_before(self, position: Position) -> None:
        """Drop states from before the table was emptied."""
        self._database.execute("delete from told where (lsn, ordinal) < (?, ?)", position)

    def count_transactions(self, tallies: Iterable[Tally]) -> None:
        """Add to what is known of transactions."""
        self._database.executemany(_COUNT_TRANSACTION, tallies)

    def torn_transactions(self) -> Iterator[TornTransaction]:
        """Transactions that are not there whole, in their order."""
        for lsn, count, last in self._database.execute(_TORN):
            yield TornTransaction(lsn, count, last)

    @property
    def transaction_count(self) -> int:
        """How many transactions are known of."""
        (count,) = self._database.execute("select count(*) from transactions").fetchone()
        return int(count)

    @property
    def row_count(self) -> int:
        """How many rows the table has."""
        (count,) = self._database.execute("select coalesce(sum(count), 0) from rows").fetchone()
        return int(count)

    def compared(self) -> Iterator[Compared]:
        """Keys of which rows and states differ in any byte."""
        for query in (_NOT_AS_TOLD, _NOT_THERE):
            for key, row, count, told, *rest in self._database.execute(query):
                # Of a key that was never told all columns of the state are null.
                state = None if rest[1] is None else _state(told, *rest)
                yield Compared(key, row, count, state)

    def close(self) -> None:
        """Close and delete the file."""
        self._database.close()
        self._file.unlink(missing_ok=True)


def _state(
    row: bytes | None,
    unavailable: bytes,
    lsn: int,
    ordinal: int,
    event_id: str,
    read_id: str,
    count: int,
) -> ToldState:
    columns = _NAMES.decode(unavailable) if unavailable else ()
    return ToldState(row, columns, (lsn, ordinal), event_id, read_id, count)


def _encode_names(names: tuple[str, ...]) -> bytes:
    return msgspec.json.encode(names) if names else b""


_NAMES = msgspec.json.Decoder(tuple[str, ...])
