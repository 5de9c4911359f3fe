from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from cdc.finding import Finding
from cdc.postgres_doctor import examine_postgres
from cdc.postgres_source import PostgresSource

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


@pytest.fixture
def source(postgres_dsn: str) -> Iterator[PostgresSource]:
    name = f"d{uuid.uuid4().hex[:10]}"
    with psycopg.connect(postgres_dsn, autocommit=True) as admin:
        admin.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        dsn = make_conninfo(postgres_dsn, dbname=name)
        yield PostgresSource(name, dsn, f"slot_{name}", "rowcast")
        admin.execute(
            "select pg_drop_replication_slot(slot_name) from pg_replication_slots"
            " where database = %s",
            (name,),
        )
        admin.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


async def examined(source: PostgresSource) -> dict[str, Finding]:
    return {finding.subject: finding for finding in await examine_postgres(source)}


async def test_a_server_in_order_has_no_error(source: PostgresSource) -> None:
    findings = await examined(source)
    assert {subject: found.severity for subject, found in findings.items()} == {
        "connection": "ok",
        "server": "ok",
        "replication": "ok",
        "slot": "ok",
        "publication": "warning",
        "synchronous_commit": "ok",
    }


async def test_a_published_table_without_a_key_is_named_with_its_mend(
    source: PostgresSource,
) -> None:
    with psycopg.connect(source.dsn, autocommit=True) as connection:
        connection.execute("create table bare (a int)")
        connection.execute("create publication rowcast for all tables")
    finding = (await examined(source))["table"]
    assert finding.severity == "warning"
    assert finding.mend == 'alter table "public"."bare" replica identity full'


async def test_a_slot_says_how_much_log_it_keeps(source: PostgresSource) -> None:
    with psycopg.connect(source.dsn, autocommit=True) as connection:
        connection.execute(
            "select pg_create_logical_replication_slot(%s, 'pgoutput')", (source.slot,)
        )
    finding = (await examined(source))["slot"]
    assert finding.severity == "ok"
    assert "read by nobody now, keeps" in finding.found


async def test_a_slot_of_another_plugin_is_an_error(source: PostgresSource) -> None:
    with psycopg.connect(source.dsn, autocommit=True) as connection:
        connection.execute("select pg_create_physical_replication_slot(%s)", (source.slot,))
    finding = (await examined(source))["slot"]
    with psycopg.connect(source.dsn, autocommit=True) as connection:
        connection.execute("select pg_drop_replication_slot(%s)", (source.slot,))
    assert finding.severity == "error"
    assert "a slot of pgoutput" in finding.expected


async def test_a_role_without_replication_is_an_error_with_the_command(
    source: PostgresSource,
) -> None:
    role = f"r{uuid.uuid4().hex[:8]}"
    with psycopg.connect(source.dsn, autocommit=True) as connection:
        connection.execute(
            sql.SQL("create role {} login password 'x'").format(sql.Identifier(role))
        )
        findings = await examined(
            replace(source, dsn=make_conninfo(source.dsn, user=role, password="x"))
        )
        connection.execute(sql.SQL("drop role {}").format(sql.Identifier(role)))
    assert findings["replication"].severity == "error"
    assert findings["replication"].mend == f'alter role "{role}" replication'


async def test_synchronous_commit_off_is_pointed_out(source: PostgresSource) -> None:
    with psycopg.connect(source.dsn, autocommit=True) as connection:
        connection.execute(
            sql.SQL("alter database {} set synchronous_commit = off").format(
                sql.Identifier(source.name)
            )
        )
    assert (await examined(source))["synchronous_commit"].severity == "warning"


async def test_a_server_that_is_not_there_is_one_error(source: PostgresSource) -> None:
    (finding,) = await examine_postgres(replace(source, dsn=make_conninfo(source.dsn, port="9")))
    assert (finding.severity, finding.subject) == ("error", "connection")


async def test_tables_that_a_sink_could_not_keep_whole_are_named_for_connect_json_only(
    source: PostgresSource,
) -> None:
    with psycopg.connect(source.dsn, autocommit=True) as connection:
        connection.execute("create table whole (id int primary key, body text not null)")
        connection.execute("create table small (id int primary key, body text)")
        connection.execute("create table large (id int primary key, body text not null)")
        connection.execute("create table bare (body text)")
        connection.execute("alter table whole replica identity full")
        for name in ("whole", "large"):
            connection.execute(
                sql.SQL(
                    "insert into {} select 1, string_agg(md5(n::text), '')"
                    " from generate_series(1, 400) n"
                ).format(sql.Identifier(name))
            )
        connection.execute("create publication rowcast for all tables")
    plain = await examine_postgres(source)
    assert not [finding for finding in plain if finding.subject == "sink"]
    found = await examine_postgres(replace(source, format="connect-json"))
    assert [(one.severity, one.mend) for one in found if one.subject == "sink"] == [
        ("warning", 'alter table "public"."large" replica identity full'),
        ("warning", 'alter table "public"."bare" add primary key (...)'),
    ]
