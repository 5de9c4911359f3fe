"""`rowcast reads`: who read the rows of a table, looked up on its topic of reads."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Final, cast

from aiokafka import ConsumerRecord

from cdc.table_name import possible_names
from events.json_codec import JsonObject, decode_object, encode
from events.topic import change_topic, reads_topic
from rowcast.errors import ConfigurationError
from rowcast.installation import Installation
from rowcast.kafka_access import follow, topic_names

_SINCE = re.compile(r"(\d+)([smhd])")
_UNIT_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_KEYS_SHOWN: Final = 5
_CLOCKS_APART_MS: Final = 3_600_000
_TEXT_SHOWN: Final = 200


async def find_reads(
    installation: Installation,
    source: str | None,
    table: str,
    *,
    key: str | None,
    subject: str | None,
    since: str | None,
) -> list[JsonObject]:
    """Who read rows of a table, oldest first; raises ConfigurationError for a bad condition.

    Without a source, in every source that has told of reads of a table of this name.
    """
    since_ms = _since_ms(since)
    wanted = _wanted(key, subject, since_ms)
    names = [source] if source is not None else list(installation.configuration.sources)
    possible = {name: _tables(installation, name, table) for name in names}
    topics = [reads_topic(name, *one) for name, tables in possible.items() for one in tables]
    there = await topic_names(installation.cluster)
    if there.isdisjoint(topics):
        changes = [change_topic(name, *one) for name, tables in possible.items() for one in tables]
        if there.isdisjoint(changes):
            raise ConfigurationError(
                f"found no topic {' or '.join(topics)}, expected one of a table that was read "
                "since its reads are events; to mend it: look at the name, and at rowcast audit "
                f"list {names[0]}"
            )
        return []  # its changes are captured, and nobody has read it
    found: list[JsonObject] = []
    records = follow(
        installation.cluster,
        topic_filter=tuple(topics),
        from_beginning=True,
        to_end=True,
        # Records bear the time of the source's clock or of ours.
        since_ms=max(0, since_ms - _CLOCKS_APART_MS) or None,
    )
    async with aclosing(records):
        async for record in records:
            read = _body(record)
            if read is not None and wanted(read):
                found.append(read)
    found.sort(key=_read_ms)
    return found


def reads_text(reads: Sequence[JsonObject], *, as_json: bool) -> str:
    """What to print of reads."""
    if as_json:
        return "\n".join(encode(read).decode() for read in reads)
    return "\n".join(map(_line, reads)) if reads else "no reads"


def _tables(installation: Installation, source: str, table: str) -> list[tuple[str, str]]:
    """Schema and name of each table that may be meant, of which one is there."""
    settings = installation.source(source)
    if settings.kind != "mongo":
        return possible_names(table)
    # A collection's name may have dots.
    first, _, rest = table.partition(".")
    if rest and settings.database in (None, first):
        return [(first, rest)]
    return [(installation.database(source), table)]


def _body(record: ConsumerRecord) -> JsonObject | None:
    return decode_object(record.value) if record.value else None


def _wanted(key: str | None, subject: str | None, since_ms: int) -> Callable[[JsonObject], bool]:
    as_object = _object(key)

    def holds(read: JsonObject) -> bool:
        who = cast("JsonObject", read.get("who") or {})
        if _read_ms(read) < since_ms:
            return False
        if subject is not None and subject not in (who.get("subject"), who.get("user")):
            return False
        return key is None or any(
            row == as_object or ",".join(map(_text, row.values())) == key for row in _keys(read)
        )

    return holds


def _object(key: str | None) -> JsonObject | None:
    """A key that is given as JSON: `{"id": 7}`, and `7` for a key of one column is none."""
    if key is None or not key.startswith("{"):
        return None
    try:
        return decode_object(key.encode())
    except ValueError:
        return None


def _keys(read: JsonObject) -> list[JsonObject]:
    keys = read.get("keys")
    if isinstance(keys, list):
        return cast("list[JsonObject]", keys)
    key = read.get("key")
    return [key] if isinstance(key, dict) else []


def _text(value: object) -> str:
    match value:
        case {"$oid": str(identity)}:
            return identity
        case _:
            pass
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
    shown = [str(who.get("user") or who.get("role") or "somebody")]
    if who.get("role") and who.get("user") and who.get("role") != who.get("user"):
        shown.append(f"as {who.get('role')}")
    if who.get("subject"):
        shown.append(f"for {who.get('subject')}")
    if who.get("application"):
        shown.append(f"with {who.get('application')}")
    if who.get("client"):
        shown.append(f"from {who.get('client')}")
    return f"{at}  {_what(read):<20}  {' '.join(shown)}"


def _what(read: JsonObject) -> str:
    keys = _keys(read)
    if keys:
        shown = " ".join(encode(key).decode() for key in keys[:_KEYS_SHOWN])
        more = len(keys) - _KEYS_SHOWN
        return shown + (f" and {more} more" if more > 0 else "")
    statement = read.get("statement")
    said = cast("JsonObject", statement if isinstance(statement, dict) else {})
    rows = read.get("rows")
    parts = [str(said.get("text") or said.get("command") or "rows")[:_TEXT_SHOWN]]
    if rows is not None:
        parts.append(f"({rows} rows)")
    return " ".join(parts)
