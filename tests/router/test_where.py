from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.json_codec import JsonObject
from router.errors import WhereError
from router.where import compile_where

EVENT: JsonObject = {
    "op": "u",
    "before": {"status": "pending", "total": "12.30"},
    "after": {"status": "paid", "total": "112.30", "stars": 5, "note": None, "gift": True},
    "changed": ["status", "total"],
    "keys": [{"id": 7, "day": "a"}, {"id": 8, "day": "b"}],
}


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({}, True),
        ({"op": "u"}, True),
        ({"op": ["c", "u"]}, True),
        ({"op": ["c", "d"]}, False),
        ({"after": {"status": ["paid"]}, "before": {"status": ["pending"]}}, True),
        ({"after": {"status": ["paid"]}, "before": {"status": ["paid"]}}, False),
        ({"changed": ["status"]}, True),
        ({"changed": ["stars"]}, False),
        ({"after": {"note": [None]}}, True),
        ({"after": {"missing": [None]}}, False),
        ({"after": {"missing": [{"null": False}]}}, False),
        ({"after": {"missing": [{"null": True}]}}, False),
        ({"after": {"missing": [{"exists": False}]}}, True),
        ({"after": {"note": [{"exists": True}]}}, True),
        ({"missing": {"deep": [{"exists": False}]}}, True),
        ({"after": {"status": [{"prefix": "pa"}]}}, True),
        ({"after": {"status": [{"suffix": "pa"}]}}, False),
        ({"after": {"status": [{"wildcard": "p*d"}]}}, True),
        ({"after": {"status": [{"wildcard": "p.*"}]}}, False),
        ({"after": {"status": [{"wildcard": "pa*aid"}]}}, False),
        ({"after": {"status": [{"wildcard": "paid"}]}}, True),
        ({"after": {"status": [{"equals-ignore-case": "PAID"}]}}, True),
        ({"after": {"total": [{"numeric": [">=", 100]}]}}, True),
        ({"after": {"total": [{"numeric": [">", 0, "<", 100]}]}}, False),
        ({"after": {"stars": [{"numeric": ["=", 5]}]}}, True),
        ({"after": {"status": [{"numeric": ["=", 5]}]}}, False),
        ({"after": {"status": [{"anything-but": ["paid"]}]}}, False),
        ({"after": {"status": [{"anything-but": {"prefix": "x"}}]}}, True),
        ({"after": {"missing": [{"anything-but": ["x"]}]}}, False),
        ({"changed": [{"anything-but": ["status"]}]}, True),
        ({"changed": [{"anything-but": ["status", "total"]}]}, False),
        ({"changed": [{"exists": True}]}, True),
        ({"changed": [{"exists": False}]}, False),
        ({"after": {"gift": [1]}}, False),
        ({"after": {"gift": [True]}}, True),
        ({"after": {"stars": [True]}}, False),
        ({"after": {"stars": [5.0]}}, True),
        ({"$or": [{"op": "c"}, {"after": {"stars": [5]}}]}, True),
        ({"$or": [{"op": "c"}, {"after": {"stars": [4]}}]}, False),
        ({"after": {"total": ["112.30"]}}, True),
        ({"after": {"total": [112.3]}}, False),
        ({"keys": {"id": [8]}}, True),
        ({"keys": {"id": [9]}}, False),
        ({"keys": {"id": [7], "day": ["b"]}}, False),
    ],
)
def test_a_filter_means_what_its_documentation_says(where: JsonObject, expected: bool) -> None:
    assert compile_where(where)(EVENT) is expected


MEANINGLESS: list[tuple[object, str]] = [
    (list[str](), "where"),
    ({"a": list[str]()}, "where.a"),
    ({"a": {"b": [{"prefx": "x"}]}}, "where.a.b"),
    ({"a": [{"prefix": 1}]}, "where.a.prefix"),
    ({"a": [{"numeric": [">"]}]}, "where.a.numeric"),
    ({"a": [{"numeric": ["~", 1]}]}, "where.a.numeric"),
    ({"a": [{"numeric": [">", "x"]}]}, "where.a.numeric"),
    ({"a": [{"exists": "yes"}]}, "where.a.exists"),
    ({"a": [{"null": 0}]}, "where.a.null"),
    ({"a": [[1]]}, "where.a"),
    ({"$or": dict[str, str]()}, r"where.\$or"),
    ({"$or": [1]}, r"where.\$or\[0\]"),
    ({"a": [{"anything-but": list[str]()}]}, "where.a.anything-but"),
    ({"a": [{"anything-but": {"anything-but": "x"}}]}, "where.a.anything-but"),
]


@pytest.mark.parametrize(("where", "place"), MEANINGLESS)
def test_a_filter_that_means_nothing_is_refused_with_its_path(where: object, place: str) -> None:
    with pytest.raises(WhereError, match=rf"at {place}(,|$)"):
        compile_where(where)


scalars = st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3)
rows = st.dictionaries(st.sampled_from("abc"), scalars, max_size=3)


@given(rows, rows)
def test_a_filter_of_literals_matches_exactly_the_rows_that_hold_them(
    row: dict[str, None | bool | int | str], wanted: dict[str, None | bool | int | str]
) -> None:
    expected = all(
        name in row and type(row[name]) is type(value) and row[name] == value
        for name, value in wanted.items()
    )
    assert compile_where(wanted)(dict(row)) is expected


@given(st.text("ab", max_size=8), st.text("ab*", max_size=5))
def test_a_wildcard_matches_what_the_same_regular_expression_matches(text: str, card: str) -> None:
    expression = ".*".join(re.escape(part) for part in card.split("*"))
    expected = re.fullmatch(expression, text) is not None
    assert compile_where({"a": [{"wildcard": card}]})({"a": text}) is expected


def test_a_wildcard_of_many_stars_does_not_go_back_for_ever() -> None:
    wild = compile_where({"a": [{"wildcard": "*a" * 40 + "*b"}]})
    assert not wild({"a": "a" * 100_000})


def test_a_filter_that_nests_too_deep_to_be_asked_is_refused() -> None:
    where: JsonObject = {"a": 1}
    for _ in range(300):
        where = {"a": where}
    with pytest.raises(WhereError, match="more than 32 others"):
        compile_where(where)
