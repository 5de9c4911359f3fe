"""When what recurs is due, over changes of the clock and after an outage."""

from __future__ import annotations

from datetime import datetime
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.errors import RecurrenceError
from events.recurrence import CatchUp, Recurrence, parse_period_ms

MINUTE_MS = 60_000


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1_000)


def following(recurrence: Recurrence, after: str, count: int) -> list[int]:
    found: list[int] = []
    due = recurrence.check().next_ms(ms(after))
    while due is not None and len(found) < count:
        found.append(due)
        due = recurrence.next_ms(due)
    return found


def test_a_cron_expression_is_read_in_its_time_zone() -> None:
    berlin = Recurrence(cron="30 9 * * MON-FRI", time_zone="Europe/Berlin")
    assert following(berlin, "2026-03-27T12:00:00+01:00", 2) == [
        ms("2026-03-30T09:30:00+02:00"),
        ms("2026-03-31T09:30:00+02:00"),
    ]
    assert following(Recurrence(cron="30 9 * * *"), "2026-03-27T12:00:00+01:00", 1) == [
        ms("2026-03-28T09:30:00+00:00")
    ]


def test_a_time_that_does_not_exist_is_taken_right_after_and_one_that_is_twice_once() -> None:
    nightly = Recurrence(cron="30 2 * * *", time_zone="Europe/Berlin")
    assert following(nightly, "2026-03-28T12:00:00+01:00", 2) == [
        ms("2026-03-29T03:00:00+02:00"),
        ms("2026-03-30T02:30:00+02:00"),
    ]
    assert following(nightly, "2026-10-24T12:00:00+02:00", 2) == [
        ms("2026-10-25T02:30:00+02:00"),
        ms("2026-10-26T02:30:00+01:00"),
    ]


@pytest.mark.parametrize(
    ("catch_up", "fired"),
    [("last", ["12:04"]), ("all", ["12:01", "12:02", "12:03", "12:04"]), ("none", [])],
)
@pytest.mark.parametrize(
    "rule", [Recurrence(cron="* * * * *"), Recurrence(every_ms=MINUTE_MS)], ids=["cron", "every"]
)
def test_of_what_was_missed_as_much_is_carried_out_as_catch_up_says(
    rule: Recurrence, catch_up: str, fired: list[str]
) -> None:
    recurrence = Recurrence(rule.every_ms, rule.cron, "UTC", cast("CatchUp", catch_up))
    now = ms("2026-01-01T12:04:30+00:00") + (MINUTE_MS if catch_up == "none" else 0)
    due: int | None = ms("2026-01-01T12:01:00+00:00")
    found: list[int] = []
    while due is not None and due <= now:
        fire_ms, due = recurrence.step(due, now)
        found += [fire_ms] if fire_ms is not None else []
    assert found == [ms(f"2026-01-01T{time}:00+00:00") for time in fired]
    assert due is not None
    assert now < due <= now + MINUTE_MS


@given(
    st.sampled_from(["* * * * *", "*/7 3 * * *", "0 0 29 2 *", "15 2 * 3,10 0", "5 4 1 * *"]),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
    st.integers(1_700_000_000_000, 1_900_000_000_000),
    st.integers(0, 400 * 86_400_000),
)
def test_what_is_carried_out_late_is_the_last_due_and_the_next_is_ahead(
    cron: str, zone: str, start_ms: int, late_ms: int
) -> None:
    recurrence = Recurrence(cron=cron, time_zone=zone).check()
    due_ms = recurrence.next_ms(start_ms)
    assert due_ms is not None
    assert due_ms > start_ms
    fire_ms, next_ms = recurrence.step(due_ms, due_ms + late_ms)
    assert fire_ms is not None
    assert next_ms is not None
    assert due_ms <= fire_ms <= due_ms + late_ms < next_ms


@pytest.mark.parametrize(
    ("recurrence", "said"),
    [
        (Recurrence(), "either a period or a cron"),
        (Recurrence(1_000, "* * * * *"), "either a period or a cron"),
        (Recurrence(999), "a second to 366 days"),
        (Recurrence(cron="61 * * * *"), "found the cron expression '61 .*Bad minute.*five fields"),
        (Recurrence(cron="@daily"), "five fields"),
        (Recurrence(cron="0 0 31 2 *"), "found the cron expression"),
        (Recurrence(cron="* " * 101), "202 characters, expected 200"),
        (Recurrence(cron="* * * * *", time_zone="Mars/Base"), "time zone 'Mars/Base', expected"),
        (Recurrence(cron="* * * * *", time_zone="../../etc/passwd"), "time zone '../../etc"),
        (Recurrence(cron="* * * * *", time_zone=""), "time zone '', expected"),
    ],
)
def test_what_means_nothing_is_refused_with_what_was_expected(
    recurrence: Recurrence, said: str
) -> None:
    with pytest.raises(RecurrenceError, match=said):
        recurrence.check()


def test_a_period_is_read_from_text() -> None:
    assert parse_period_ms("1h30m") == 90 * MINUTE_MS
    assert parse_period_ms("2d") == 2 * 86_400_000
    for text in ("", "5", "5 m", "-5m", "1.5h", "m"):
        with pytest.raises(RecurrenceError, match="expected text such as"):
            parse_period_ms(text)
