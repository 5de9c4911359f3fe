"""What definitions ask for by the clock, and what of it stands on `rowcast.schedules`.

Pure. Each definition that is enabled and has a `schedule` or `every` has one record there, written
by the scheduler alone: it holds the next due time, so that none is carried out twice or forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from router.definition import Definition
from router.schedule import Due, ScheduledEvent


def by_the_clock(definitions: Iterable[Definition]) -> dict[str, Definition]:
    """Those that run by the clock, by name."""
    return {one.name: one for one in definitions if one.enabled and (one.schedule or one.every)}


def settle_definitions(
    pending: Iterable[ScheduledEvent], wanted: Mapping[str, Definition], now_ms: int
) -> Due:
    """What is to be written so that what is pending is what definitions want.

    A new definition's times count from when it was applied, a changed one's from now on.
    """
    standing = {one.listener: one for one in pending if not one.root}
    removed = [one.record_key for name, one in standing.items() if name not in wanted]
    written: list[ScheduledEvent] = []
    for name, definition in wanted.items():
        before = standing.get(name)
        recurrence = definition.recurrence
        if recurrence is None or (before is not None and before.recurrence == recurrence):
            continue
        is_new = before is None and definition.version == 1
        due_ms = recurrence.next_ms(definition.since_ms if is_new else now_ms)
        if due_ms is not None:
            written.append(_scheduled(definition, due_ms))
    return Due([], removed, written)


def _scheduled(definition: Definition, due_ms: int) -> ScheduledEvent:
    return ScheduledEvent(
        id=f"schedule/{definition.name}",
        type=definition.on,
        due_ms=due_ms,
        tenant=definition.tenant,
        cause="",
        listener=definition.name,
        root="",
        path=(),
        recurrence=definition.recurrence,
    )
