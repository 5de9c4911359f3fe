"""An examination of a PostgreSQL source, changing nothing: will capture run, and go on running?"""

from __future__ import annotations

from typing import LiteralString, cast

import psycopg

from cdc.errors import CaptureConfigError
from cdc.finding import Finding
from cdc.postgres_new_tables import missing_tables
from cdc.postgres_preparation import check_server
from cdc.postgres_publication import keyless_tables, published_tables
from cdc.postgres_risks import find_risks, read_facts
from cdc.postgres_sink_risks import find_sink_risks
from cdc.postgres_slot import slot_state
from cdc.postgres_slot_watch import read_retention
from cdc.postgres_source import Connection, PostgresSource, connect
from cdc.postgres_standbys import find_standby_risks
from cdc.read_policy_check import find_row_audit_risks
from cdc.statement_audit import find_audit_risks
from cdc.wal_retention import MEBIBYTE

_SERVER: LiteralString = """
    select current_setting('synchronous_commit'),
           current_setting('max_replication_slots')::int,
           (select count(*)::int from pg_catalog.pg_replication_slots)
"""


async def examine_postgres(source: PostgresSource) -> list[Finding]:
    """Look at all that capture depends on; the first finding says whether the server answers."""
    try:
        connection = await connect(source)
    except CaptureConfigError as error:
        return [Finding.of_error("connection", error)]
    try:
        findings = [
            _ok("connection", f"{connection.info.host}:{connection.info.port} answers"),
            await _server(connection),
            await _replication_right(source),
        ]
        for examine in (
            _slot,
            _publication,
            _synchronous_commit,
            _risks,
            find_sink_risks,
            find_standby_risks,
            find_row_audit_risks,
            find_audit_risks,
        ):
            try:
                findings += await examine(connection, source)
            except CaptureConfigError as error:
                findings.append(Finding.of_error(examine.__name__.strip("_"), error))
    except psycopg.Error as error:
        findings = [
            Finding("error", "connection", str(error).strip(), "answers to all questions", "")
        ]
    finally:
        await connection.close()
    return findings


async def _server(connection: Connection) -> Finding:
    try:
        await check_server(connection)
    except CaptureConfigError as error:
        return Finding.of_error("server", error)
    version = connection.info.server_version // 10_000
    return _ok("server", f"PostgreSQL {version}, wal_level = logical")


async def _replication_right(source: PostgresSource) -> Finding:
    try:
        replication = await connect(source, replication=True)
    except CaptureConfigError as error:
        return Finding.of_error("replication", error)
    await replication.close()
    return _ok("replication", "the role may read the write-ahead log")


async def _slot(connection: Connection, source: PostgresSource) -> list[Finding]:
    slot = await slot_state(connection, source)
    _, room, taken = await _row(connection, _SERVER)
    if slot is None:
        if int(str(taken)) < int(str(room)):
            return [_ok("slot", f"{source.slot} will be made; {taken} of {room} slots are taken")]
        return [
            Finding(
                "error",
                "slot",
                f"all {room} replication slots taken",
                f"a free one for {source.slot}",
                f"alter system set max_replication_slots = {int(str(room)) + 10}, and restart "
                "the server",
            )
        ]
    if slot.invalidation is not None:
        return [
            Finding(
                "error",
                "slot",
                f"{source.slot} invalidated by the server ({slot.invalidation})",
                "a slot that keeps the log",
                f'changes were lost; set on_gap = "snapshot" in {source.setting} to go on and load '
                'all tables anew, or "continue" to go on without',
            )
        ]
    kept = await read_retention(connection, source)
    if kept is None:
        return []
    if not kept.is_over:
        return [_ok("slot", kept.summary)]
    budget = f"less than {kept.budget_bytes // MEBIBYTE} MiB (wal_budget_mb in {source.setting})"
    return [Finding("warning", "slot", kept.summary, budget, kept.mend())]


async def _publication(connection: Connection, source: PostgresSource) -> list[Finding]:
    tables = await published_tables(connection, source)
    findings = [
        _ok("publication", f"{source.publication} publishes {len(tables)} tables")
        if tables
        else Finding(
            "warning",
            "publication",
            f"{source.publication} publishes no table, or is not there yet",
            "at least one table",
            "start capture, which makes it, or create the tables",
        )
    ]
    for schema, table in await missing_tables(connection, source):
        findings.append(
            Finding(
                "warning",
                "publication",
                f"{schema}.{table} is to be captured and not in {source.publication}",
                "all tables that fit `tables` in the publication; capture adds them where it may",
                f'alter publication "{source.publication}" add table "{schema}"."{table}"',
            )
        )
    for schema, table in await keyless_tables(connection, source):
        findings.append(
            Finding(
                "warning",
                "table",
                f"{schema}.{table} is published without a key: UPDATE and DELETE on it fail in "
                "the application",
                "a primary key or REPLICA IDENTITY FULL",
                f'alter table "{schema}"."{table}" replica identity full',
            )
        )
    return findings


async def _synchronous_commit(connection: Connection, _source: PostgresSource) -> list[Finding]:
    value, *_ = await _row(connection, _SERVER)
    if value != "off":
        return [_ok("synchronous_commit", str(value))]
    return [
        Finding(
            "warning",
            "synchronous_commit",
            "off: changes are seen up to 0.6 s late (three times wal_writer_delay)",
            "on, where latency matters",
            "alter system set synchronous_commit = 'on', then select pg_reload_conf()",
        )
    ]


async def _risks(connection: Connection, source: PostgresSource) -> list[Finding]:
    return find_risks(await read_facts(connection, source), source)


async def _row(connection: Connection, query: LiteralString, *values: object) -> tuple[object, ...]:
    cursor = await connection.execute(query, values or None)
    row = await cursor.fetchone()
    return cast("tuple[object, ...]", row) if row is not None else (0,)


def _ok(subject: str, found: str) -> Finding:
    return Finding("ok", subject, found, "", "")
