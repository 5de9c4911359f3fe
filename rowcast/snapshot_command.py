"""`rowcast snapshot` and what `rowcast status` says of snapshots."""

from __future__ import annotations

import secrets
from typing import TypeAlias

from cdc.postgres_snapshot_request import check_request
from cdc.snapshot_state import SnapshotKey, SnapshotStates, TableSnapshot
from rowcast.errors import ConfigurationError, NotRunningError
from rowcast.installation import Installation
from rowcast.kafka_access import read_topic, write_record
from rowcast.status import Status

Snapshots: TypeAlias = "dict[str, list[TableSnapshot]]"
"""The last snapshot of each table, by source."""


async def ask_for_snapshot(installation: Installation, source: str, table: str, where: str) -> str:
    """Ask the source's capture to load a table; returns what was asked for.

    Raises CaptureConfigError or ConfigurationError for what cannot be loaded, NotRunningError
    where Kafka is not there.
    """
    if installation.source(source).kind != "postgres":
        raise ConfigurationError(
            f"found the source {source!r} of kind mongo, expected one of kind postgres: "
            "collections are not loaded by snapshots"
        )
    request = await check_request(installation.postgres_source(source), table, where)
    cluster = installation.cluster
    key = SnapshotKey(source, request=secrets.token_hex(4)).encode()
    await write_record(cluster, cluster.topics.snapshots, key, request.encode())
    condition = f" where {request.where}" if request.where else ""
    return f"{request.schema}.{request.table}{condition}"


async def read_snapshots(installation: Installation, status: Status) -> Snapshots:
    """The snapshots on Kafka; none where Kafka does not answer or nothing runs."""
    if not any(service.state == "running" for service in status.services.values()):
        return {}
    cluster = installation.cluster
    states = {name: SnapshotStates(name) for name in cluster.sources}
    try:
        records = await read_topic(cluster, cluster.topics.snapshots)
    except NotRunningError:
        return {}
    for record in sorted(records, key=lambda record: record.offset):
        for state in states.values():
            state.take(record.key or b"", record.value)
    return {
        name: [state.tables[table] for table in sorted(state.tables)]
        for name, state in states.items()
        if state.tables
    }


def snapshot_lines(source: str, tables: list[TableSnapshot]) -> list[str]:
    """A line for each table that is not loaded yet, and one for those that are."""
    loaded = [table for table in tables if table.state == "finished"]
    lines = [_line(source, table) for table in tables if table.state != "finished"]
    if loaded:
        rows = sum(table.rows for table in loaded)
        lines.append(f"{source:<16} loaded      {len(loaded)} tables, {rows:,} rows")
    return lines


def _line(source: str, table: TableSnapshot) -> str:
    parts = [f"{table.schema}.{table.table}"]
    if table.where:
        parts.append(f"where {table.where}")
    if table.started_ms:
        of = f" of about {table.estimated_rows:,}" if table.estimated_rows is not None else ""
        parts.append(f"{table.rows:,}{of} rows")
    if table.position:
        parts.append(f"up to {', '.join(table.position)}")
    if table.error:
        parts.append(table.error)
    state = {"waiting": "to load", "running": "loading"}.get(table.state, table.state)
    return f"{source:<16} {state:<11} {', '.join(parts)}"
