"""A stock Debezium JDBC sink keeps a replica of tables from `format = "connect-json"`."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from psycopg import sql

from infra.artifacts import PROJECT
from tests.cdc.connect_sink import jdbc_sink
from tests.cdc.postgres_place import Place, capturing

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

LIMIT_S = 60.0
SHOP = (PROJECT / "examples/shop/tables.sql").read_text()
OTHERS = """
create table documents (id int primary key, title text, body text);
create table pages (id int primary key, title text, body text not null);
alter table pages replica identity full;
create table drafts (id int primary key, note varchar(20) unique);
create table pairs (a int, "b c" text, n numeric(12, 2), primary key (a, "b c"));
create table made (
    id uuid primary key, code char(5), doc jsonb, raw json, bin bytea, day date, at timestamp,
    clock time, price money, ip inet, net cidr, mac macaddr, span int4range, days daterange,
    small smallint, big bigint, yes boolean, half real, whole double precision,
    ids int[], names text[], amount numeric(20, 4));
"""
# What only a table of the same definition can hold.
EXACT = """
create type mood as enum ('ok', 'it''s');
create table exact (
    id int primary key, mood mood, moods mood[], n numeric, whole double precision, half real,
    day date, at timestamp, seen timestamptz, clock time, zoned timetz, span interval,
    words tsvector, spot point, bits bit(3), varied varbit, grid int[],
    stamps timestamptz[], sizes numeric[], addresses inet[], ranges tstzrange, home macaddr8);
create table replica.exact (like exact including all);
"""
"""Where nothing else stands, so the sink makes the table itself."""
ROWS = """
insert into users (name, email) values ('Ada', 'ada@a'), ('Bob', 'bob@b'), ('Eve', 'eve@e');
insert into products (name, price, stock, rating)
    values ('Tea', 12.30, 5, null), ('Cup', 0.05, 0, 4.50);
insert into orders (user_id, product_id, total) values (1, 1, 12.30), (2, 2, 99999999.99);
insert into documents select n, 't' || n, (select string_agg(md5((n * i)::text), '')
    from generate_series(1, 400) i) from generate_series(1, 5) n;
insert into pages select * from documents;
insert into drafts values (1, 'one'), (2, 'two');
insert into pairs values (1, 'x', 1.50), (2, 'y"', -0.05);
"""
MADE = """
insert into made values (
    'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'ab', '{"a": [1, null, "é"]}', '{"b":1.50}', '\\x00ff',
    '1815-12-10', '1969-07-20 20:17:40.123456', '01:02:03.5', '-12.50', '10.0.0.1/8',
    '10.0.0.0/8', '08:00:2b:01:02:03', '[1,5)', '[2026-01-01,)', -7, 9007199254740993, true, 1.5,
    -1e-300, '{1,null,-3}', '{"a b",null,"c\\"d"}', -1234567890123456.7890);
insert into made (id) values ('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12');
insert into exact values (
    1, 'it''s', '{ok}', 'NaN', '-Infinity', 'NaN', 'infinity', '0044-03-15 12:00:00 BC', 'infinity',
    '24:00', '01:02:03+05:30', '1 mon -2 days 03:04:05.000006', '''a'':1 ''b c'':2', '(1,2.5)',
    '101', '10', '{{1,2},{3,4}}', '{"2026-11-24 10:00:00+00"}', '{1.50,NaN}', '{::1}',
    '["2026-11-24 10:00:00+00",)', '08:00:2b:01:02:03:04:05');
insert into exact values (
    2, 'ok', '{}', '-123456789012345678901234567890.50', 1.5, -2.5, '2026-11-24',
    '2026-11-24 10:00:00.000001', '0001-01-01 00:00:00+00',
    '23:59:59.999999', '00:00:00+00', '00:00:00', '', '(0,0)', '000', '',
    '[0:1]={7,8}', '{}', '{}', '{}', 'empty', null);
insert into exact (id) values (3);
"""
CHANGES = """
insert into users (name, email) values ('Zoe', 'zoe@z');
update users set email = 'ada@new' where id = 1;
update users set id = 20 where id = 3;
delete from users where name = 'Zoe';
update products set price = price * 2, rating = 1.25;
update orders set status = 'paid' where id = 1;
delete from orders where id = 2;
insert into order_audit (order_id, new_status, event_id)
    values (1, 'paid', 'e1'), (2, 'paid', 'e2');
delete from order_audit where order_id = 2;
update documents set title = 'changed' where id in (1, 2);
update documents set body = null where id = 3;
delete from documents where id = 4;
update pages set title = 'changed' where id in (1, 2);
update pages set id = 50 where id = 5;
truncate drafts;
insert into drafts values (3, 'one'), (4, 'two');
begin;
delete from drafts where id = 3;
insert into drafts values (5, 'one');
commit;
update pairs set a = 3, n = 'NaN' where a = 1;
update exact set n = 7.25, whole = 0.1, at = 'infinity' where id = 1;
update exact set n = 'Infinity' where id = 2;
update exact set mood = 'ok', day = '2026-01-01' where id = 3;
"""
TABLES = (
    *("users", "products", "orders", "order_audit", "documents", "pages", "drafts", "pairs"),
    *("made", "exact"),
)


async def differences(place: Place, table: str) -> list[str]:
    """Rows that stand on one side only, with the side."""
    query = sql.SQL("""
        select side || ' ' || line from (
            (select 'source' as side, to_jsonb(s)::text as line from {source} s
             except all select 'source', to_jsonb(r)::text from {replica} r)
            union all
            (select 'replica', to_jsonb(r)::text from {replica} r
             except all select 'replica', to_jsonb(s)::text from {source} s)) found
    """).format(source=sql.Identifier(table), replica=sql.Identifier("replica", table))
    cursor = await place.connection.execute("select to_regclass('replica.' || %s)", (table,))
    if await cursor.fetchone() == (None,):
        return ["no table yet"]
    cursor = await place.connection.execute(query)
    return [row[0][:600] for row in await cursor.fetchall()]


async def until_equal(place: Place, tables: tuple[str, ...], log: Path) -> None:
    found: dict[str, list[str]] = {}
    try:
        async with asyncio.timeout(LIMIT_S):
            while True:
                found = {table: await differences(place, table) for table in tables}
                if not any(found.values()):
                    return
                if "Task is being killed" in log.read_text(errors="replace"):
                    break
                await asyncio.sleep(0.2)
    except TimeoutError:
        pass
    shown = {table: lines[:4] for table, lines in found.items() if lines}
    pytest.fail(f"{json.dumps(shown, indent=1)}\n{log.read_text(errors='replace')[-4000:]}")


async def run_script(place: Place, script: str) -> None:
    await place.connection.execute(script.encode())


async def test_a_stock_jdbc_sink_keeps_a_replica_of_each_table(
    place: Place, tmp_path: Path, kafka_bootstrap: str
) -> None:
    await run_script(place, f"create schema replica; {SHOP} {OTHERS} {EXACT} {ROWS}")
    source = replace(
        place.source,
        tables=("public.*",),
        snapshot="initial",
        format="connect-json",
        tombstones=True,
    )
    dsn = place.source.dsn
    with jdbc_sink(tmp_path / "sink", kafka_bootstrap, source.name, dsn) as log:
        async with capturing(place, source):
            await until_equal(place, ("users", "documents", "pages", "drafts"), log)
            await run_script(place, MADE)
            for statement in CHANGES.split(";\n"):
                await run_script(place, statement)
            await until_equal(place, TABLES, log)
    cursor = await place.connection.execute(
        "select column_name, data_type from information_schema.columns"
        " where table_schema = 'replica' and table_name = 'made' order by ordinal_position"
    )
    made = dict(cast("list[tuple[str, str]]", await cursor.fetchall()))
    assert made["doc"] == "jsonb"
