from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest

from cdc.errors import SourceFormatError, SpillError
from cdc.pgoutput_stream import StreamedMessage, decode_abort, decode_commit, decode_streamed
from cdc.postgres import PostgresSource
from cdc.spill import Spill
from cdc.streamed_transaction import StreamedTransactions
from tests.cdc.postgres_place import Envelope, Place, capturing

LARGE: LiteralString = (
    "insert into orders select n, repeat('x', 100) from generate_series({}, {}) n"
)


def _start(xid: int) -> bytes:
    return b"S" + xid.to_bytes(4, "big") + b"\1"


def _commit(xid: int) -> bytes:
    return b"c" + xid.to_bytes(4, "big") + bytes(1) + bytes(24)


def _inside(kind: bytes, xid: int, rest: bytes) -> bytes:
    return kind + xid.to_bytes(4, "big") + rest


def _relation(oid: int, look: bytes) -> bytes:
    return oid.to_bytes(4, "big") + look


def _given(transactions: StreamedTransactions, *messages: bytes) -> list[bytes]:
    given: list[bytes] = []
    for message in messages:
        taken = transactions.take(message)
        if taken is not None:
            given.append(taken)
        while (more := transactions.next()) is not None:
            given.append(more)
    return given


@pytest.fixture
def transactions(tmp_path: Path) -> StreamedTransactions:
    spill = Spill(tmp_path / "spill", 1 << 20)
    spill.clear()
    return StreamedTransactions(spill)


def test_blocks_of_transactions_come_whole_at_their_commit_without_what_was_undone(
    transactions: StreamedTransactions, tmp_path: Path
) -> None:
    given = _given(
        transactions,
        *(_start(7), _inside(b"R", 8, _relation(1, b"a")), _inside(b"I", 8, b"gone"), b"E"),
        *(_start(9), _inside(b"I", 9, b"other"), b"E"),
        *(_start(7), _inside(b"I", 7, b"one"), b"O", _inside(b"I", 10, b"two"), b"E"),
        b"A" + (7).to_bytes(4, "big") + (8).to_bytes(4, "big"),
        b"A" + (9).to_bytes(4, "big") * 2,
        _commit(7),
    )
    kinds = [message[:1] for message in given]
    assert kinds == [b"B", b"R", b"I", b"I", b"C"]
    assert given[2:4] == [b"Ione", b"Itwo"]
    assert list((tmp_path / "spill").iterdir()) == []


def test_a_description_that_came_meanwhile_is_given_again_after_an_older_one(
    transactions: StreamedTransactions,
) -> None:
    old, new = b"R" + _relation(1, b"old"), b"R" + _relation(1, b"new")
    given = _given(
        transactions,
        *(_start(7), _inside(b"R", 7, old[1:]), _inside(b"I", 7, b"one"), b"E"),
        new,
        _commit(7),
    )
    assert [given[0], given[2], given[3], given[5]] == [new, old, b"Ione", new]


def test_what_is_no_message_of_a_block_is_refused() -> None:
    for data in (b"B" + bytes(20), b"I", b"X" + bytes(8)):
        with pytest.raises(SourceFormatError):
            decode_streamed(data)
    with pytest.raises(SourceFormatError):
        decode_commit(b"c")
    with pytest.raises(SourceFormatError):
        decode_abort(b"A")


def test_more_than_the_limit_is_an_error_that_says_what_to_set(tmp_path: Path) -> None:
    spill = Spill(tmp_path, 1 << 20)
    spill.clear()
    spill.append(7, StreamedMessage(7, b"I" + bytes(900_000)))
    with pytest.raises(SpillError, match="spill_max_mb"):
        spill.append(7, StreamedMessage(7, b"I" + bytes(900_000)))


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], check=False
    )
    if mounted.returncode:
        pytest.skip("a disk of its own needs the right to mount one")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def _small_work_memory(place: Place) -> None:
    """So that the server streams, or spills, what is larger than 64 kB."""
    await place.run("alter role current_user set logical_decoding_work_mem = '64kB'")


def _streaming(place: Place, folder: Path) -> PostgresSource:
    return replace(place.source, streaming="on", spill_folder=str(folder))


async def _load(place: Place, first: int) -> None:
    """A transaction of 2,000 rows that lasts, and 1,000 of subtransactions that are undone."""
    await place.run("begin")
    await place.connection.execute(LARGE.format(first, first + 999).encode())
    await place.run("savepoint a")
    await place.connection.execute(LARGE.format(first + 5_000, first + 5_499).encode())
    await place.run("savepoint b")
    await place.connection.execute(LARGE.format(first + 6_000, first + 6_499).encode())
    await place.run("rollback to a")
    await place.connection.execute(LARGE.format(first + 1_000, first + 1_999).encode())
    await place.run("commit", "begin")
    await place.connection.execute(LARGE.format(first + 7_000, first + 7_999).encode())
    await place.run("rollback")


def _facts(bodies: list[Envelope]) -> list[tuple[str, int]]:
    return [(body["id"], body["after"]["id"]) for body in bodies]


@pytest.mark.anyio
@pytest.mark.integration
async def test_streamed_or_not_the_same_changes_have_the_same_ids_over_kills_and_switches(
    place: Place, tmp_path: Path
) -> None:
    await place.run("create table orders (id int primary key, note text)")
    await _small_work_memory(place)
    try:
        twin = replace(place.source, name=f"{place.source.name}x", slot=f"{place.source.slot}x")
        source = _streaming(place, tmp_path / "spill")
        async with capturing(place, twin):
            pass
        async with capturing(place, source):
            await _load(place, 1)
            found = await place.until("orders", 2_000)
        for mode in (place.source, source):
            # Begun while nobody reads, cut off in its midst, gone on with in the other mode.
            first = 10_001 if mode is place.source else 20_001
            await _load(place, first)
            async with capturing(place, replace(mode, group_records=100)) as task:
                while (await place.progress()).ordinal is None and not task.done():
                    if len(await place.envelopes("orders")) >= len(found) + 2_000:
                        break
                    await asyncio.sleep(0)
                task.cancel()
            other = source if mode is place.source else place.source
            async with capturing(place, other):
                found = await place.until("orders", len(found) + 2_000)
        assert len({body["id"] for body in found}) == len(found) == 6_000
        other_place = replace(place, source=twin, captures=[])
        async with capturing(other_place, twin):
            expected = await other_place.until("orders", 6_000)
        assert _facts(found) == [
            (one.replace(twin.name, place.source.name), number) for one, number in _facts(expected)
        ]
    finally:
        await place.run(
            "alter role current_user reset logical_decoding_work_mem",
            "select pg_drop_replication_slot(slot_name) from pg_replication_slots"
            " where database = current_database() and slot_name like '%x' and not active",
        )


@pytest.mark.anyio
@pytest.mark.integration
async def test_a_full_disk_ends_capture_with_an_error_and_loses_nothing(
    place: Place, tiny_disk: Path, tmp_path: Path
) -> None:
    await place.run("create table orders (id int primary key, note text)")
    await _small_work_memory(place)

    async def capture_until_full() -> None:
        async with capturing(place, _streaming(place, tiny_disk / "spill")) as task:
            await place.connection.execute(LARGE.format(1, 10_000).encode())
            await asyncio.wait([task], timeout=60)

    try:
        with pytest.raises(SpillError, match=r'No space left.*streaming = "off"'):
            await capture_until_full()
        async with capturing(place, _streaming(place, tmp_path / "spill")):
            found = await place.until("orders", 10_000)
    finally:
        await place.run("alter role current_user reset logical_decoding_work_mem")
    assert [body["after"]["id"] for body in found] == list(range(1, 10_001))


@pytest.mark.anyio
@pytest.mark.integration
async def test_prepared_transactions_are_there_once_committed_over_kills_in_between(
    place: Place,
) -> None:
    await place.run("create table orders (id int primary key)")
    found: list[Envelope] = []
    async with await psycopg.AsyncConnection.connect(place.source.dsn, autocommit=True) as other:
        for number, (before, after) in enumerate([(1, 2), (3, 3), (4, 5), (6, 6)], 1):
            name = f"{place.source.name}_{number}"
            async with capturing(place) as task:
                await other.execute("begin")
                await other.execute("insert into orders values (%s)", (number,))
                await other.execute(f"prepare transaction '{name}'".encode())
                await place.connection.execute("insert into orders values (%s)", (10 + number,))
                await place.until("orders", before)
                task.cancel()
            how = "rollback" if number % 2 == 0 else "commit"
            await place.connection.execute(f"{how} prepared '{name}'".encode())
            async with capturing(place):
                found = await place.until("orders", after)
    assert sorted(body["after"]["id"] for body in found) == [1, 3, 11, 12, 13, 14]
    assert len({body["id"] for body in found}) == 6
