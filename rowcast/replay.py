"""Events of the past, given to one listener once more: those of a time, or one by its id."""

from __future__ import annotations

import re
import time
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from aiokafka import ConsumerRecord

from events.errors import EventFormatError
from events.event import Event, decode_event
from events.event_type import EventPattern
from push.topic_selection import may_hold
from router.definition import Definition
from router.listener import Listener
from router.replay import replay_record
from rowcast.definition_files import read_listeners
from rowcast.errors import ConfigurationError, NotFoundError
from rowcast.installation import Installation
from rowcast.kafka_access import Record, follow, write_records

_AGO: Final = re.compile(r"(\d{1,9})([smhd])")
_UNIT_S: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_BATCH: Final = 1_000


@dataclass(frozen=True, slots=True)
class Range:
    """Which events: of types that a pattern selects, written in a time, in milliseconds."""

    pattern: EventPattern
    since_ms: int
    until_ms: int
    event_id: str | None
    limit: int


@dataclass(frozen=True, slots=True)
class Replayed:
    """How many events the listener was given; `complete` unless the limit cut it short."""

    events: int
    complete: bool


async def replay(
    installation: Installation, listener: str, wanted: Range, *, dry_run: bool
) -> Replayed:
    """Give a listener what it asks for of a range, in the order of each key.

    Its `where` counts, its `since_ms` does not. Nothing is written in a dry run.
    """
    found = await enabled_listener(installation, listener)
    chooser = Listener.compile(found)
    topics = installation.cluster.topics
    records = follow(
        installation.cluster,
        topic_filter=topics.routed_pattern(installation.cluster.sources),
        from_beginning=True,
        to_end=True,
        since_ms=wanted.since_ms,
    )
    count = 0
    batch: list[Record] = []
    async with aclosing(records):
        async for record in records:
            event = _wanted(installation, record, wanted, chooser)
            if event is None:
                continue
            if count == wanted.limit:
                await write_records(installation.cluster, batch)
                return Replayed(count, complete=False)
            count += 1
            if dry_run:
                continue
            made = replay_record(topics.retry, listener, event, record.key)
            batch.append(Record(made.topic, made.key, made.value, made.headers))
            if len(batch) == _BATCH:
                await write_records(installation.cluster, batch)
                batch = []
    if batch:
        await write_records(installation.cluster, batch)
    return Replayed(count, complete=True)


async def enabled_listener(installation: Installation, name: str) -> Definition:
    """The listener of a name; raises NotFoundError, or ConfigurationError where it is off."""
    present = await read_listeners(installation)
    if name not in present:
        known = ", ".join(sorted(present)) or "none"
        raise NotFoundError(f"found no listener {name!r}, expected one of those applied: {known}")
    if not present[name].enabled:
        raise ConfigurationError(
            f"found the listener {name!r} with enabled = false, expected one that is enabled"
        )
    return present[name]


def time_ms(text: str, what: str) -> int:
    """A time in milliseconds since 1970 from `90m` (ago) or ISO 8601."""
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return int((time.time() - int(ago[1]) * _UNIT_S[ago[2]]) * 1_000)
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is None:
            at = at.replace(tzinfo=UTC)
        return int(at.timestamp() * 1_000)
    except (ValueError, OverflowError, OSError) as error:
        raise ConfigurationError(
            f"found {what} {text[:100]!r}, expected how long ago (90s, 15m, 24h, 30d) or a time "
            "like 2026-11-25T06:00:00Z"
        ) from error


def _wanted(
    installation: Installation, record: ConsumerRecord, wanted: Range, chooser: Listener
) -> Event | None:
    topics = installation.cluster.topics
    held = record.topic == topics.schema or may_hold(topics, record.topic, wanted.pattern)
    is_past = wanted.since_ms <= record.timestamp <= wanted.until_ms
    event = _event(record) if held and is_past and record.topic != topics.retry else None
    if event is None or wanted.event_id not in (None, event.id):
        return None
    if not wanted.pattern.matches(event.type):
        return None
    return event if chooser.predicate is None or chooser.predicate(event.body) else None


def _event(record: ConsumerRecord) -> Event | None:
    try:
        return decode_event(record.value or b"", record.headers)
    except EventFormatError:
        return None
