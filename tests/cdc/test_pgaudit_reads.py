"""Reads by statement, by stock clients of a server with pgaudit: each an event, once."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest
from aiokafka import ConsumerRecord
from psycopg import sql
from psycopg.conninfo import make_conninfo

from cdc.errors import CaptureConfigError
from cdc.postgres_source import Connection, connect
from cdc.statement_audit import (
    disable_statement_audit,
    enable_statement_audit,
    find_audit_risks,
)
from cdc.statement_audit_check import check_statement_audit
from cdc.statement_read import TEXT_MAX, StatementDetail
from events.cluster import Cluster
from tests.cdc.log_reading import psql, reading, until_read
from tests.cdc.postgres_place import Envelope, Place, Role, own_place

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


@pytest.fixture
async def audited(
    request: pytest.FixtureRequest,
    audited_dsn: str,
    cluster: Cluster,
    read_topic: Callable[[str], Awaitable[list[ConsumerRecord]]],
) -> AsyncGenerator[Place]:
    """A place with a table of patients whose statements are audited."""
    async with own_place(audited_dsn, cluster, read_topic) as made:
        if getattr(request, "param", "jsonlog") == "csvlog":
            await made.run("alter system set log_destination = csvlog", "select pg_reload_conf()")
            await until_current(made, ".csv")
        await made.run(
            "create table patients (id int primary key, name text)",
            "insert into patients select n, 'name ' || n from generate_series(1, 20) n",
        )
        await enable(made)
        yield made
        await disable(made)
        if getattr(request, "param", "jsonlog") == "csvlog":
            await made.run("alter system reset log_destination", "select pg_reload_conf()")
            await until_current(made, ".json")


@pytest.fixture
async def nurse(audited: Place) -> AsyncGenerator[Role]:
    made = Role(f"nurse_{uuid.uuid4().hex[:8]}", audited.connection)
    await made.run("create role {} login password 'x'")
    await made.run("grant select, insert, update, delete on patients to {}")
    yield made
    await made.run("drop owned by {}")
    await made.run("drop role {}")


async def enable(place: Place, table: str = "patients") -> list[str]:
    return await enable_statement_audit(place.connection, place.source, "public", table)


async def disable(place: Place, table: str = "patients", wait_s: float = 0) -> list[str]:
    return await disable_statement_audit(
        place.connection, place.source, "public", table, wait_s=wait_s
    )


def dsn_of(place: Place, role: Role) -> str:
    return make_conninfo(place.source.dsn, user=role.name, password="x")


BOTH = pytest.mark.parametrize("audited", ["jsonlog", "csvlog"], indirect=True)

READS: tuple[LiteralString, ...] = (
    "select name from patients where id = 7",
    "select a.id from patients a join patients b using (id)",
    "select name\n from patients -- Ada's\n where name = 'O''Hara, \"x\"' or name = $$a,b$$",
    "copy patients to stdout",
    "copy (select name from patients where name = 'secret') to stdout",
    "do $$ begin perform * from patients; end $$",
    "begin; select count(*) from patients; rollback",
    "with p as (select * from patients where id = 3 for update) select * from p",
)
NORMALIZED = [
    "select name from patients where id = ?",
    "select a.id from patients a join patients b using (id)",
    "select name from patients where name = ? or name = ?",
    "copy patients to stdout",
    "copy (select name from patients where name = ?) to stdout",
    "SELECT * from patients",
    "begin; select count(*) from patients; rollback",
    "with p as (select * from patients where id = ? for update) select * from p",
]


@BOTH
async def test_each_statement_that_reads_is_an_event_once_and_says_who_and_what(
    audited: Place, nurse: Role
) -> None:
    before_ms = int(time.time() * 1_000) - 1_000
    async with reading(audited):
        await asyncio.to_thread(psql, dsn_of(audited, nurse), *READS, "select 1")
        await asyncio.to_thread(
            psql,
            dsn_of(audited, nurse),
            "insert into patients values (100, 'x')",
            "update patients set name = 'y' where id = 100",
            "delete from patients where id = 100 returning *",
        )
        found = await until_read(audited, len(READS))
        records = await audited.read_topic(f"{audited.source.name}.public.patients.reads")
    # Listeners and retention go by the time of the record.
    assert min(record.timestamp for record in records) > before_ms
    assert [event["statement"]["text"] for event in found] == NORMALIZED
    assert len({event["id"] for event in found}) == len(found)
    for event in found:
        assert event["type"] == f"db.{audited.source.name}.public.patients.read"
        assert (event["op"], event["key"]) == ("read", None)
        assert event["read"] == {"by": "pgaudit", "exact": "statement"}
        who = event["who"]
        assert (who["user"], who["application"], who["client"]) == (nurse.name, "psql", "127.0.0.1")
        assert event["source"]["db"] == audited.source.name
        assert before_ms < event["source"]["ts_ms"] <= event["ts_ms"] + 1_000
    shown = json.dumps(found)
    assert not [secret for secret in ("secret", "Hara", "Ada") if secret in shown]


async def test_the_values_and_numbers_that_are_asked_for_are_told(
    audited: Place, nurse: Role
) -> None:
    names = [sql.SQL("pgaudit.log_parameter"), sql.SQL("pgaudit.log_rows")]
    for name in names:
        await audited.connection.execute(sql.SQL("alter system set {} = on").format(name))
    await audited.run("select pg_reload_conf()")
    try:
        detail = StatementDetail("full", parameters=True)
        async with reading(audited, detail):
            with psycopg.connect(dsn_of(audited, nurse), autocommit=True) as client:
                await until_setting(client, "pgaudit.log_rows", "on")
                client.execute(
                    "select id from patients where id < %s and name <> %s", (4, 'a, "b"\nc')
                )
                client.execute("select 1 from patients where name = 'x'")
                # Longer than what is read of the log at once.
                client.execute(f"select 2 from patients where name = '{'é' * 400_000}'".encode())
                client.execute("select 3 from patients")
            first, second, long, _ = await until_read(audited, 4)
        assert first["statement"] == {
            "command": "SELECT",
            "text": "select id from patients where id < $1 and name <> $2",
            "parameters": ["4", 'a, "b"\nc'],
        }
        assert second["statement"]["text"] == "select 1 from patients where name = 'x'"
        assert len(long["statement"]["text"]) == TEXT_MAX
        assert second["statement"]["parameters"] is None
        assert (first["rows"], second["rows"]) == (3, 0)
    finally:
        for name in names:
            await audited.connection.execute(sql.SQL("alter system reset {}").format(name))
        await audited.run("select pg_reload_conf()")


async def until_setting(client: psycopg.Connection, name: str, value: str) -> None:
    async with asyncio.timeout(10):
        while client.execute("select current_setting(%s)", (name,)).fetchone() != (value,):
            await asyncio.sleep(0.02)


async def test_no_read_is_lost_or_told_twice_over_rotation_and_restarts(
    audited: Place, nurse: Role
) -> None:
    """Files follow one another while capture reads, and while it does not."""
    with psycopg.connect(dsn_of(audited, nurse), autocommit=True) as client:
        for number in range(1, 4):
            async with reading(audited):
                client.execute(f"select {number} as n{number} from patients".encode())
                if number % 2:
                    await until_read(audited, 3 * (number - 1) + 1)
                await rotate(audited)
                client.execute(f"select 1 as r{number} from patients a, patients b".encode())
            if number % 3:
                await rotate(audited)
            client.execute(f"select 1 as d{number} from patients".encode())
    async with reading(audited):
        found = await until_read(audited, 9)
    texts = [event["statement"]["text"].split()[3] for event in found]
    assert texts == [f"{letter}{number}" for number in range(1, 4) for letter in "nrd"]
    assert await gaps(audited) == []


async def rotate(place: Place) -> None:
    """Begin another file; their names are those of seconds."""
    before = await current_file(place)
    async with asyncio.timeout(10):
        while await current_file(place) == before:
            await place.run("select pg_rotate_logfile()")
            await asyncio.sleep(0.1)


async def until_current(place: Place, suffix: str) -> None:
    async with asyncio.timeout(10):
        while not (await current_file(place)).endswith(suffix):
            await asyncio.sleep(0.05)


async def current_file(place: Place) -> str:
    """Of the one format that is written; the data directory is where its path begins."""
    cursor = await place.connection.execute(
        "select concat(current_setting('data_directory'), '/',"
        " coalesce(pg_current_logfile('jsonlog'), pg_current_logfile('csvlog')))"
    )
    (name,) = await cursor.fetchone() or (None,)
    return str(name)


async def gaps(place: Place) -> list[Envelope]:
    records = await place.read_topic(place.cluster.topics.events)
    bodies = [json.loads(record.value or b"{}") for record in records]
    return [body["data"] for body in bodies if body["type"] == "system.gap"]


async def test_a_file_that_goes_before_it_was_read_is_a_gap_that_says_since_when(
    audited: Place, nurse: Role
) -> None:
    with psycopg.connect(dsn_of(audited, nurse), autocommit=True) as client:
        async with reading(audited):
            client.execute("select 1 from patients")
            await until_read(audited, 1)
        lost = await current_file(audited)
        client.execute("select 2 from patients")
        await rotate(audited)
        client.execute("select 3 from patients")
        await rotate(audited)
        client.execute("select 4 from patients")
    Path(lost).unlink()
    for _ in range(2):
        async with reading(audited):
            await until_read(audited, 3)
    (gap,) = await gaps(audited)
    assert gap["file"] == Path(lost).name
    assert "removed" in gap["reason"]
    assert gap["position"] > 0
    assert 0 < time.time() * 1_000 - gap["since_ms"] < 60_000


async def test_a_file_that_is_written_over_is_a_gap_and_is_read_anew(
    audited: Place, nurse: Role
) -> None:
    with psycopg.connect(dsn_of(audited, nurse), autocommit=True) as client:
        async with reading(audited):
            client.execute("select 1 from patients")
            await until_read(audited, 1)
        name = await current_file(audited)
        client.execute("select 2 from patients")
        # The server's collector writes a moment after the statement has ended.
        async with asyncio.timeout(60):
            while b"select 2 from patients" not in Path(name).read_bytes():
                await asyncio.sleep(0.01)
        Path(name).write_bytes(b"")
        client.execute("select 3 from patients")
        async with reading(audited):
            await until_read(audited, 2)
            client.execute("select 4 from patients")
            await until_read(audited, 3)
    (gap,) = await gaps(audited)
    assert "replaced" in gap["reason"]


async def test_reading_goes_over_to_another_format_with_the_server(
    audited: Place, nurse: Role
) -> None:
    """Read once what stands in both, and what is written while neither is told."""
    destinations = ("jsonlog,csvlog", "csvlog", "jsonlog")
    try:
        async with reading(audited):
            for number, destination in enumerate(destinations, start=1):
                await audited.connection.execute(
                    sql.SQL("alter system set log_destination = {}").format(destination)
                )
                await audited.run("select pg_reload_conf()")
                await until_current(audited, f".{destination[:4].removesuffix('l')}")
                # A session takes a setting over before its next statement.
                with psycopg.connect(dsn_of(audited, nurse), autocommit=True) as client:
                    await until_setting(client, "log_destination", destination)
                    client.execute(f"select 1 as n{number} from patients".encode())
                await until_read(audited, number)
            found = await until_read(audited, 3)
    finally:
        await audited.run("alter system reset log_destination", "select pg_reload_conf()")
        await until_current(audited, ".json")
    assert [event["statement"]["text"].split()[3] for event in found] == ["n1", "n2", "n3"]
    told = [gap["reason"] for gap in await gaps(audited)]
    assert told == [f"the server writes its log as {name} now" for name in destinations[1:]]


@BOTH
async def test_a_record_torn_by_a_crash_is_a_gap_and_the_next_is_read(
    audited: Place, nurse: Role
) -> None:
    name = await current_file(audited)
    with psycopg.connect(dsn_of(audited, nurse), autocommit=True) as client:
        async with reading(audited):
            client.execute("select 1 from patients")
            await until_read(audited, 1)
            with Path(name).open("ab") as log:
                whole = Path(name).read_bytes().splitlines(keepends=True)[-1]
                log.write(whole[: len(whole) // 2])
            client.execute("select 2 from patients")
            await until_read(audited, 2)
    (gap,) = await gaps(audited)
    assert "not whole" in gap["reason"]


async def test_own_reads_other_databases_and_tables_not_asked_for_are_no_events(
    audited: Place, nurse: Role
) -> None:
    await audited.run("create table wards (id int primary key)")
    await nurse.run("grant select on wards to {}")
    own = make_conninfo(audited.source.dsn, application_name=f"rowcast-{audited.source.name}")
    async with reading(audited):
        with (
            psycopg.connect(own, autocommit=True) as capture,
            psycopg.connect(dsn_of(audited, nurse), autocommit=True) as client,
        ):
            capture.execute("select 1 from patients")
            client.execute(
                "select set_config('application_name', %s, false)",
                (f"rowcast-{audited.source.name}",),
            )
            client.execute("select 1 from wards")
            client.execute("select 1 from patients")
            await enable(audited, "wards")
            client.execute("select 2 from wards")
            await until_read(audited, 1, "wards")
            client.execute("select 3 from wards")
            await disable(audited, "wards")
            client.execute("select 4 from wards")
            client.execute("select 2 from patients")
        assert len(await until_read(audited, 2, "wards")) == 2
        found = await until_read(audited, 2)
    # Its name alone hides nobody.
    assert {event["who"]["user"] for event in found} == {nurse.name}


async def test_a_role_without_rights_is_told_what_to_grant_and_reads_with_it(
    audited: Place, nurse: Role
) -> None:
    weak = replace(audited, source=nurse.source_of(audited.source))
    async with await connect(weak.source) as connection:
        with pytest.raises(CaptureConfigError) as refused:
            await enable_statement_audit(connection, weak.source, "public", "patients")
    assert f'grant pg_monitor to "{nurse.name}"' in refused.value.mend
    for statement in refused.value.mend.partition(": ")[2].split("; "):
        await audited.connection.execute(statement.encode())
    # What the role would own, had it set the audit up.
    await nurse.run("grant usage on schema rowcast_capture to {}")
    await nurse.run("grant select on rowcast_capture.read_log to {}")
    await nurse.run("alter table patients owner to {}")
    async with await connect(weak.source) as connection:
        assert await enable_statement_audit(connection, weak.source, "public", "patients") == []
        assert [one.severity for one in await find_audit_risks(connection, weak.source)] == ["ok"]
    async with reading(weak):
        await asyncio.to_thread(psql, audited.source.dsn, "select 1 from patients")
        await until_read(audited, 1)
    await audited.run("alter table patients owner to rowcast")


async def test_settings_that_lose_reads_are_named_with_what_mends_them(audited: Place) -> None:
    settings = {
        "pgaudit.log_level": "debug1",
        "pgaudit.log_rows": "on",
        "pgaudit.log_statement": "off",
        "log_destination": "stderr",
    }
    for name, value in settings.items():
        await audited.connection.execute(f"alter system set {name} = {value}".encode())
    await audited.run("select pg_reload_conf()")
    try:
        async with await connect(audited.source) as connection:
            await until_setting_of(connection, "log_destination", "stderr")
            found = await check_statement_audit(connection, audited.source)
        named = {finding.severity: finding.found for finding in reversed(found)}
        assert [name for name in settings if any(name in one.found for one in found)] == [*settings]
        assert set(named) == {"error", "warning"}
        for finding in found:
            for statement in finding.mend.split("; "):
                await audited.connection.execute(statement.encode())
        async with await connect(audited.source) as connection:
            await until_setting_of(connection, "pgaudit.log_level", "log")
            assert await check_statement_audit(connection, audited.source) == []
    finally:
        for name in settings:
            await audited.connection.execute(f"alter system reset {name}".encode())
        await audited.run("select pg_reload_conf()")
        await until_current(audited, ".json")


async def until_setting_of(connection: Connection, name: str, value: str) -> None:
    async with asyncio.timeout(10):
        while True:
            cursor = await connection.execute("select current_setting(%s)", (name,))
            if await cursor.fetchone() == (value,):
                return
            await asyncio.sleep(0.02)


async def left(place: Place) -> tuple[object, ...]:
    cursor = await place.connection.execute(
        "select (select count(*) from pg_roles where rolname = 'rowcast_audit'),"
        " to_regnamespace('rowcast_capture'),"
        " (select coalesce(relacl::text, '') like '%rowcast_audit%' from pg_class"
        " where relname = 'patients'),"
        " (select count(*) from pg_file_settings where name = 'pgaudit.role'),"
        " current_setting('pgaudit.role')"
    )
    return tuple(await cursor.fetchone() or ())


async def test_disable_loses_no_read_though_capture_is_down_and_leaves_nothing_behind(
    audited: Place, nurse: Role
) -> None:
    nothing = (0, None, False, 0, "")
    with psycopg.connect(dsn_of(audited, nurse), autocommit=True) as client:
        for number in (1, 3):
            client.execute(f"select 1 as n{number} from patients".encode())
            (said,) = await disable(audited)
            assert "keep the server's log files" in said
            assert (await left(audited))[0] == 0
            client.execute(f"select 1 as n{number + 1} from patients".encode())
            if number == 1:
                await enable(audited)  # again, before capture has read what was
        async with reading(audited):
            found = await until_read(audited, 2)
            async with asyncio.timeout(20):
                while await left(audited) != nothing:
                    await asyncio.sleep(0.05)
            await enable(audited)
            client.execute("select 1 as n5 from patients")
            assert await disable(audited, wait_s=20) == []
            assert await left(audited) == nothing
            found = await until_read(audited, 3)
    assert [event["statement"]["text"].split()[3] for event in found] == ["n1", "n3", "n5"]
    await enable(audited)
