"""`rowcast audit` and `rowcast reads`: reads become events, and who read a row is looked up."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import cast

from aiokafka import ConsumerRecord

from cdc.postgres_source import PostgresSource, connect
from cdc.read_policy import (
    AuditedTable,
    audited_tables,
    disable_row_audit,
    enable_row_audit,
)
from events.json_codec import JsonObject, decode_object, encode
from events.topic import reads_topic
from rowcast.errors import ConfigurationError
from rowcast.installation import Installation
from rowcast.kafka_access import read_topic

_SINCE = re.compile(r"(\d+)([smhd])")
_UNIT_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


async def enable(installation: Installation, source: str, table: str, *, force: bool) -> str:
    """Make reads of a table events, by row; what to tell the user."""
    postgres, schema, name = _table(installation, source, table)
    connection = await connect(postgres)
    try:
        audited = await enable_row_audit(connection, postgres, schema, name, force=force)
    finally:
        await connection.close()
    topic = reads_topic(source, schema, name)
    lines = [f"reads of {schema}.{name} are events on {topic} from now on"]
    return "\n".join([*lines, *_unseen_lines(audited)])


async def disable(installation: Installation, source: str, table: str) -> str:
    """Make them events no longer; what to tell the user."""
    postgres, schema, name = _table(installation, source, table)
    connection = await connect(postgres)
    try:
        await disable_row_audit(connection, postgres, schema, name)
    finally:
        await connection.close()
    return f"reads of {schema}.{name} are no events any more; nothing of the audit is left on it"


async def audited(installation: Installation, source: str) -> str:
    """The tables of a source whose reads are events by row."""
    connection = await connect(_postgres(installation, source))
    try:
        tables = await audited_tables(connection)
    finally:
        await connection.close()
    if not tables:
        return f"no table of {source} is audited: rowcast audit enable {source} TABLE --rows"
    lines = [f"{table.schema}.{table.table}  by row" for table in tables]
    return "\n".join([*lines, *_unseen_lines(tables[0])])


async def reads_text(
    installation: Installation,
    source: str,
    table: str,
    *,
    key: str | None,
    subject: str | None,
    since: str | None,
    as_json: bool,
) -> str:
    """Who read rows of a table, oldest first; raises ConfigurationError for a bad condition."""
    _, schema, name = _table(installation, source, table)
    wanted = _wanted(key, subject, _since_ms(since))
    records = await read_topic(installation.cluster, reads_topic(source, schema, name))
    reads = [read for read in map(_body, records) if read is not None and wanted(read)]
    if as_json:
        return "\n".join(encode(read).decode() for read in reads)
    return "\n".join(map(_line, reads)) if reads else "no reads"


def _postgres(installation: Installation, source: str) -> PostgresSource:
    if installation.source(source).kind != "postgres":
        raise ConfigurationError(
            f"found the source {source!r} of kind mongo, expected one of kind postgres: "
            "reads are audited by row in PostgreSQL only"
        )
    return installation.postgres_source(source)


def _table(installation: Installation, source: str, table: str) -> tuple[PostgresSource, str, str]:
    schema, _, name = table.rpartition(".")
    return _postgres(installation, source), schema or "public", name


def _unseen_lines(table: AuditedTable) -> list[str]:
    if not table.unseen:
        return []
    roles = ", ".join(table.unseen)
    return [f"not seen: reads as {roles}: row security does not hold for such roles"]


def _body(record: ConsumerRecord) -> JsonObject | None:
    return decode_object(record.value) if record.value else None


def _wanted(key: str | None, subject: str | None, since_ms: int) -> Callable[[JsonObject], bool]:
    def holds(read: JsonObject) -> bool:
        who = cast("JsonObject", read.get("who") or {})
        row = cast("JsonObject", read.get("key") or {})
        if _read_ms(read) < since_ms:
            return False
        if subject is not None and subject not in (who.get("subject"), who.get("user")):
            return False
        # `7` for a key of one column, `{"id":7}` for any.
        return key is None or key in (encode(row).decode(), ",".join(map(_text, row.values())))

    return holds


def _text(value: object) -> str:
    return value if isinstance(value, str) else encode(cast("JsonObject", value)).decode()


def _read_ms(read: JsonObject) -> int:
    source = cast("JsonObject", read.get("source") or {})
    found = source.get("ts_ms")
    return found if isinstance(found, int) else 0


def _since_ms(since: str | None) -> int:
    if since is None:
        return 0
    matched = _SINCE.fullmatch(since)
    if matched is None:
        raise ConfigurationError(
            f"found --since {since!r}, expected a number and s, m, h or d, e.g. 90m or 1d"
        )
    return int((time.time() - int(matched[1]) * _UNIT_S[matched[2]]) * 1_000)


def _line(read: JsonObject) -> str:
    who = cast("JsonObject", read.get("who") or {})
    at = datetime.fromtimestamp(_read_ms(read) / 1_000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    shown = [str(who.get("user"))]
    if who.get("role") != who.get("user"):
        shown.append(f"as {who.get('role')}")
    if who.get("subject"):
        shown.append(f"for {who.get('subject')}")
    if who.get("application"):
        shown.append(f"with {who.get('application')}")
    if who.get("client"):
        shown.append(f"from {who.get('client')}")
    key = encode(cast("JsonObject", read.get("key"))).decode()
    return f"{at}  {key:<20}  {' '.join(shown)}"
