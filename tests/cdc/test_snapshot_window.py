from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc.change_group import ChangeGroup
from cdc.snapshot_chunk import Note, SnapshotChunk
from cdc.snapshot_window import SnapshotWindow, VisibleTransactions

TOPIC = "shop.public.items"


def test_a_snapshot_reads_and_writes_postgres_text() -> None:
    visible = VisibleTransactions.parse("10:20:14,12")
    assert (visible.xmin, visible.xmax, visible.running) == (10, 20, frozenset((12, 14)))
    assert str(visible) == "10:20:12,14"
    assert str(VisibleTransactions.parse("7:7:")) == "7:7:"


@pytest.mark.parametrize("text", ["", "1:2", "a:b:", "1:2:x"])
def test_text_that_is_no_snapshot_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"unpack|invalid literal"):
        VisibleTransactions.parse(text)


@given(
    st.integers(3, 1 << 40), st.integers(-(1 << 31) + 1, (1 << 31) - 1), st.sets(st.integers(0, 50))
)
def test_ids_of_the_log_are_compared_in_64_bits_across_wraparound(
    xmax: int, distance: int, running: set[int]
) -> None:
    full = xmax + distance
    visible = VisibleTransactions(xmax - 60, xmax, frozenset(xmax - 1 - one for one in running))
    if full < 0:
        return
    assert visible.full_id(full % (1 << 32)) == full
    assert visible.sees(full % (1 << 32)) == (full < xmax and full not in visible.running)


def test_a_frozen_id_of_another_age_is_not_taken_for_one_written_since() -> None:
    first, now = 3_000_000_000, VisibleTransactions(3_000_000_100, 3_000_000_100, frozenset())
    assert now.saw_written_since(3_000_000_050, first)
    assert now.saw_written_since(3_000_000_000, first)
    assert not now.saw_written_since(2_999_999_999, first)
    assert not now.saw_written_since(3_000_000_101, first)
    assert not now.saw_written_since(5, first)
    assert not now.saw_written_since(2, first)


def test_past_its_bound_the_window_asks_for_a_chunk_that_has_seen_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cdc.snapshot_window.KEYS_MAX", 10)
    window = SnapshotWindow()
    for xid in range(100, 120):
        window.begin(xid)
        window.touch(TOPIC, b"%d" % xid)
    assert window.stale_keys(TOPIC, VisibleTransactions(105, 130, frozenset())) is None
    seen = VisibleTransactions(130, 130, frozenset())
    assert window.stale_keys(TOPIC, seen) == set()
    window.forget(seen)
    window.begin(140)
    window.touch(TOPIC, b"x")
    assert window.stale_keys(TOPIC, seen) == {b"x"}


@dataclass
class Database:
    """A table whose commits are in the log before they are visible, as PostgreSQL's are."""

    rows: dict[int, int] = field(default_factory=dict[int, int])
    visible: dict[int, int] = field(default_factory=dict[int, int])
    waiting: list[tuple[int, dict[int, int | None]]] = field(
        default_factory=list[tuple[int, dict[int, "int | None"]]]
    )
    next_xid: int = 100

    def commit(self, changes: dict[int, int | None]) -> int:
        """A commit record is in the log; it becomes visible later."""
        xid, self.next_xid = self.next_xid, self.next_xid + 1
        _apply(self.rows, changes)
        self.waiting.append((xid, changes))
        return xid

    def show(self, index: int) -> None:
        """One of the waiting commits becomes visible; each row's commits do so in order."""
        for position, (_, changes) in enumerate(self.waiting):
            earlier = [key for _, before in self.waiting[:position] for key in before]
            if position >= index and not set(changes) & set(earlier):
                _apply(self.visible, changes)
                del self.waiting[position]
                return

    def snapshot(self) -> VisibleTransactions:
        running = frozenset(xid for xid, _ in self.waiting)
        return VisibleTransactions(min(running, default=self.next_xid), self.next_xid, running)


def _apply(rows: dict[int, int], changes: dict[int, int | None]) -> None:
    for key, value in changes.items():
        if value is None:
            rows.pop(key, None)
        else:
            rows[key] = value


@given(st.integers(0, 1 << 32), st.integers(1, 6), st.sampled_from([5, 1_000]))
def test_whatever_comes_between_the_compacted_topic_ends_as_the_table(
    seed: int, chunk_keys: int, keys_max: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cdc.snapshot_window.KEYS_MAX", keys_max)
        Simulation(random.Random(seed), chunk_keys).run()


class Simulation:
    """Commits, their becoming visible, chunks and capture's reading, in an order by chance."""

    def __init__(self, chance: random.Random, chunk_keys: int) -> None:
        self.chance = chance
        self.chunk_keys = chunk_keys
        self.keys, self.values = range(24), iter(range(1 << 30))
        first = dict.fromkeys(self.keys[::2], -1)
        self.database = Database(dict(first), dict(first))
        self.log: list[tuple[int, dict[int, int | None]] | SnapshotChunk] = []
        self.window = SnapshotWindow()
        self.topic: dict[bytes, bytes | None] = {}
        self.placed: list[bool] = []
        self.position = 0
        self.chunk_open = False

    def run(self) -> None:
        for _ in range(400):
            {"c": self.commit, "s": self.show, "f": self.feed, "r": self.read}[
                self.chance.choice("cccssffr")
            ]()
        while self.position < len(self.keys) or self.log:
            while self.database.waiting:
                self.database.show(0)
            self.feed()
            self.read()
        left = {int(key): int(value) for key, value in self.topic.items() if value is not None}
        assert left == self.database.rows

    def commit(self) -> None:
        changed = self.chance.sample(self.keys, self.chance.randint(1, 3))
        changes = {
            key: self.chance.choice((next(self.values), next(self.values), None)) for key in changed
        }
        self.log.append((self.database.commit(changes), changes))

    def show(self) -> None:
        if self.database.waiting:
            self.database.show(self.chance.randrange(len(self.database.waiting)))

    def read(self) -> None:
        if self.chunk_open or self.position >= len(self.keys):
            return
        self.chunk_open = True
        visible = self.database.visible
        part = self.keys[self.position : self.position + self.chunk_keys]
        rows = [(b"%d" % key, b"%d" % visible[key]) for key in part if key in visible]
        self.log.append(
            SnapshotChunk(
                token=b"t",
                topic=TOPIC,
                visible=self.database.snapshot(),
                rows=rows,
                keyed=True,
                is_last=False,
                timestamp_ms=0,
                notes=[Note("notes", b"k", b"v")],
                on_placed=self.placed.append,
            )
        )

    def feed(self) -> None:
        if not self.log:
            return
        entry = self.log.pop(0)
        if isinstance(entry, SnapshotChunk):
            self.place(entry)
            return
        xid, changes = entry
        self.window.begin(xid)
        for key, value in changes.items():
            self.window.touch(TOPIC, b"%d" % key)
            self.topic[b"%d" % key] = None if value is None else b"%d" % value

    def place(self, chunk: SnapshotChunk) -> None:
        group = ChangeGroup()
        chunk.place(group, self.window)
        for key, value, _, _ in group.records.get(TOPIC, []):
            assert key is not None
            self.topic[key] = value
        assert bool(group.records.get("notes")) == self.placed[-1]
        self.position += self.chunk_keys if self.placed[-1] else 0
        self.chunk_open = False
