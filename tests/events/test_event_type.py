from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.errors import InvalidNameError, PatternError
from events.event_type import (
    FAMILIES,
    EventPattern,
    RowOperation,
    check_custom_type,
    check_event_type,
    row_type,
)

segments = st.text(alphabet="abz_09-", min_size=1, max_size=5)


def dotted(first: str, rest: list[str], end: tuple[str, ...] = ()) -> str:
    return ".".join((first, *rest, *end))


types = st.builds(dotted, st.sampled_from(FAMILIES), st.lists(segments, min_size=1, max_size=5))
patterns = st.builds(
    dotted,
    st.sampled_from((*FAMILIES, "*")),
    st.lists(segments | st.just("*"), max_size=4),
    st.sampled_from(((), ("**",))),
)


@given(types)
def test_a_type_matches_itself_as_a_pattern(event_type: str) -> None:
    assert EventPattern.parse(event_type).matches(event_type)


@given(patterns)
def test_a_pattern_is_printed_as_it_was_written(text: str) -> None:
    assert str(EventPattern.parse(text)) == text


@given(patterns, types)
def test_a_pattern_means_what_the_same_regular_expression_means(text: str, event_type: str) -> None:
    parts = {"*": r"[^.]+", "**": r".+"}
    expression = r"\.".join(parts.get(part, re.escape(part)) for part in text.split("."))
    matched = re.fullmatch(expression, event_type) is not None
    assert EventPattern.parse(text).matches(event_type) == matched


@pytest.mark.parametrize(
    "text", ["", "db.**.created", "db..x", "db.a b", "orders.created", "**.x", "db.x*", "Db.x"]
)
def test_a_pattern_that_means_nothing_is_refused_with_the_place(text: str) -> None:
    with pytest.raises(PatternError, match="expected"):
        EventPattern.parse(text)


def test_two_stars_alone_select_everything() -> None:
    assert EventPattern.parse("**").matches("db.shop.public.orders.created")


def test_a_table_with_an_odd_name_has_a_type_of_five_segments() -> None:
    event_type = row_type("shop", "public", "order.lines ü", RowOperation.UPDATED)
    assert event_type == "db.shop.public.order-x2Elines-x20-xC3-xBC.updated"
    assert EventPattern.parse("db.shop.public.*.updated").matches(check_event_type(event_type))


@pytest.mark.parametrize("text", ["", "custom", "custom.", "other.x", "custom.a b", "custom..x"])
def test_a_type_of_no_family_or_form_is_refused(text: str) -> None:
    with pytest.raises(InvalidNameError, match="expected"):
        check_event_type(text)


@pytest.mark.parametrize("text", ["db.shop.public.orders.created", "system.gap", "push.orders"])
def test_only_custom_types_may_be_emitted(text: str) -> None:
    with pytest.raises(InvalidNameError, match=r"custom\.<name>"):
        check_custom_type(text)
