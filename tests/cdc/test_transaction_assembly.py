from __future__ import annotations

import json
import struct
from dataclasses import replace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc.change_group import ChangeGroup, GroupLimits
from cdc.errors import SourceFormatError
from cdc.message_encoder import MessageEncoder
from cdc.pgoutput import POSTGRES_EPOCH_US, Column, Relation
from cdc.progress import PostgresProgress
from cdc.row_encoder import RowEncoder
from cdc.transaction_assembly import TransactionAssembly
from events.lsn import Lsn
from events.values.types import encoder_for

RELATION = Relation(
    16_400,
    "public",
    "orders",
    "d",
    (Column("id", True, 23, -1), Column("note", False, 25, -1)),
)
START = PostgresProgress("1", 1, Lsn(100), Lsn(100))


def assembly_at(
    progress: PostgresProgress = START,
    *,
    tombstones: bool = False,
    limits: GroupLimits | None = None,
) -> TransactionAssembly:
    assembly = TransactionAssembly(
        "shop",
        progress,
        messages=MessageEncoder("shop", "db", "rowcast.events"),
        tombstones=tombstones,
        limits=limits,
    )
    encoders = [encoder_for(column.type_oid) for column in RELATION.columns]
    assembly.define(RowEncoder("shop", "db", RELATION, ["id"], encoders))
    assembly.set_clock(5)
    return assembly


def begin(commit: int) -> bytes:
    return b"B" + struct.pack(">QqI", commit, 1_000_000_000 - POSTGRES_EPOCH_US, 739)


def commit(commit: int, end: int) -> bytes:
    return b"C" + struct.pack(">BQQq", 0, commit, end, 0)


def value(raw: bytes) -> bytes:
    return b"t" + struct.pack(">I", len(raw)) + raw


def row(number: int, note: bytes = b"x") -> bytes:
    return struct.pack(">H", 2) + value(b"%d" % number) + value(note)


def insert(number: int) -> bytes:
    return b"I" + struct.pack(">I", RELATION.oid) + b"N" + row(number)


def move(old: int, new: int) -> bytes:
    key = struct.pack(">H", 2) + value(b"%d" % old) + b"n"
    return b"U" + struct.pack(">I", RELATION.oid) + b"K" + key + b"N" + row(new)


def said(position: int) -> bytes:
    return b"M" + struct.pack(">BQ", 0, position) + b"mail\0" + struct.pack(">I", 2) + b"{}"


def bodies(group: ChangeGroup) -> list[dict[str, Any]]:  # pyright: ignore[reportExplicitAny] - decoded JSON
    return [
        cast("dict[str, Any]", json.loads(record[1] or b""))  # pyright: ignore[reportExplicitAny] - decoded JSON
        for records in group.records.values()
        for record in records
    ]


def test_an_envelope_is_as_the_design_says() -> None:
    assembly = assembly_at()
    for message in (begin(0x16B3748), insert(7), commit(0x16B3748, 0x16B3778)):
        assembly.feed(message)
    group, progress = assembly.take()
    ((topic, ((key, raw, headers, timestamp_ms),)),) = group.records.items()
    assert (topic, key, headers, timestamp_ms) == ("shop.public.orders", b'{"id":7}', [], 1_000_000)
    assert json.loads(raw or b"") == {
        "id": "shop/00000000016B3748/1",
        "type": "db.shop.public.orders.created",
        "op": "c",
        "before": None,
        "after": {"id": 7, "note": "x"},
        "changed": None,
        "unavailable": [],
        "source": {
            "connector": "postgresql",
            "name": "shop",
            "db": "db",
            "schema": "public",
            "table": "orders",
            "lsn": 0x16B3748,
            "txId": 739,
            "ts_ms": 1_000_000,
            "snapshot": "false",
        },
        "transaction": {"id": f"739:{0x16B3748}", "total_order": 1},
        "ts_ms": 5,
    }
    assert progress == PostgresProgress("1", 1, Lsn(0x16B3748), Lsn(0x16B3778))


def test_a_transaction_whose_commit_begins_at_the_end_of_progress_is_not_skipped() -> None:
    assembly = assembly_at()
    for message in (begin(100), insert(1), commit(100, 120)):
        assembly.feed(message)
    assert len(bodies(assembly.take()[0])) == 1


def test_a_published_transaction_that_comes_again_is_skipped_and_moves_nothing() -> None:
    assembly = assembly_at(PostgresProgress("1", 1, Lsn(90), Lsn(100)))
    for message in (begin(90), insert(1), commit(90, 100)):
        assembly.feed(message)
    group, progress = assembly.take()
    assert not group
    assert progress == PostgresProgress("1", 1, Lsn(90), Lsn(100))


@given(
    st.lists(st.none() | st.lists(st.booleans(), min_size=1, max_size=6), min_size=1, max_size=6),
    st.data(),
)
def test_wherever_it_is_cut_and_started_again_each_change_is_there_once(
    entries: list[list[bool] | None], data: st.DataObject
) -> None:
    """An entry is a transaction's changes, or a message of no transaction."""
    messages: list[bytes] = []
    records: list[tuple[int, int, int]] = []
    position = START.end.value
    for changes in entries:
        # Records follow each other without a gap: one begins where the one before ends.
        start, end, first = position, position + 20, len(messages)
        if changes is None:
            messages.append(said(end))
        else:
            messages.append(begin(start))
            for index, moved in enumerate(changes):
                messages.append(move(index, index + 100) if moved else insert(index))
            messages.append(commit(start, end))
        records.append((start, first, len(messages)))
        position = end
    whole = assembly_at()
    for message in messages:
        whole.feed(message)
    expected = sorted(body["id"] for body in bodies(whole.take()[0]))

    cut = data.draw(st.integers(0, len(messages)))
    first_run = assembly_at()
    for message in messages[:cut]:
        first_run.feed(message)
    published, progress = first_run.take()
    again = assembly_at(progress)
    # The server sends again all whose record, of the commit or the message, begins at the end or
    # after it.
    for start, first, last in records:
        if start >= progress.end.value:
            for message in messages[first:last]:
                again.feed(message)
    rest, last_progress = again.take()
    assert sorted(body["id"] for body in bodies(published) + bodies(rest)) == expected
    assert last_progress == whole.progress


def test_a_message_that_comes_again_is_skipped() -> None:
    assembly = assembly_at()
    for message in (said(200), said(200), said(150)):
        assembly.feed(message)
    group, progress = assembly.take()
    assert [body["id"] for body in bodies(group)] == ["shop/00000000000000C8"]
    assert progress == replace(START, commit=Lsn(200), end=Lsn(200))
    assembly.feed(begin(200))
    assembly.feed(insert(1))
    assert len(bodies(assembly.take()[0])) == 1


def test_a_message_of_no_transaction_inside_of_one_is_refused() -> None:
    assembly = assembly_at()
    assembly.feed(begin(200))
    with pytest.raises(SourceFormatError, match="inside of one"):
        assembly.feed(said(150))


@given(st.lists(st.integers(1, 12), min_size=1, max_size=20))
def test_a_transaction_up_to_the_limits_is_whole_in_one_group(sizes: list[int]) -> None:
    assembly = assembly_at(limits=GroupLimits(10, 1 << 20))
    groups: list[list[str]] = []
    position = START.end.value

    def feed(message: bytes) -> None:
        while assembly.is_full:
            group, _ = assembly.take()
            groups.append([body["transaction"]["id"] for body in bodies(group)])
        assembly.feed(message)

    for size in sizes:
        feed(begin(position))
        for number in range(size):
            feed(insert(number))
        feed(commit(position, position := position + 20))
    groups.append([body["transaction"]["id"] for body in bodies(assembly.take()[0])])
    assert sum(map(len, groups)) == sum(sizes)
    assert max(map(len, groups)) <= 20
    for number, size in enumerate(sizes):
        identity = f"739:{START.end.value + 20 * number}"
        holding = [group for group in groups if identity in group]
        assert len(holding) == 1 or size > 10


def test_heartbeats_between_do_not_lose_the_ordinal() -> None:
    first = assembly_at()
    for message in (begin(200), insert(1), insert(2)):
        first.feed(message)
    _, progress = first.take()
    assert (progress.commit, progress.end, progress.ordinal) == (Lsn(200), Lsn(100), 2)
    again = assembly_at(progress)
    assert again.advance(Lsn(150)) == PostgresProgress("1", 1, Lsn(200), Lsn(150), 2)
    for message in (begin(200), insert(1), insert(2), insert(3), commit(200, 220)):
        again.feed(message)
    assert [body["after"]["id"] for body in bodies(again.take()[0])] == [3]


def test_a_heartbeat_past_a_cut_transaction_that_never_came_again_forgets_it() -> None:
    again = assembly_at(PostgresProgress("1", 1, Lsn(200), Lsn(100), 2))
    assert again.advance(Lsn(250)) == PostgresProgress("1", 1, Lsn(200), Lsn(250))


def test_a_change_outside_of_a_transaction_is_refused() -> None:
    with pytest.raises(SourceFormatError, match="outside of a transaction"):
        assembly_at().feed(insert(1))


def test_a_change_of_a_table_that_was_not_announced_is_refused() -> None:
    assembly = TransactionAssembly("shop", START)
    assembly.feed(begin(100))
    with pytest.raises(SourceFormatError, match="not announced"):
        assembly.feed(insert(1))


def test_what_rowcast_keeps_in_a_source_is_no_change_and_takes_no_ordinal() -> None:
    assembly = assembly_at()
    own = 17_000
    assembly.ignore(own)
    kept = insert(1).replace(struct.pack(">I", RELATION.oid), struct.pack(">I", own))
    moved = move(1, 2).replace(struct.pack(">I", RELATION.oid), struct.pack(">I", own))
    for message in (begin(200), kept, insert(5), moved, insert(6), commit(200, 220)):
        assembly.feed(message)
    group, _ = assembly.take()
    assert [(body["after"]["id"], body["id"][-2:]) for body in bodies(group)] == [
        (5, "/1"),
        (6, "/2"),
    ]


def delete(number: int) -> bytes:
    key = struct.pack(">H", 2) + value(b"%d" % number) + b"n"
    return b"D" + struct.pack(">I", RELATION.oid) + b"K" + key


def test_a_null_follows_each_delete_of_a_key_and_is_no_change_of_its_own() -> None:
    frames = [begin(200), insert(1), move(1, 2), delete(2), insert(3), commit(200, 208)]
    for skipped in range(5):
        at = PostgresProgress("1", 1, Lsn(200), Lsn(100), skipped) if skipped else START
        assembly = assembly_at(at, tombstones=True)
        for frame in frames:
            assembly.feed(frame)
        records = assembly.take()[0].records["shop.public.orders"]
        told = [
            (record[0], json.loads(record[1])["transaction"]["total_order"] if record[1] else None)
            for record in records
        ]
        one, two, three = b'{"id":1}', b'{"id":2}', b'{"id":3}'
        every = [(one, 1), (one, 2), (one, None), (two, 3), (two, 4), (two, None), (three, 5)]
        first = next(place for place, item in enumerate(every) if item[1] == skipped + 1)
        assert told == every[first:]
