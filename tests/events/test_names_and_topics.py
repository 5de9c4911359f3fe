from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.errors import InvalidNameError
from events.names import decode_segment, encode_segment
from events.topic import MAX_TOPIC_LENGTH, Topics, change_topic, is_reads_topic, reads_topic

names = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=63)
KAFKA_TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,249}")


@given(names)
def test_a_segment_is_read_back_as_the_name_it_was_made_of(name: str) -> None:
    assert decode_segment(encode_segment(name)) == name


@given(names, names)
def test_two_names_never_meet_in_one_segment(one: str, other: str) -> None:
    assert (encode_segment(one) == encode_segment(other)) == (one == other)


@given(st.text(alphabet="ax-D2xF0", min_size=1, max_size=12))
def test_names_that_look_escaped_are_read_back_too(name: str) -> None:
    assert decode_segment(encode_segment(name)) == name


@pytest.mark.parametrize("segment", ["", "a.b", "a b", "-x2", "-xZZ", "-xFF", "-x61"])
def test_a_segment_that_no_name_gives_is_refused(segment: str) -> None:
    with pytest.raises(InvalidNameError):
        decode_segment(segment)


def test_an_empty_name_is_refused() -> None:
    with pytest.raises(InvalidNameError):
        encode_segment("")


@given(names, names, names)
def test_every_table_has_a_topic_that_kafka_accepts(source: str, schema: str, table: str) -> None:
    for topic in (change_topic(source, schema, table), reads_topic(source, schema, table)):
        assert KAFKA_TOPIC.fullmatch(topic)
        assert len(topic) <= MAX_TOPIC_LENGTH


def test_an_ordinary_table_has_the_topic_of_the_contract() -> None:
    assert change_topic("shop", "public", "orders") == "shop.public.orders"
    assert reads_topic("shop", "public", "orders") == "shop.public.orders.reads"


def test_long_names_that_differ_at_the_end_have_different_topics() -> None:
    assert change_topic("s", "x" * 120, "y" * 119 + "a") != change_topic(
        "s", "x" * 120, "y" * 119 + "b"
    )


def test_routed_and_pushed_topics_are_ours_and_the_sources() -> None:
    topics = Topics("acme")
    routed = re.compile(topics.routed_pattern(("shop",)))
    pushed = re.compile(topics.pushed_pattern(("shop",)))
    for name in ("shop.public.orders", "acme.events", "acme.api"):
        assert routed.fullmatch(name)
        assert pushed.fullmatch(name)
    assert routed.fullmatch("acme.retry")
    assert not pushed.fullmatch("acme.retry")
    for name in ("shopping.public.orders", "acme.runs", "acme.progress", "rowcast.events"):
        assert not routed.fullmatch(name)
        assert not pushed.fullmatch(name)
    assert pushed.fullmatch("acme.push")
    assert not routed.fullmatch("acme.push")


@given(st.text(min_size=1), st.text(min_size=1), st.sampled_from(("reads", "orders", "a.reads")))
def test_a_table_named_reads_has_changes(source: str, schema: str, table: str) -> None:
    assert not is_reads_topic(change_topic(source, schema, table))
    assert is_reads_topic(reads_topic(source, schema, table))
