from __future__ import annotations

from push.positions import Extent, positions_of, resume_point, unlevel

LIVE = {("a", 0): 10, ("a", 1): 0, ("b", 0): 5}


def test_positions_name_the_last_offset_of_each_partition() -> None:
    assert positions_of(LIVE) == {"a": [9, -1], "b": [4]}
    assert positions_of({("a", 2): 7}) == {"a": [-1, -1, 6]}


def test_who_stands_where_live_delivery_does_needs_nothing_of_kafka() -> None:
    positions = positions_of(LIVE)
    assert unlevel(positions, LIVE, ["a", "b"]) == {}
    point = resume_point(positions, LIVE, ["a", "b"], {})
    assert (point.next_offsets, point.complete) == (LIVE, True)
    assert point.positions == positions


def test_other_topics_are_left_out() -> None:
    assert unlevel({}, LIVE, ["b"]) == {("b", 0): 0}
    point = resume_point({}, LIVE, ["b"], {("b", 0): Extent(0, 5)})
    assert (point.next_offsets, point.complete) == ({("b", 0): 0}, True)


def test_what_kafka_still_holds_is_complete_at_its_very_beginning() -> None:
    given = {"a": [3, -1], "b": [4]}
    assert unlevel(given, LIVE, ["a", "b"]) == {("a", 0): 4}
    point = resume_point(given, LIVE, ["a", "b"], {("a", 0): Extent(4, 10)})
    assert (point.next_offsets[("a", 0)], point.complete) == (4, True)


def test_one_record_thrown_away_is_incomplete_and_begins_with_the_first_there_is() -> None:
    point = resume_point({"a": [3, -1], "b": [4]}, LIVE, ["a", "b"], {("a", 0): Extent(5, 10)})
    assert (point.next_offsets[("a", 0)], point.complete) == (5, False)


def test_a_position_beyond_the_end_is_one_of_another_topic() -> None:
    beyond = {"a": [10, -1], "b": [4]}
    point = resume_point(beyond, LIVE, ["a", "b"], {("a", 0): Extent(0, 10)})
    assert (point.next_offsets[("a", 0)], point.complete) == (0, False)


def test_a_position_that_live_delivery_has_not_come_to_is_kept() -> None:
    ahead = {"a": [11, -1], "b": [4]}
    point = resume_point(ahead, LIVE, ["a", "b"], {("a", 0): Extent(0, 12)})
    assert (point.next_offsets[("a", 0)], point.complete) == (12, True)


def test_a_topic_or_partition_that_is_gone_is_incomplete_unless_nothing_was_had_of_it() -> None:
    for gone in ({"c": [4]}, {"a": [9, -1, 0]}):
        given = {**positions_of(LIVE), **gone}
        assert not resume_point(given, LIVE, ["a", "b"], {}).complete
    given = {**positions_of(LIVE), "a": [9, -1, -1], "c": [-1]}
    assert resume_point(given, LIVE, ["a", "b"], {}).complete


def test_partitions_that_are_not_named_begin_at_their_beginning() -> None:
    point = resume_point({}, LIVE, ["a"], {("a", 0): Extent(0, 10)})
    assert (point.next_offsets, point.complete) == ({("a", 0): 0, ("a", 1): 0}, True)
