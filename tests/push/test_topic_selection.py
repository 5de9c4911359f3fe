from __future__ import annotations

import pytest

from events.event_type import EventPattern, RowOperation, row_type
from events.topic import Topics, change_topic, reads_topic
from push.topic_selection import may_hold

TOPICS = Topics("rowcast")


@pytest.mark.parametrize(
    ("pattern", "selected"),
    [
        ("db.shop.public.orders.*", {"shop.public.orders", "shop.public.orders.reads"}),
        ("db.shop.public.orders.created", {"shop.public.orders"}),
        ("db.shop.public.orders.read", {"shop.public.orders.reads"}),
        ("db.shop.*.*.deleted", {"shop.public.orders", "shop.public.users"}),
        ("custom.paid", {"rowcast.events"}),
        ("system.**", {"rowcast.events"}),
        ("api.**", {"rowcast.api"}),
        ("push.orders", {"rowcast.push"}),
        ("*.orders", {"rowcast.events", "rowcast.api", "rowcast.push"}),
        ("db.other.**", set[str]()),
        ("db.shop", set[str]()),
    ],
)
def test_a_pattern_selects_the_topics_that_can_hold_its_events(
    pattern: str, selected: set[str]
) -> None:
    every = {"shop.public.orders", "shop.public.users", "shop.public.orders.reads"}
    every |= {"rowcast.events", "rowcast.api", "rowcast.push"}
    parsed = EventPattern.parse(pattern)
    assert {topic for topic in every if may_hold(TOPICS, topic, parsed)} == selected


def test_everything_is_selected_by_two_stars() -> None:
    parsed = EventPattern.parse("**")
    for topic in ("shop.public.orders", "shop.public.orders.reads", TOPICS.events, TOPICS.push):
        assert may_hold(TOPICS, topic, parsed)


def test_a_topic_whose_name_was_cut_is_selected_by_patterns_of_its_table() -> None:
    table = "t" * 240
    for topic in (change_topic("shop", "public", table), reads_topic("shop", "public", table)):
        event_type = row_type("shop", "public", table, RowOperation.CREATED)
        assert may_hold(TOPICS, topic, EventPattern.parse(event_type))
        assert not may_hold(TOPICS, topic, EventPattern.parse("db.other.**"))
        assert not may_hold(TOPICS, topic, EventPattern.parse("custom.x"))
