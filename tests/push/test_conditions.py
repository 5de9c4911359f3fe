from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.json_codec import JsonObject, JsonValue
from push.conditions import ConditionError, Conditions, scalar

SCALARS = (
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.0, 1.0, 1.5]) | st.text()
)


def hold(wanted: JsonObject, row: JsonObject) -> bool:
    return Conditions.parse(None, wanted).hold({}, row)


@pytest.mark.parametrize(
    ("wanted", "row", "holds"),
    [
        ({"id": 7}, {"id": 7, "more": 1}, True),
        ({"id": 7}, {"id": 7.0}, True),
        ({"id": 7}, {"id": "7"}, False),
        ({"on": True}, {"on": 1}, False),
        ({"on": 0}, {"on": False}, False),
        ({"gone": None}, {"gone": None}, True),
        ({"gone": None}, {}, False),
        ({"status": ["paid", "sent"]}, {"status": "sent"}, True),
        ({"status": ["paid", "sent"]}, {"status": "new"}, False),
        ({"a.b": 1}, {"a": {"b": 1, "c": 2}}, True),
        ({"a": {"b": 1}}, {"a": {"b": 1}}, True),
        ({"a": {"b": 1}}, {"a": 1}, False),
        ({"a": {"b": 1}}, {"a": [{"b": 1}]}, False),
        ({"a": 1}, {"a": {"b": 1}}, False),
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}, False),
        ({"_id": {"$oid": "65"}}, {"_id": {"$oid": "65"}}, True),
    ],
)
def test_fields_are_compared_as_json_values(
    wanted: JsonObject, row: JsonObject, holds: bool
) -> None:
    assert hold(wanted, row) is holds


def test_key_and_row_are_told_apart() -> None:
    conditions = Conditions.parse({"id": 7}, {"status": "paid"})
    assert conditions.hold({"id": 7}, {"status": "paid"})
    assert not conditions.hold({"id": 8}, {"id": 7, "status": "paid"})


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"a": []}, "an empty list"),
        ({"a": [[1]]}, "a list or object in the list"),
        ({"a": {}}, "expected fields in it"),
        ({"a.b": 1, "a": {"b": 2}}, "twice"),
        ({f"f{number}": 1 for number in range(9)}, "found 9 fields"),
        ({"a": list(range(11)), "b": list(range(10))}, "110 combinations"),
        ({".".join("abcdefghi"): 1}, "9 deep"),
    ],
)
def test_what_means_nothing_is_refused(row: JsonObject, said: str) -> None:
    with pytest.raises(ConditionError) as refused:
        Conditions.parse(None, row)
    assert said in str(refused.value)
    assert "expected" in str(refused.value)


@given(SCALARS, SCALARS)
def test_scalars_are_equal_exactly_where_their_json_is(one: JsonValue, other: JsonValue) -> None:
    def canonical(value: JsonValue) -> str:
        whole = isinstance(value, float) and value.is_integer()
        return json.dumps(int(value) if whole and isinstance(value, float) else value)

    assert (scalar(one) == scalar(other)) is (canonical(one) == canonical(other))
    if scalar(one) == scalar(other):
        assert hash(scalar(one)) == hash(scalar(other))
