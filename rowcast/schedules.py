"""`rowcast schedules`: what waits to be emitted, once or again and again."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

from router.errors import ScheduleError
from router.schedule import ScheduledEvent, Timetable
from rowcast.installation import Installation
from rowcast.kafka_access import read_topic


async def schedules_text(installation: Installation, *, as_json: bool) -> str:
    """All that is pending, the next first."""
    table = Timetable()
    for record in await read_topic(installation.cluster, installation.cluster.topics.schedules):
        if record.key is not None:
            # The scheduler says what it passes over.
            with contextlib.suppress(ScheduleError):
                table.take(record.offset, record.key, record.value)
    pending = table.in_order()
    if as_json:
        return "\n".join(event.encode().decode() for event in pending)
    return "\n".join(_line(event) for event in pending) or "no schedules"


def _line(event: ScheduledEvent) -> str:
    due = datetime.fromtimestamp(event.due_ms / 1_000, UTC).isoformat(timespec="seconds")
    how = str(event.recurrence) if event.recurrence is not None else "once"
    name = f", named {event.name}" if event.name is not None else ""
    return f"{due}  {event.type:<32} {how}, asked for by {event.listener}{name}"
