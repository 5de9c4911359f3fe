"""`rowcast schedules`: what waits to be emitted, once or again and again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from router.schedule import ScheduledEvent


def schedules_text(pending: Sequence[ScheduledEvent], *, as_json: bool) -> str:
    """All that is pending, the next first."""
    if as_json:
        return "\n".join(event.encode().decode() for event in pending)
    return "\n".join(_line(event) for event in pending) or "no schedules"


def _line(event: ScheduledEvent) -> str:
    due = datetime.fromtimestamp(event.due_ms / 1_000, UTC).isoformat(timespec="seconds")
    how = str(event.recurrence) if event.recurrence is not None else "once"
    name = f", named {event.name}" if event.name is not None else ""
    asked = f"asked for by {event.listener}{name}"
    return f"{due}  {event.type:<32} {how}, {asked}, id {event.id}"
