"""What is due of the schedules' records, however they were written, read and compacted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.chain import Chain
from events.event import decode_event
from events.recurrence import Recurrence
from router.errors import ScheduleError
from router.schedule import Cancellation, ScheduledEvent, Timetable, decode_schedule

Record = tuple[bytes, bytes | None]
FOREVER_MS = 10**15


def scheduled(id_: str, due_ms: int = 10, name: str | None = None, tenant: str = "t") -> Record:
    event = ScheduledEvent(
        id=id_,
        type="custom.x",
        due_ms=due_ms,
        tenant=tenant,
        cause="c",
        listener="l",
        root="r",
        path=("l",),
        data={"n": id_},
        name=name,
    )
    return event.record_key, event.encode()


def cancelled(name: str, tenant: str = "t") -> Record:
    one = Cancellation(tenant=tenant, cancelled=name)
    return one.record_key, one.encode()


def table_of(records: list[Record]) -> Timetable:
    table = Timetable()
    for offset, (key, value) in enumerate(records):
        table.take(offset, key, value)
    return table


def due(table: Timetable, now_ms: int = FOREVER_MS) -> list[str]:
    return [event.id for event in table.take_due(now_ms, 1_000).events]


def test_what_is_due_comes_in_the_order_of_its_times_and_only_once() -> None:
    table = table_of([scheduled("b", 20), scheduled("a", 10), scheduled("a2", 10)])
    assert table.next_ms == 10
    assert due(table, 9) == []
    assert due(table, 10) == ["a", "a2"]
    assert table.next_ms == 20
    assert due(table) == ["b"]
    assert (due(table), table.next_ms, len(table)) == ([], None, 0)


def test_no_more_is_taken_than_asked_for_and_the_rest_stays() -> None:
    table = table_of([scheduled(str(number)) for number in range(5)])
    assert [event.id for event in table.take_due(99, 2).events] == ["0", "1"]
    assert len(table) == 3


def test_a_name_replaces_and_cancels_what_stands_before_it_in_its_tenant() -> None:
    table = table_of(
        [
            scheduled("old", name="n"),
            scheduled("other tenant", name="n", tenant="u"),
            scheduled("new", name="n"),
            scheduled("gone", name="m"),
            cancelled("m"),
            cancelled("never"),
            scheduled("after", name="m"),
        ]
    )
    assert table.next_ms == 0
    written = table.take_due(0, 1_000)
    assert written.events == []
    assert set(written.removed) == {
        scheduled("old")[0],
        scheduled("gone")[0],
        cancelled("m")[0],
        cancelled("never")[0],
    }
    assert due(table) == ["other tenant", "new", "after"]


def test_the_removal_of_an_older_one_leaves_a_newer_one_of_its_name() -> None:
    old, new = scheduled("old", name="n"), scheduled("new", name="n")
    assert due(table_of([old, new, (old[0], None)])) == ["new"]


def test_a_schedule_written_again_is_there_once_with_what_was_written_last() -> None:
    table = table_of([scheduled("a", 10), scheduled("a", 30)])
    assert due(table, 20) == []
    assert due(table, 30) == ["a"]


def test_the_event_is_emitted_with_its_chain_and_cause() -> None:
    event = decode_schedule(scheduled("a")[1] or b"")
    assert isinstance(event, ScheduledEvent)
    emitted = event.emitted(77)
    read = decode_event(emitted.value, emitted.headers)
    assert read.chain == Chain("r", ("l",))
    assert read.body == {
        "id": "a",
        "type": "custom.x",
        "data": {"n": "a"},
        "ts_ms": 77,
        "cause": {"event": "c", "listener": "l"},
    }


@pytest.mark.parametrize("value", [b"", b"[]", b"{}", b"[" * 5_000, b'{"tenant": "t"}', b"\xff"])
def test_a_record_that_is_no_schedule_is_refused_and_changes_nothing(value: bytes) -> None:
    table = table_of([scheduled("a")])
    with pytest.raises(ScheduleError):
        table.take(1, b"k", value)
    assert due(table) == ["a"]


NAMES = st.sampled_from(["n", "m", None])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("at"), st.integers(0, 30), NAMES),
        st.tuples(st.just("cancel"), st.just(0), st.sampled_from(["n", "m"])),
        st.tuples(st.just("work"), st.integers(0, 30), st.none()),
        st.tuples(st.just("restart"), st.just(0), st.none()),
        st.tuples(st.just("compact"), st.just(0), st.none()),
    ),
    max_size=40,
)


class Simulation:
    """A topic, a scheduler that reads it, and what is to become of what was asked for."""

    def __init__(self) -> None:
        self.log: list[tuple[int, bytes, bytes | None]] = []
        self.offset = 0
        self.table, self.read_to = Timetable(), 0
        self.expected: dict[str, tuple[int, str | None]] = {}
        self.now_ms = 0

    def write(self, key: bytes, value: bytes | None) -> None:
        self.log.append((self.offset, key, value))
        self.offset += 1

    def at(self, delay_ms: int, name: str | None) -> None:
        if name is not None:
            self.expect_no_more(name)
        id_ = str(self.offset)
        self.expected[id_] = (self.now_ms + delay_ms, name)
        self.write(*scheduled(id_, self.now_ms + delay_ms, name))

    def cancel(self, _: int, name: str | None) -> None:
        self.expect_no_more(str(name))
        self.write(*cancelled(str(name)))

    def restart(self, _: int, _name: str | None) -> None:
        self.table, self.read_to = Timetable(), 0

    def compact(self, _: int, _name: str | None) -> None:
        last = {key: at for at, key, _ in self.log}
        self.log = [one for one in self.log if last[one[1]] == one[0]]

    def work(self, passed_ms: int, _name: str | None) -> None:
        self.now_ms += passed_ms
        for at, key, value in [one for one in self.log if one[0] >= self.read_to]:
            self.table.take(at, key, value)
        self.read_to = self.offset
        while (next_ms := self.table.next_ms) is not None and next_ms <= self.now_ms:
            written = self.table.take_due(self.now_ms, 3)
            for key in written.removed:
                self.write(key, None)
            for event in written.events:
                due_ms, _ = self.expected.pop(event.id)
                assert due_ms <= self.now_ms
        assert all(due_ms > self.now_ms for due_ms, _ in self.expected.values())

    def expect_no_more(self, name: str) -> None:
        self.expected = {k: one for k, one in self.expected.items() if one[1] != name}


@given(STEPS)
def test_restarts_and_compaction_lose_nothing_and_repeat_nothing(
    steps: list[tuple[str, int, str | None]],
) -> None:
    run = Simulation()
    for what, value, name in [*steps, ("work", 10**6, None)]:
        getattr(run, what)(value, name)
    assert not run.expected
    assert table_of([(key, value) for _, key, value in run.log]).next_ms is None


def test_times_of_what_was_replaced_do_not_pile_up() -> None:
    table = Timetable()
    for number in range(10_000):
        table.take(number, *scheduled(str(number), 10_000 - number, name="debounced"))
        table.take_due(0, 1)
        assert table.next_ms == 10_000 - number
    for number in range(10_000, 20_000):
        table.take(number, *scheduled(str(number), number, name="debounced"))
        table.take_due(0, 1)
        assert table.next_ms == number
    assert len(table) == 1


def recurring(
    id_: str, due_ms: int = 10, asked_at: int | None = None, every_ms: int = 1_000
) -> Record:
    event = ScheduledEvent(
        id=id_,
        type="schedule.n",
        due_ms=due_ms,
        tenant="t",
        cause="c",
        listener="l",
        root="r",
        path=("l",),
        name="n",
        recurrence=Recurrence(every_ms),
        asked_at=asked_at,
    )
    return event.record_key, event.encode()


def test_what_recurs_goes_on_once_its_record_is_written_anew() -> None:
    table = table_of([recurring("a")])
    first = table.take_due(10, 9)
    assert [(event.id, event.due_ms) for event in first.events] == [("a", 10)]
    assert first.removed == []
    (again,) = first.written
    assert (again.due_ms, again.asked_at) == (1_010, 0)
    assert table.take_due(FOREVER_MS, 9).events == []
    table.take(1, again.record_key, again.encode())
    assert [event.due_ms for event in table.take_due(1_500, 9).events] == [1_010]


def test_what_was_written_anew_holds_not_against_what_ended_it_meanwhile() -> None:
    newer = recurring("new", due_ms=50, every_ms=2_000)
    for ending, left in ((cancelled("n"), []), (newer, ["new"])):
        table = table_of([recurring("old"), ending, recurring("old", 1_010, asked_at=0)])
        assert [event.id for event in table] == left
        assert set(table.take_due(0, 9).removed) >= {recurring("old")[0]}


def test_asking_again_for_just_the_same_changes_nothing() -> None:
    table = table_of([recurring("a"), recurring("b", due_ms=500)])
    assert [event.id for event in table] == ["a"]
    assert table.take_due(0, 9).removed == [recurring("b")[0]]


def test_a_record_that_recurs_at_no_time_is_none() -> None:
    value = recurring("a", every_ms=0)[1]
    assert value is not None
    with pytest.raises(ScheduleError, match="a second to 366 days"):
        decode_schedule(value)
