"""Reads that a row policy tells of, by real clients, in order with the writes around them."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import threading
import uuid
from bisect import bisect
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import LiteralString, cast

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from cdc.errors import CaptureConfigError
from cdc.postgres_source import connect
from cdc.read_policy import disable_row_audit, enable_row_audit
from cdc.read_policy_check import find_row_audit_risks
from events.topic import reads_topic
from infra import artifacts
from tests.cdc.postgres_place import Envelope, Place, Role, capturing

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


@pytest.fixture
async def reader(place: Place) -> AsyncGenerator[Role]:
    made = Role(f"reader_{uuid.uuid4().hex[:8]}", place.connection)
    await made.run("create role {} login password 'x'")
    await place.run(
        "create table patients (id int primary key, name text, born date)",
        "insert into patients select n, 'name ' || n, '2000-01-01' from generate_series(1, 20) n",
    )
    await made.run("grant select, insert, update, delete on patients to {}")
    yield made
    await made.run("drop owned by {}")
    await made.run("drop role {}")


def dsn_of(place: Place, reader: Role) -> str:
    return make_conninfo(place.source.dsn, user=reader.name, password="x")


async def enable(place: Place, table: str = "patients") -> None:
    await enable_row_audit(place.connection, place.source, "public", table, force=True)


async def reads(place: Place, table: str = "patients") -> list[Envelope]:
    records = await place.read_topic(reads_topic(place.source.name, "public", table))
    found = [cast("Envelope", json.loads(record.value or b"null")) for record in records]
    return sorted(found, key=lambda body: body["source"]["lsn"])


async def passed(place: Place) -> None:
    """Until capture has published what stands in the log now."""
    cursor = await place.connection.execute("select pg_current_wal_insert_lsn()")
    (now,) = await cursor.fetchone() or ("",)
    async with asyncio.timeout(30):
        while True:
            cursor = await place.connection.execute("select %s::pg_lsn", (str(await at(place)),))
            (published,) = await cursor.fetchone() or ("",)
            cursor = await place.connection.execute(
                "select %s::pg_lsn >= %s::pg_lsn", (published, now)
            )
            if await cursor.fetchone() == (True,):
                return
            await place.run("select pg_logical_emit_message(true, 'rowcast.test', '')")
            await asyncio.sleep(0.05)


@asynccontextmanager
async def reading(place: Place, reader: Role) -> AsyncGenerator[psycopg.AsyncConnection]:
    """A connection of a reader while capture runs."""
    connected = psycopg.AsyncConnection.connect(dsn_of(place, reader), autocommit=True)
    async with capturing(place), await connected as client:
        yield client


async def at(place: Place) -> object:
    return (await place.progress()).end


async def test_a_row_read_with_psql_is_an_event_that_says_who_and_which(
    place: Place, reader: Role
) -> None:
    await enable(place)
    address = conninfo_to_dict(dsn_of(place, reader))
    async with capturing(place):
        shown = await asyncio.to_thread(
            subprocess.run,
            [
                str(artifacts.postgres_bin() / "psql"),
                *("-h", str(address["host"]), "-p", str(address["port"])),
                *("-U", reader.name, "-d", str(address["dbname"]), "-At"),
                *("-c", "select name from patients where id = 7"),
            ],
            env={**os.environ, "PGPASSWORD": "x"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert shown.stdout == "name 7\n"
        await passed(place)
        (event,) = await reads(place)
    assert event["type"] == f"db.{place.source.name}.public.patients.read"
    assert (event["op"], event["key"]) == ("read", {"id": 7})
    assert event["read"] == {"by": "policy", "exact": "row"}
    assert event["who"]["user"] == event["who"]["role"] == reader.name
    assert (event["who"]["application"], event["who"]["client"]) == ("psql", "127.0.0.1")
    assert "name" not in event["key"]
    assert "name 7" not in json.dumps(event)


async def test_reads_and_writes_of_one_row_stand_in_the_order_in_which_they_happened(
    place: Place, reader: Role
) -> None:
    await enable(place)
    async with reading(place, reader) as client:
        for number in range(1, 21):
            await client.execute("insert into patients values (%s, 'n')", (100 + number,))
            await client.execute("select * from patients where id = %s", (100 + number,))
        await passed(place)
        written = await place.envelopes("patients")
        read = await reads(place)
    order = sorted(
        [(body["source"]["lsn"], body["after"]["id"], "w") for body in written]
        + [(body["source"]["lsn"], body["key"]["id"], "r") for body in read]
    )
    assert [(number, what) for _, number, what in order] == [
        (100 + number, what) for number in range(1, 21) for what in "wr"
    ]


@dataclass(frozen=True, slots=True)
class SeenValue:
    """What one read of the storm returned, and how many writes were answered before it began."""

    name: str
    value: int
    answered: int


def storm_reads(dsn: str, label: str, answered: list[int], seen: list[SeenValue]) -> None:
    with psycopg.connect(dsn, autocommit=True) as client:
        for number in range(STORM_READS):
            name = f"{label}{number}"
            # The name is how a read is found again among the events.
            client.execute("select set_config('application_name', %s, false)", (name,))
            before = len(answered)
            read = client.execute("select name from patients where id = 1").fetchone()
            assert read is not None
            seen.append(SeenValue(name, int(read[0]), before))


def storm_writes(
    dsn: str, numbers: Iterator[int], answered: list[int], stopped: threading.Event
) -> None:
    with psycopg.connect(dsn, autocommit=True) as client:
        while not stopped.is_set():
            value = next(numbers)
            client.execute("update patients set name = %s where id = 1", (str(value),))
            answered.append(value)


STORM_READS = 300


async def test_in_a_storm_a_read_stands_behind_the_write_whose_value_it_saw(
    place: Place, reader: Role
) -> None:
    """By value: that of a write before it, and of none before one that was done as it began."""
    await enable(place)
    seen: list[SeenValue] = []
    answered: list[int] = []
    numbers, stopped = iter(range(1, 1_000_000)), threading.Event()
    async with capturing(place):
        await place.run("update patients set name = '0' where id = 1")
        writers = [
            asyncio.create_task(asyncio.to_thread(storm_writes, dsn, numbers, answered, stopped))
            for dsn in [dsn_of(place, reader)] * 2
        ]
        await asyncio.gather(
            *(
                asyncio.to_thread(storm_reads, dsn_of(place, reader), label, answered, seen)
                for label in ("a", "b")
            )
        )
        stopped.set()
        await asyncio.gather(*writers)
        await passed(place)
        changes = await place.envelopes("patients")
        told = {event["who"]["application"]: event for event in await reads(place)}
    lsns = [change["source"]["lsn"] for change in changes]
    place_of = {int(change["after"]["name"]): at for at, change in enumerate(changes)}
    done = list(accumulate(map(place_of.__getitem__, answered), max, initial=0))
    behind_last = 0
    for read in seen:
        last = bisect(lsns, told[read.name]["source"]["lsn"]) - 1
        assert done[read.answered] <= place_of[read.value] <= last, read
        behind_last += place_of[read.value] == last
    assert len({read.value for read in seen}) > STORM_READS / 30
    # Never the one before it, though a commit is in the log before it is visible.
    assert behind_last == len(seen)


async def test_no_read_is_lost_or_told_twice_over_restarts(place: Place, reader: Role) -> None:
    await enable(place)
    async with await psycopg.AsyncConnection.connect(
        dsn_of(place, reader), autocommit=True
    ) as client:
        for number in range(1, 4):
            # Some reads come while capture is there, some while it is not.
            async with capturing(place):
                await client.execute("select 1 from patients where id = %s", (number,))
                if number % 2:
                    await passed(place)
            await client.execute("select 1 from patients where id = %s", (10 + number,))
        async with capturing(place):
            await passed(place)
            found = [body["key"]["id"] for body in await reads(place)]
    assert found == [row for number in range(1, 4) for row in (number, 10 + number)]


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("create policy mine on patients using (id > 3)", "the policies mine"),
        ("alter table patients enable row level security", "row security without a policy"),
        ("alter table patients drop constraint patients_pkey", "without a primary key"),
        (
            "alter table patients alter id type interval using make_interval(days => id)",
            "id of type interval",
        ),
    ],
)
async def test_it_refuses_where_it_would_not_hold(
    place: Place, reader: Role, statement: LiteralString, said: str
) -> None:
    del reader
    await place.run(statement)
    with pytest.raises(CaptureConfigError, match=said):
        await enable(place)


async def test_an_owner_who_logs_in_must_be_held_to_it(place: Place, reader: Role) -> None:
    await reader.run("alter table patients owner to {}")
    with pytest.raises(CaptureConfigError, match=r"can log in.*--force"):
        await enable_row_audit(place.connection, place.source, "public", "patients", force=False)
    async with reading(place, reader) as client:
        await enable(place)
        await client.execute("select * from patients where id = 3")
        await passed(place)
        assert [body["key"] for body in await reads(place)] == [{"id": 3}]


async def test_a_role_that_may_not_is_told_what_to_grant(place: Place, reader: Role) -> None:
    owner = Role(f"owner_{reader.name}", place.connection)
    await owner.run("create role {}")
    await owner.run("alter table patients owner to {}")
    try:
        async with await connect(reader.source_of(place.source)) as connection:
            with pytest.raises(CaptureConfigError) as refused:
                await enable_row_audit(connection, place.source, "public", "patients", force=True)
            for statement in refused.value.mend.split("; "):
                await place.connection.execute(statement.encode())
            await enable_row_audit(connection, place.source, "public", "patients", force=True)
            await disable_row_audit(connection, place.source, "public", "patients")
    finally:
        await place.run("alter table patients owner to rowcast")
        await owner.run("drop role {}")


async def test_a_table_in_use_is_not_waited_for_with_its_readers_behind(
    place: Place, reader: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cdc.read_policy._LOCK_WAIT", "50ms")
    async with await psycopg.AsyncConnection.connect(dsn_of(place, reader)) as client:
        await client.execute("select from patients")
        with pytest.raises(CaptureConfigError, match=r"patients in use .* more than 50ms"):
            await enable(place)
    await enable(place)


async def left(place: Place) -> tuple[object, ...]:
    cursor = await place.connection.execute(
        "select relrowsecurity, relforcerowsecurity, (select count(*) from pg_policy),"
        " to_regnamespace('rowcast_capture') from pg_class where relname = 'patients'"
    )
    return tuple(await cursor.fetchone() or ())


async def test_disable_leaves_nothing_behind(place: Place, reader: Role) -> None:
    del reader
    for forced in (False, True):
        if forced:
            await place.run("alter table patients force row level security")
        await enable(place)
        await enable(place)
        await disable_row_audit(place.connection, place.source, "public", "patients")
        assert await left(place) == (False, forced, 0, None)
    with pytest.raises(CaptureConfigError, match="audit list"):
        await disable_row_audit(place.connection, place.source, "public", "patients")
    # With a dropped table its policy goes; the function is taken away by the next call.
    await enable(place)
    await place.run("drop table patients")
    with pytest.raises(CaptureConfigError, match=r"no table public\.patients"):
        await disable_row_audit(place.connection, place.source, "public", "patients")
    cursor = await place.connection.execute("select to_regnamespace('rowcast_capture')")
    assert await cursor.fetchone() == (None,)


async def risks(place: Place) -> list[str]:
    found = await find_row_audit_risks(place.connection, place.source)
    return [finding.found for finding in found if finding.severity != "ok"]


async def test_what_makes_an_audit_worthless_later_is_found(place: Place, reader: Role) -> None:
    del reader
    await enable(place)
    assert await risks(place) == []
    await place.run(
        "alter table patients rename column id to number",
        "alter table patients disable row level security",
        "create policy mine on patients using (number > 3)",
    )
    off, key, policies = await risks(place)
    assert "row security off" in off
    assert "another key" in key
    assert "the policies mine beside" in policies
    await place.run("alter table patients enable row level security")
    # A policy that has come to be relied on is not switched off with the audit.
    said = await disable_row_audit(place.connection, place.source, "public", "patients")
    assert "the policies mine hold" in said[0]
    assert await left(place) == (True, True, 1, None)


async def test_ways_around_the_policy_are_named(place: Place, reader: Role) -> None:
    del reader
    await place.run(
        "create view seen with (security_invoker = on) as select * from patients",
        "create view around as select * from patients",
        "create materialized view copied as select * from patients",
        "create table wards (id int primary key) partition by range (id)",
        "create table first_ward partition of wards for values from (1) to (9)",
    )

    async def ways(table: str) -> list[str]:
        audited = await enable_row_audit(
            place.connection, place.source, "public", table, force=True
        )
        return [way for way in audited.beside if way.startswith("not seen")]

    around, copied = await ways("patients")
    assert "through the view public.around" in around
    assert "the materialized view public.copied" in copied
    assert await ways("wards") == ["not seen: reads of first_ward by their own names"]
    assert "through wards" in (await ways("first_ward"))[0]


async def test_a_read_is_told_under_the_name_that_the_table_has_by_then_whatever_the_client_set(
    place: Place, reader: Role
) -> None:
    await enable(place)
    async with reading(place, reader) as client:
        await place.run("alter table patients rename to people")
        await client.execute("set search_path = pg_temp")
        await client.execute("set default_transaction_read_only = on")
        for claims in ("nonsense", '{"sub": "ada"}'):
            await client.execute("select set_config('request.jwt.claims', %s, false)", (claims,))
            await client.execute("select from public.people where id = 7")
        await passed(place)
        found = [(body["key"], body["who"]["subject"]) for body in await reads(place, "people")]
    assert found == [({"id": 7}, None), ({"id": 7}, "ada")]


async def test_a_message_that_tells_of_no_read_does_not_stop_capture(
    place: Place, reader: Role
) -> None:
    await enable(place)
    async with reading(place, reader) as client:
        for content in ("", "{}", '{"schema": 1}', "\\xff"):
            await place.connection.execute(
                "select pg_logical_emit_message(false, 'rowcast.read', %s)", (content,)
            )
        await client.execute("select * from patients where id = 3")
        await passed(place)
        assert [body["key"] for body in await reads(place)] == [{"id": 3}]


KEYS: tuple[tuple[LiteralString, LiteralString, object], ...] = (
    ("bigint", "9007199254740993", 9007199254740993),
    ("numeric", "12.30", "12.30"),
    ("uuid", "0b7f1e0a-8d43-4c8e-9c39-0d6fb4b3d0a1", "0b7f1e0a-8d43-4c8e-9c39-0d6fb4b3d0a1"),
    ("text", 'a"b\\ü', 'a"b\\ü'),
    ("date", "2026-11-25", "2026-11-25"),
    ("timestamptz", "2026-11-25 04:05:06.7+02", "2026-11-25T02:05:06.700000Z"),
    ("bytea", "\\x00ff", "AP8="),
    ("boolean", "true", True),
    ("timestamptz", "-infinity", "-infinity"),
    ("timestamptz", "0044-03-15 12:30+02 BC", "0044-03-15 10:30:00+00 BC"),
    ("timestamp", "infinity", "infinity"),
    ("timestamp", "12026-11-25 04:05", "12026-11-25 04:05:00"),
    ("oid", "4000000000", 4000000000),
    ("moment", "2026-11-25 04:05:06.7+02", "2026-11-25T02:05:06.700000Z"),
    ("price", "12.30", "12.30"),
)


async def test_a_reads_key_is_the_change_topics_key_whatever_the_readers_session(
    place: Place, reader: Role
) -> None:
    await place.run(
        "create domain moment as timestamptz", "create domain price as numeric check (value > 0)"
    )
    for index, (kind, _, _) in enumerate(KEYS):
        name = sql.Identifier(f"k{index}")
        await place.connection.execute(
            sql.SQL("create table {} (k {} primary key)").format(name, sql.SQL(kind))
        )
        await place.connection.execute(
            sql.SQL("grant select, insert on {} to {}").format(name, sql.Identifier(reader.name))
        )
        await enable(place, f"k{index}")
    async with reading(place, reader) as client:
        await client.execute("set timezone = 'Asia/Tokyo'")
        await client.execute("set datestyle = 'German'")
        await client.execute("set bytea_output = 'escape'")
        for index, (kind, value, _) in enumerate(KEYS):
            name = sql.Identifier(f"k{index}")
            await client.execute(
                sql.SQL("insert into {} values (%s::{})").format(name, sql.SQL(kind)), (value,)
            )
            await client.execute(sql.SQL("select from {}").format(name))
        await passed(place)
        for index, (_, _, expected) in enumerate(KEYS):
            source = place.source.name
            (change,) = await place.read_topic(f"{source}.public.k{index}")
            (read,) = await place.read_topic(reads_topic(source, "public", f"k{index}"))
            assert read.key == change.key
            assert json.loads(read.key or b"") == {"k": expected}


QUERIES = st.one_of(
    st.integers(0, 25).map(lambda number: (f"select id from patients where id = {number}", True)),
    st.tuples(st.integers(0, 25), st.integers(0, 25)).map(
        lambda ends: (f"select id from patients where id between {ends[0]} and {ends[1]}", True)
    ),
    st.lists(st.integers(0, 25), min_size=1, max_size=4).map(
        lambda ids: (f"select id from patients where id in ({','.join(map(str, ids))})", True)
    ),
    st.integers(1, 9).map(
        lambda digit: (f"select id from patients where name like '%{digit}'", False)
    ),
    st.integers(1, 20).map(
        lambda number: (
            f"select id from patients join generate_series(1, 3) n on id = n where n < {number}",
            False,
        )
    ),
    st.integers(1, 5).map(
        lambda count: (f"select id from patients order by id limit {count}", False)
    ),
    st.just(("select array_agg(id) from patients", True)),
)


async def test_every_row_in_a_result_has_its_read_and_only_leaky_conditions_tell_more(
    place: Place, reader: Role
) -> None:
    await enable(place)
    results: list[tuple[list[int], bool]] = []

    def ask_all(client: psycopg.Connection, marker: psycopg.Connection) -> None:
        @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(QUERIES, st.sampled_from(("plain", "prepared", "cursor")))
        def ask(query: tuple[str, bool], how: str) -> None:
            statement, exact = query
            if how == "cursor":
                with client.transaction(), client.cursor(name="c") as cursor:
                    rows = cursor.execute(statement.encode()).fetchall()
            else:
                rows = client.execute(statement.encode(), prepare=how == "prepared").fetchall()
            # array_agg gives one row that holds them all.
            first: list[object] = [row[0] for row in rows]
            inner = first[0] if first else None
            ids = cast("list[object]", inner) if isinstance(inner, list) else first
            results.append((cast("list[int]", ids), exact))
            # Stands in the log behind the reads of this query.
            marker.execute("select pg_logical_emit_message(false, 'mark', '')")

        ask()

    with (
        psycopg.connect(dsn_of(place, reader), autocommit=True) as client,
        psycopg.connect(place.source.dsn, autocommit=True) as marker,
    ):
        async with capturing(place):
            await asyncio.to_thread(ask_all, client, marker)
            await passed(place)
    found = await reads(place)
    marks = sorted(
        json.loads(record.value or b"{}")["source"]["lsn"]
        for record in await place.read_topic(f"{place.source.name}.messages")
    )
    assert len(marks) == len(results)
    begin = 0
    for (ids, exact), end in zip(results, marks, strict=True):
        told = [body["key"]["id"] for body in found if begin < body["source"]["lsn"] < end]
        begin = end
        assert set(ids) <= set(told), (ids, told)
        if exact:
            assert sorted(told) == sorted(ids)
