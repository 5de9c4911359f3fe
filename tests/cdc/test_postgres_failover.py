"""A standby is promoted: capture goes on with its copy of the slot, or says what is missing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import uuid
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from aiokafka import ConsumerRecord
from psycopg import Connection

from cdc.errors import CaptureGapError, SourceLostError
from cdc.postgres import PostgresSource
from cdc.postgres_doctor import examine_postgres
from cdc.postgres_slot import slot_state
from cdc.progress import PostgresProgress
from cdc.timeline import ServerIdentity, carried_over, parse_history
from events.cluster import Cluster
from events.lsn import Lsn
from tests.cdc.postgres_place import Place, capture_of, capturing
from tests.cdc.standby import make_pair

ReadTopic = Callable[[str], Awaitable[list[ConsumerRecord]]]
HISTORY = "1\t0/300\tno recovery target specified\n\n2\t0/500\tbefore 2026\n"


def at(commit: int, end: int, timeline: int = 1, ordinal: int | None = None) -> PostgresProgress:
    return PostgresProgress("7", timeline, Lsn(commit), Lsn(end), ordinal)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (at(0x200, 0x280), at(0x200, 0x280, 3)),
        (at(0x200, 0x400), at(0x200, 0x300, 3)),
        (at(0x300, 0x300), at(0x300, 0x300, 3)),
        (at(0x200, 0x200, ordinal=4), at(0x200, 0x200, 3, 4)),
        (at(0x400, 0x480, 2), at(0x400, 0x480, 3)),
        (at(0x600, 0x680, 3), at(0x600, 0x680, 3)),
        (at(0x300, 0x380), None),
        (at(0x400, 0x400), None),
        (at(0x300, 0x300, ordinal=1), None),
        (at(0x200, 0x280, 4), None),
    ],
)
def test_progress_goes_over_to_a_timeline_that_has_all_that_was_told(
    before: PostgresProgress, after: PostgresProgress | None
) -> None:
    identity = ServerIdentity("7", 3, "shop", parse_history(HISTORY))
    assert carried_over(before, identity) == after


def test_without_a_history_nothing_is_known_of_another_timeline() -> None:
    assert carried_over(at(0x200, 0x280), ServerIdentity("7", 2, "shop", {})) is None


async def until_told(read_topic: ReadTopic, source: PostgresSource, ids: set[int]) -> list[int]:
    async with asyncio.timeout(60):
        while True:
            records = await read_topic(f"{source.name}.public.items")
            found = [json.loads(record.value or b"")["after"]["id"] for record in records]
            if {*found} >= ids:
                return found
            await asyncio.sleep(0.1)


async def until_copied(
    primary: Connection[tuple[object, ...]], standby: Connection[tuple[object, ...]], slot: str
) -> None:
    """What sync_replication_slots = on does on its own, with pauses of up to half a minute."""
    async with asyncio.timeout(60):
        while not standby.execute(
            "select from pg_replication_slots where slot_name = %s and synced and not temporary"
            " and invalidation_reason is null",
            (slot,),
        ).fetchall():
            # The slot moves past what the standby has not kept once the primary says who runs.
            primary.execute("select pg_log_standby_snapshot()")
            standby.execute("select pg_sync_replication_slots()")
            await asyncio.sleep(0.1)


async def standby_mends(source: PostgresSource) -> list[str]:
    return [one.mend for one in await examine_postgres(source) if one.subject == "standby"]


def kill(folder: Path) -> None:
    """What a machine that is lost leaves: no goodbye to anybody."""
    pid = int((folder / "postmaster.pid").read_text().split()[0])
    os.kill(pid, signal.SIGQUIT)


@pytest.mark.integration
@pytest.mark.anyio
async def test_after_a_failover_nothing_is_lost_and_nothing_told_twice(
    tmp_path: Path, cluster: Cluster, read_topic: ReadTopic
) -> None:
    pair = make_pair(tmp_path, 17, synchronized_standby_slots="standby")
    name = f"f{uuid.uuid4().hex[:10]}"
    source = PostgresSource(name, pair.primary.dsn("shop"), name, name, heartbeat_s=0.2)
    async with AsyncExitStack() as servers:
        async with pair.run_primary() as primary:
            await asyncio.to_thread(pair.copy)
            standby = await servers.enter_async_context(pair.run_standby())
            primary.execute("create table items (id int primary key)")
            async with capture_of(source, cluster, ends_with=SourceLostError) as capture:
                primary.execute("insert into items select generate_series(1, 10)")
                await until_told(read_topic, source, {*range(1, 11)})
                await until_copied(primary, standby, source.slot)
                assert await standby_mends(source) == [""]
                primary.execute("insert into items select generate_series(11, 500)")
                kill(pair.primary.folder)
                await asyncio.wait([capture])
        standby.execute("select pg_promote()")
        standby.execute("insert into items select generate_series(1000, 1010)")
        rows = {row[0] for row in standby.execute("select id from items").fetchall()}
        async with capture_of(replace(source, dsn=pair.standby.dsn("shop")), cluster):
            told = await until_told(read_topic, source, rows)
        assert sorted(told) == sorted(rows)
    assert not await read_topic(cluster.topics.events)


@pytest.mark.integration
@pytest.mark.anyio
async def test_a_slot_is_kept_for_a_failover_as_the_source_says(place: Place) -> None:
    await place.run("create table items (id int primary key)")
    for wanted in (False, True, False):
        source = replace(place.source, failover_slot=wanted)
        async with capturing(place, source):
            pass
        async with asyncio.timeout(30):
            while (slot := await slot_state(place.connection, source)) and slot.active_pid:
                await asyncio.sleep(0.02)
        assert slot is not None
        assert slot.failover == wanted
    assert await standby_mends(place.source) == ["start capture again, which switches it on"]


@pytest.mark.integration
@pytest.mark.anyio
async def test_a_standby_that_lacks_what_was_told_is_a_gap(
    tmp_path: Path, cluster: Cluster, read_topic: ReadTopic
) -> None:
    pair = make_pair(tmp_path, 18)
    name = f"f{uuid.uuid4().hex[:10]}"
    source = PostgresSource(name, pair.primary.dsn("shop"), name, name, heartbeat_s=0.2)
    async with pair.run_primary() as primary:
        await asyncio.to_thread(pair.copy)
        primary.execute("create table items (id int primary key)")
        async with capture_of(source, cluster):
            async with pair.run_standby() as standby:
                primary.execute("insert into items values (1)")
                await until_told(read_topic, source, {1})
                await until_copied(primary, standby, source.slot)
                (mend,) = await standby_mends(source)
                assert "alter system set synchronized_standby_slots = 'standby'" in mend
            primary.execute("insert into items values (2)")
            await until_told(read_topic, source, {1, 2})
    async with pair.run_standby() as standby:
        standby.execute("select pg_promote()")
        of_standby = replace(source, dsn=pair.standby.dsn("shop"))
        with pytest.raises(CaptureGapError, match=r"timeline 2, progress on 1 .* left it at"):
            async with capture_of(of_standby, cluster):
                pass
        async with capture_of(replace(of_standby, on_gap="continue"), cluster):
            standby.execute("insert into items values (3)")
            await until_told(read_topic, source, {1, 2, 3})
    (event,) = await read_topic(cluster.topics.events)
    assert b"system.gap" in (event.value or b"")
