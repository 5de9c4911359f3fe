"""What definitions ask for by the clock becomes records of the schedules."""

from __future__ import annotations

from events.recurrence import Recurrence
from router.clockwork import by_the_clock, settle_definitions
from router.definition import Definition, ListenerCode
from router.schedule import ScheduledEvent

HOUR_MS = 3_600_000


def definition(
    name: str, version: int = 1, *, every: str = "1h", enabled: bool = True
) -> Definition:
    code = ListenerCode("x")
    return Definition(
        name,
        f"schedule.{name}",
        code,
        every=every,
        enabled=enabled,
        version=version,
        since_ms=100,
    )


def settled(*definitions: Definition, now_ms: int = 100) -> list[ScheduledEvent]:
    return settle_definitions([], by_the_clock(definitions), now_ms).written


def test_a_new_definition_is_due_from_when_it_was_applied_and_a_changed_one_from_now() -> None:
    (new,) = settled(definition("a"), now_ms=99 * HOUR_MS)
    assert (new.type, new.due_ms) == ("schedule.a", 100 + HOUR_MS)
    assert new.recurrence == Recurrence(HOUR_MS)
    changed = by_the_clock([definition("a", 2, every="2h")])
    (again,) = settle_definitions([new], changed, 99 * HOUR_MS).written
    assert (again.due_ms, again.record_key) == (101 * HOUR_MS, new.record_key)


def test_what_stands_already_is_left_alone_and_what_nobody_wants_goes() -> None:
    standing = settled(definition("a"), definition("b"))
    wanted = by_the_clock([definition("a", 2), definition("b", 2, enabled=False)])
    due = settle_definitions(standing, wanted, 200)
    assert due.written == []
    assert due.removed == [standing[1].record_key]


def test_what_a_run_asked_for_is_not_a_definitions() -> None:
    of_a_run = ScheduledEvent(
        id="e",
        type="schedule.x",
        due_ms=1,
        tenant="t",
        cause="c",
        listener="l",
        root="r",
        path=("l",),
        recurrence=Recurrence(HOUR_MS),
    )
    assert settle_definitions([of_a_run], {}, 200).removed == []


def test_an_event_by_the_clock_says_which_due_time_it_is_and_begins_a_chain() -> None:
    (one,) = settled(definition("a"))
    event = one.emitted(now_ms=5 * HOUR_MS)
    assert event.id == f"schedule/a/{100 + HOUR_MS}"
    assert b'"due":"1970-01-01T01:00:00.100000Z"' in event.value
    assert event.headers == ()
