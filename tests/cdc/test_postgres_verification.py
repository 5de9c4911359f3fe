"""verify: what equals is found equal while writes go on, what was tampered with is found."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import LiteralString

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete
from psycopg.conninfo import make_conninfo

from cdc.errors import CaptureConfigError
from cdc.postgres_verification import VerifyLimits, verify_postgres
from cdc.verification import TableVerification, Verification
from tests.cdc.postgres_place import Envelope, Place, capturing
from tests.cdc.snapshot_view import loading, until_over
from tests.cdc.storm import storm

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

TABLES: Sequence[LiteralString] = (
    """create table sorts (id bigint primary key, n numeric, f float8, t timestamptz, d date,
       b bytea, j jsonb, a int[], e text, i interval, g bigint generated always as (id * 2) stored,
       body text)""",
    "create table names (first text, last text, age int, primary key (last, first))",
    "create table keyless (a int, b text)",
    'create table "Odd, name" ("a b" int primary key, "c""d" text)',
    "create table parts (id int, day date, primary key (id, day)) partition by range (day)",
    "create table parts_1 partition of parts for values from ('2026-01-01') to ('2026-06-01')",
    "create table parts_2 partition of parts for values from ('2026-06-01') to ('2027-01-01')",
    "create table emptied (id int primary key)",
)
CHANGES: Sequence[LiteralString] = (
    """insert into sorts values (1, 'NaN', '-0', 'infinity', '0044-03-15 BC', '\\x00ff',
       '{"big": 12345678901234567890.123456789, "null": null}', '[0:1]={1,NULL}', 'ä"\\', '1 mon',
       default, (select string_agg(md5(n::text), '') from generate_series(1, 400) n))""",
    """insert into sorts (id, n, f, t, body) select n, n / 7.0, n / 7.0, now(),
       case n when 2 then (select string_agg(md5(m::text), '') from generate_series(1, 400) m) end
       from generate_series(2, 90) n""",
    # The large value stays where it is: the log does not hold it.
    "update sorts set e = 'changed' where id < 40",
    "update sorts set id = id + 1000, e = 'moved' where id in (1, 3)",
    "delete from sorts where id % 5 = 0",
    "insert into names select n::text, 'x', n from generate_series(1, 20) n",
    "update names set first = first || 'a' where age < 5",
    "insert into keyless select n % 3, 'same' from generate_series(1, 30) n",
    "delete from keyless where ctid in (select ctid from keyless where a = 1 limit 4)",
    "update keyless set b = 'other' where a = 2",
    "insert into \"Odd, name\" values (1, null), (2, '')",
    "insert into parts select n, '2026-05-25'::date + n from generate_series(1, 12) n",
    "update parts set day = day + 30 where id < 4",
    "insert into emptied select generate_series(1, 50)",
    "truncate emptied",
    "insert into emptied values (7), (8)",
    "select rowcast.emit('custom.paid'), pg_logical_emit_message(true, 'mail', '{}')",
    "alter table names add column since date default '2026-01-01', drop column age",
    "update names set since = '2026-02-02' where first = '9'",
    """alter table "Odd, name" alter column "c""d" type int using nullif("c""d", '')::int""",
)


async def found(place: Place, *tables: str, timeout_s: float = 30) -> Verification:
    limits = VerifyLimits(timeout_s=timeout_s)
    return await verify_postgres(place.source, place.cluster, tables, limits)


async def one(place: Place, table: str) -> TableVerification:
    (verified,) = (await found(place, table)).tables
    return verified


async def write(place: Place, table: str, key: object, body: Envelope | bytes) -> None:
    """Put a record on the table's topic, as nobody should."""
    value = body if isinstance(body, bytes) else json.dumps(body).encode()
    topic = f"{place.source.name}.public.{table}"
    async with AIOKafkaProducer(bootstrap_servers=place.cluster.bootstrap) as producer:
        await producer.send_and_wait(topic, value, json.dumps(key, separators=(",", ":")).encode())


def forged(bodies: list[Envelope], order: int, after: Envelope | None) -> Envelope:
    """One more change of the last transaction, which never was."""
    place = {"id": "", "total_order": order}
    operation = "c" if after is not None else "d"
    return bodies[-1] | {"id": "forged", "op": operation, "after": after, "transaction": place}


async def test_what_capture_wrote_of_every_sort_of_table_equals_the_tables(place: Place) -> None:
    await place.run(*TABLES)
    await place.run("alter table sorts alter column body set storage external")
    await place.run(*CHANGES[:2])
    async with capturing(place, loading(place)):
        await until_over(place, "sorts")
        await place.run(*CHANGES[2:])
        verification = await found(place)
    assert verification.difference_count == 0, verification
    rows = {table.table: table.rows for table in verification.tables}
    assert rows == {
        "sorts": 72,
        "names": 20,
        "keyless": 26,
        "Odd, name": 2,
        "parts": 12,
        "emptied": 2,
    }
    assert verification.transactions == len(CHANGES) - 2 - 2
    untold = {table.table: table.untold_values for table in verification.tables}
    # Rows told before the column was there, the large value of a row whose key changed, and a
    # value from before its column had another type.
    assert untold == {**dict.fromkeys(rows, 0), "names": 19, "sorts": 1, "Odd, name": 1}


async def test_records_in_connects_json_are_compared_as_well(place: Place) -> None:
    await place.run(*TABLES)
    source = replace(loading(place), format="connect-json", tombstones=True)
    async with capturing(place, source):
        await place.run(*CHANGES)
        limits = VerifyLimits(timeout_s=30)
        verification = await verify_postgres(source, place.cluster, limits=limits)
    assert verification.difference_count == 0, verification
    assert sum(table.rows for table in verification.tables) == 134
    assert sum(table.records for table in verification.tables) > 134


async def test_it_is_exact_while_writers_change_rows_and_keys(place: Place) -> None:
    await place.run("create table items (id int primary key, seq text)")
    async with capturing(place):
        with storm(place.source.dsn, writers=3, keys=60, pause_s=0.004) as writers:
            for _ in range(8):
                verification = await found(place)
                assert verification.difference_count == 0, verification
            assert sum(len(writer.committed) for writer in writers) > 100


async def test_every_kind_of_difference_is_found_with_its_row(place: Place) -> None:
    await place.run("create table items (id int primary key, a text, b int)")
    async with capturing(place, loading(place)):
        await place.run("insert into items select n, 'x', n from generate_series(1, 9) n")
        bodies = await place.until("items", 9)
        assert (await found(place)).difference_count == 0
        await write(place, "items", {"id": 99}, forged(bodies, 11, {"id": 99, "a": "x", "b": 0}))
        await write(place, "items", {"id": 3}, forged(bodies, 12, {"id": 3, "a": "y", "b": 3}))
        await write(place, "items", {"id": 4}, forged(bodies, 13, None))
        await write(place, "items", {"id": 5}, bodies[4])
        await write(place, "items", {"id": 6}, b"no JSON")
        verification = await found(place)
    (items,) = verification.tables
    kinds = {difference.kind: difference for difference in items.differences}
    assert (items.missing, items.extra, items.different) == (1, 1, 1), items
    assert (items.repeated, items.unreadable) == (1, 1), items
    assert bytes(kinds["missing"].key or b"") == b'{"id":4}'
    assert bytes(kinds["extra"].key or b"") == b'{"id":99}'
    assert bytes(kinds["different"].table or b"") == b'{"a":"x"}'
    assert bytes(kinds["different"].topic or b"") == b'{"a":"y"}'
    assert bodies[4]["id"] in kinds["repeated"].detail
    assert len(verification.torn) == 1
    assert "13 changes" in verification.torn[0]
    assert verification.difference_count == 6


async def test_equal_rows_of_a_table_without_a_key_are_counted(place: Place) -> None:
    await place.run("create table items (a int)")
    async with capturing(place, loading(place)):
        await place.run("insert into items values (1), (1), (2)")
        bodies = await place.until("items", 3)
        async with AIOKafkaProducer(bootstrap_servers=place.cluster.bootstrap) as producer:
            value = json.dumps(forged(bodies, 4, {"a": 1}), separators=(",", ":")).encode()
            topic = f"{place.source.name}.public.items"
            await producer.send_and_wait(topic, value, partition=0)
        items = await one(place, "items")
    assert (items.extra, items.difference_count) == (1, 1), items
    assert items.differences[0].detail == "2 equal rows in the table, 3 on the topic"


async def test_what_a_topic_cannot_have_is_said_and_is_no_difference(place: Place) -> None:
    await place.run(
        "create table items (id int primary key, a text)",
        "insert into items select n, 'x' from generate_series(1, 20) n",
    )
    async with capturing(place):
        await place.run("update items set a = 'y' where id <= 3")
        await place.until("items", 3)
        never = await one(place, "items")
        assert (never.untold, never.difference_count) == (17, 0)
        assert "were not loaded" in never.statements[0]
    async with capturing(place, loading(place)):
        loaded = await one(place, "items")
        assert (loaded.untold, loaded.difference_count, loaded.statements) == (0, 0, [])
        topic = f"{place.source.name}.public.items"
        admin = AIOKafkaAdminClient(bootstrap_servers=place.cluster.bootstrap)
        await admin.start()
        ends = {TopicPartition(topic, number): RecordsToDelete(3) for number in range(4)}
        await admin.delete_records(ends)
        await admin.close()
        verification = await found(place)
    (deleted,) = verification.tables
    assert deleted.untold > 0
    assert deleted.difference_count == 0
    assert "retention" in deleted.statements[0]
    assert verification.transactions is None
    assert "no longer holds" in verification.statements[0]


async def test_rows_told_under_another_key_are_no_differences(place: Place) -> None:
    await place.run("create table items (id int primary key, u int not null)")
    async with capturing(place, loading(place)):
        await place.run(
            "insert into items select n, n * 10 from generate_series(1, 5) n",
            "alter table items drop constraint items_pkey, add primary key (u)",
            "insert into items values (6, 60)",
            "update items set id = 20 where u = 20",
            "delete from items where u = 30",
        )
        items = await one(place, "items")
    assert items.difference_count == 0, items
    assert (items.rows, items.untold) == (5, 8)
    assert "the record key was another one" in items.statements[0]


async def test_without_a_capture_that_runs_it_says_so_and_compares_nothing(place: Place) -> None:
    await place.run("create table items (id int primary key)")
    async with capturing(place):
        pass
    await place.run("insert into items values (1)")
    with pytest.raises(CaptureConfigError, match="it to pass"):
        await found(place, timeout_s=0.5)


async def test_a_table_that_the_role_may_not_read_is_named(place: Place) -> None:
    await place.run(
        "create table items (id int primary key)",
        "create role reader login password 'reader'",
    )
    try:
        async with capturing(place):
            conninfo = make_conninfo(place.source.dsn, user="reader", password="reader")
            source = replace(place.source, dsn=conninfo)
            with pytest.raises(CaptureConfigError, match="grant select on"):
                await verify_postgres(source, place.cluster)
    finally:
        await place.run("drop role reader")
