from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from typing import LiteralString

import psycopg
import pytest

from cdc.errors import CaptureConfigError, CaptureGapError, SourceLostError
from cdc.postgres_doctor import examine_postgres
from cdc.postgres_slot_watch import read_retention
from cdc.wal_retention import MEBIBYTE, WalRetention, budget_bytes, wal_budget_key
from events.lsn import Lsn
from tests.cdc.postgres_place import Envelope, Place, capturing
from tests.cdc.snapshot_view import bodies, loading, until_over

SEEN = WalRetention("s", Lsn(1), 100, 90, 100, "extended", None, None, None)
LIMIT_S = 60


@pytest.mark.parametrize(
    ("set_mb", "limit_mb", "expected_mb"),
    [(0, -1, 2_048), (0, 1_000, 500), (0, 0, 16), (7, -1, 7), (7, 1_000, 7)],
)
def test_the_budget_is_what_is_set_or_half_of_the_servers_limit(
    set_mb: int, limit_mb: int, expected_mb: int
) -> None:
    assert budget_bytes(set_mb, limit_mb) == expected_mb * MEBIBYTE


def test_a_crossing_is_over_only_well_below_the_budget() -> None:
    assert (SEEN.is_over, SEEN.is_well_under) == (True, False)
    below = replace(SEEN, retained_bytes=90)
    assert (below.is_over, below.is_well_under) == (False, False)
    assert replace(SEEN, retained_bytes=79).is_well_under


def test_log_that_the_next_checkpoint_takes_is_over_whatever_the_budget() -> None:
    assert replace(SEEN, retained_bytes=1, wal_status="unreserved").is_over


def test_the_mend_names_the_transaction_that_holds_the_slot_only_where_one_does() -> None:
    assert "let capture catch up" in SEEN.mend("x")
    assert "max_slot_wal_keep_size" in replace(SEEN, safe_wal_size_bytes=1).mend()
    assert replace(SEEN, behind_bytes=10).mend("end it").endswith("holds the slot: end it")


async def _warnings(place: Place, kind: str = "system.wal_budget") -> list[Envelope]:
    records = await place.read_topic(place.cluster.topics.events)
    events = [json.loads(record.value or b"") for record in records]
    return [event for event in events if event["type"] == kind]


async def _until_warned(place: Place, count: int) -> list[Envelope]:
    async with asyncio.timeout(LIMIT_S):
        while len(found := await _warnings(place)) < count:
            assert not place.captures[-1].done()
            await asyncio.sleep(0.05)
    assert len(found) == count
    return found


async def _fill(place: Place, segments: int) -> None:
    """Move the log on by so many segments of 16 MiB."""
    for _ in range(segments):
        await place.run(
            "select pg_logical_emit_message(true, 'fill', 'x')", "select pg_switch_wal()"
        )


async def _until_released(place: Place) -> None:
    async with asyncio.timeout(LIMIT_S):
        while True:
            await place.run("checkpoint")
            kept = await read_retention(place.connection, place.source)
            if kept is not None and kept.retained_bytes < 16 * MEBIBYTE:
                return
            await asyncio.sleep(0.05)


async def _until_rearmed(place: Place) -> None:
    """Until capture, which looks every now and then, has seen that the crossing is over."""
    key = wal_budget_key(place.source.name)
    async with asyncio.timeout(LIMIT_S):
        while True:
            records = await place.read_topic(place.cluster.topics.progress)
            marks = [record.value for record in records if record.key == key]
            if marks and marks[-1] is None:
                return
            await asyncio.sleep(0.05)


@contextmanager
def _setting(place: Place, name: LiteralString, value: LiteralString) -> Generator[None]:
    with psycopg.connect(place.source.dsn, autocommit=True) as admin:
        admin.execute(f"alter system set {name} = '{value}'")
        admin.execute("select pg_reload_conf()")
        try:
            yield
        finally:
            admin.execute(f"alter system reset {name}")
            admin.execute("select pg_reload_conf()")


@pytest.mark.anyio
@pytest.mark.integration
async def test_a_slot_over_its_budget_is_told_once_a_crossing_over_restarts_too(
    place: Place,
) -> None:
    source = replace(place.source, wal_budget_mb=40)
    async with await psycopg.AsyncConnection.connect(source.dsn, autocommit=True) as other:
        async with capturing(place, source):
            await other.execute("begin")
            await other.execute("select pg_current_xact_id()")
            await _fill(place, 4)
            (first,) = await _until_warned(place, 1)
        data = first["data"]
        assert data["retained_bytes"] >= 40 * MEBIBYTE == data["budget_bytes"]
        assert (data["source"], data["slot"]) == (source.name, source.slot)
        assert (data["wal_status"], data["safe_wal_size_bytes"]) == ("reserved", None)
        assert f"pg_terminate_backend({other.info.backend_pid})" in data["mend"]
        findings = {finding.subject: finding for finding in await examine_postgres(source)}
        assert findings["slot"].severity == "warning"
        async with capturing(place, source):
            await _fill(place, 1)
            await other.execute("commit")
            await _until_released(place)
            await _until_rearmed(place)
            await other.execute("begin")
            await other.execute("select pg_current_xact_id()")
            await _fill(place, 4)
            _, second = await _until_warned(place, 2)
            await other.execute("commit")
    assert second["id"] != first["id"]


@pytest.mark.anyio
@pytest.mark.integration
async def test_while_kafka_is_away_the_log_warns_and_the_event_follows(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    source = replace(place.source, wal_budget_mb=40)
    async with capturing(place, source):
        pass
    await _fill(place, 4)
    away = replace(place, cluster=replace(place.cluster, bootstrap="127.0.0.1:9"))
    with caplog.at_level(logging.WARNING), pytest.raises(CaptureConfigError, match="Kafka"):
        async with capturing(away, source):
            pass
    assert "MiB of log (budget 40 MiB)" in caplog.text
    assert await _warnings(place) == []
    async with capturing(place, source):
        (warning,) = await _until_warned(place, 1)
        await _until_released(place)
    assert "let capture catch up" in warning["data"]["mend"]


@pytest.mark.anyio
@pytest.mark.integration
async def test_a_slot_that_the_server_gave_up_is_a_gap_and_all_tables_are_loaded_anew(
    place: Place,
) -> None:
    await place.run(
        "create table orders (id int primary key)", "insert into orders values (1), (2)"
    )
    async with capturing(place, loading(place)):
        first = await until_over(place, "orders")
    await place.run("insert into orders values (3)")
    with _setting(place, "max_slot_wal_keep_size", "32MB"):
        await _fill(place, 5)
        await place.run("checkpoint")
    kept = await read_retention(place.connection, place.source)
    assert kept is not None
    assert (kept.wal_status, kept.invalidation) == ("lost", "wal_removed")
    findings = {finding.subject: finding for finding in await examine_postgres(place.source)}
    assert (findings["slot"].severity, "wal_removed" in findings["slot"].found) == ("error", True)
    with pytest.raises(CaptureGapError, match=r"invalidated.*wal_removed"):
        async with capturing(place):
            pass
    again = replace(place.source, on_gap="snapshot")
    async with capturing(place, again):
        async with asyncio.timeout(LIMIT_S):
            while (state := await until_over(place, "orders")).snapshot == first.snapshot:
                await asyncio.sleep(0.02)
        await place.run("insert into orders values (4)")
        async with asyncio.timeout(LIMIT_S):
            while len(found := await bodies(place, "orders")) < 6:
                await asyncio.sleep(0.05)
    assert (state.reason, state.rows) == ("gap", 3)
    assert sorted(body["after"]["id"] for body in found) == [1, 1, 2, 2, 3, 4]
    gaps = await _warnings(place, "system.gap")
    assert [gap["data"]["continued_from"] is None for gap in gaps] == [True]


@pytest.mark.anyio
@pytest.mark.integration
async def test_a_slot_taken_away_under_a_running_capture_ends_it_and_is_a_gap_at_the_next_start(
    place: Place,
) -> None:
    await place.run("create table orders (id int primary key)")

    async def capture_until_lost() -> None:
        async with (
            await psycopg.AsyncConnection.connect(place.source.dsn, autocommit=True) as other,
            capturing(place) as task,
        ):
            await other.execute("begin")
            await other.execute("select pg_current_xact_id()")
            await _fill(place, 3)
            # It is told of before: half of the server's limit is the budget.
            await _until_warned(place, 1)
            await _fill(place, 3)
            await place.run("checkpoint")
            await asyncio.wait([task], timeout=LIMIT_S)

    with _setting(place, "max_slot_wal_keep_size", "64MB"), pytest.raises(SourceLostError):
        await capture_until_lost()
    with pytest.raises(CaptureGapError, match="invalidated"):
        async with capturing(place):
            pass


@pytest.mark.anyio
@pytest.mark.integration
async def test_a_slot_that_stood_still_too_long_for_the_server_is_a_gap(place: Place) -> None:
    async with capturing(place):
        pass
    with _setting(place, "idle_replication_slot_timeout", "1s"):
        async with asyncio.timeout(LIMIT_S):
            while True:
                await place.run("select pg_switch_wal()", "checkpoint")
                kept = await read_retention(place.connection, place.source)
                if kept is not None and kept.invalidation is not None:
                    break
                await asyncio.sleep(0.1)
    assert kept.invalidation == "idle_timeout"
    with pytest.raises(CaptureGapError, match="idle_timeout"):
        async with capturing(place):
            pass


@pytest.mark.anyio
@pytest.mark.integration
async def test_an_idle_database_beside_a_busy_one_keeps_no_log(
    place: Place, postgres_dsn: str
) -> None:
    await place.run("create table quiet (id int primary key)")
    async with (
        capturing(place),
        await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as busy,
    ):
        await busy.execute(
            "create table busy as select repeat('x', 900) t from generate_series(1, 50000)"
        )
        try:
            cursor = await busy.execute("select pg_current_wal_lsn()::text")
            (end,) = await cursor.fetchone() or ("",)
            async with asyncio.timeout(LIMIT_S):
                while True:
                    await busy.execute("checkpoint")
                    kept = await read_retention(place.connection, place.source)
                    if kept is not None and kept.restart >= Lsn.parse(str(end)):
                        break
                    await asyncio.sleep(0.1)
        finally:
            await busy.execute("drop table busy")
    assert await _warnings(place) == []
