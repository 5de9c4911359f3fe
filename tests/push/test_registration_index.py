"""The index against the definition it must keep to: each registration asked on its own."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.event_type import EventPattern
from events.json_codec import JsonObject
from push import registration_index
from push.conditions import Conditions, Shape, Values, values_of
from push.pushed_event import PushedEvent, concerns, pushed_event
from push.registration_index import RegistrationIndex

TYPES = ["db.s.p.a.created", "db.s.p.a.deleted", "db.s.p.b.created", "custom.a", "push.a.b"]
PATTERNS = [*TYPES, "**", "db.**", "db.s.**", "db.*.p.a.*", "*.a", "db.s.*.*.created", "push.*"]
VALUES = st.sampled_from([None, True, 1, 1.0, "1"])
ROWS = st.dictionaries(
    st.sampled_from(["a", "b", "c"]), VALUES | st.dictionaries(st.sampled_from(["a", "b"]), VALUES)
)
WANTED = st.dictionaries(
    st.sampled_from(["a", "b", "a.a", "made_up"]),
    VALUES | st.lists(VALUES, min_size=1, max_size=2),
    max_size=2,
)
CONDITIONS = st.builds(Conditions.parse, WANTED, WANTED)


def _event(event_type: str, op: str, key: JsonObject, body: JsonObject) -> PushedEvent:
    value = json.dumps({"id": "e", "type": event_type, "op": op, **body}).encode()
    event = pushed_event(("t", 0), 0, json.dumps(key).encode(), value)
    assert event is not None
    return event


OPTIONAL_ROWS = st.none() | ROWS
BODIES = st.fixed_dictionaries({"before": OPTIONAL_ROWS, "after": OPTIONAL_ROWS})
MESSAGES = st.fixed_dictionaries({"data": OPTIONAL_ROWS})
EVENTS = st.builds(
    _event,
    st.sampled_from(TYPES),
    st.sampled_from(["c", "u", "d", "t"]),
    ROWS,
    BODIES | MESSAGES,
)


@given(
    st.lists(st.tuples(st.sampled_from(PATTERNS), CONDITIONS), max_size=12),
    st.sets(st.integers(0, 11)),
    st.lists(EVENTS, min_size=1, max_size=5),
)
def test_it_finds_what_asking_each_registration_finds(
    wanted: list[tuple[str, Conditions]], removed: set[int], events: list[PushedEvent]
) -> None:
    index: RegistrationIndex[int] = RegistrationIndex()
    parsed = [(EventPattern.parse(text), conditions) for text, conditions in wanted]
    for number, (pattern, conditions) in enumerate(parsed):
        index.add(number, pattern, conditions)
    for number in removed & set(range(len(parsed))):
        index.remove(number)
    for event in events:
        expected = {
            number: concern
            for number, (pattern, conditions) in enumerate(parsed)
            if number not in removed and pattern.matches(event.type)
            if (concern := concerns(conditions, event)) is not None
        }
        assert index.match(event) == expected


@given(st.lists(st.tuples(st.sampled_from(PATTERNS), CONDITIONS), max_size=8))
def test_what_is_taken_out_leaves_nothing_behind(wanted: list[tuple[str, Conditions]]) -> None:
    index: RegistrationIndex[int] = RegistrationIndex()
    empty = repr(vars(index))
    for number, (text, conditions) in enumerate(wanted):
        index.add(number, EventPattern.parse(text), conditions)
    assert len(index) == len(wanted)
    for number in range(len(wanted)):
        index.remove(number)
    assert repr(vars(index)) == empty


def test_a_row_that_fulfils_conditions_before_and_after_has_not_left_them() -> None:
    index: RegistrationIndex[int] = RegistrationIndex()
    index.add(1, EventPattern.parse("db.**"), Conditions.parse(None, {"a": ["x", "y"]}))
    body: JsonObject = {"before": {"a": "x"}, "after": {"a": "y"}}
    assert index.match(_event("db.s.p.a.updated", "u", {}, body)) == {1: "row"}


class CountingKey(str):
    """A value that counts how often it is compared with another."""

    __slots__ = ()
    compared = 0

    def __eq__(self, other: object) -> bool:
        CountingKey.compared += 1
        return super().__eq__(other)

    __hash__ = str.__hash__


def test_what_an_event_costs_does_not_grow_with_registrations_on_other_keys() -> None:
    pattern = EventPattern.parse("db.s.p.a.*")

    def comparisons(count: int) -> int:
        index: RegistrationIndex[int] = RegistrationIndex()
        for number in range(count):
            index.add(number, pattern, Conditions.parse({"id": CountingKey(number)}, None))
        event = _event("db.s.p.a.created", "c", {"id": "3"}, {"after": {}})
        CountingKey.compared = 0
        assert index.match(event) == {3: "row"}
        return CountingKey.compared

    # A hash may collide now and then; ten thousand comparisons it cannot be.
    assert comparisons(10_000) <= comparisons(10) + 10


def test_made_up_fields_cost_an_event_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up: list[Shape] = []

    def counting(shape: Shape, key: JsonObject, row: JsonObject) -> Values | None:
        looked_up.append(shape)
        return values_of(shape, key, row)

    monkeypatch.setattr(registration_index, "values_of", counting)
    index: RegistrationIndex[int] = RegistrationIndex()
    pattern = EventPattern.parse("db.**")
    for number in range(1_000):
        index.add(number, pattern, Conditions.parse(None, {f"made_up_{number}": "x"}))
    index.add(-1, pattern, Conditions.parse(None, {"real": "x"}))
    event = _event("db.s.p.a.created", "c", {}, {"after": {"real": "x", "other": 1}})
    assert index.match(event) == {-1: "row"}
    assert looked_up == [(("row", ("real",)),)]
