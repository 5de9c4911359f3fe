from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from events.event_type import EventPattern
from events.pattern_tree import PatternTree

segments = st.sampled_from(("a", "b", "*"))


def pattern(rest: list[str], end: tuple[str, ...]) -> EventPattern:
    return EventPattern.parse(".".join(("db", *rest, *end)))


def type_of(rest: list[str]) -> str:
    return ".".join(("db", *rest))


patterns = st.builds(pattern, st.lists(segments, max_size=3), st.sampled_from(((), ("**",))))
types = st.lists(st.sampled_from("ab"), min_size=1, max_size=4).map(type_of)


@given(st.lists(patterns, unique=True), st.lists(patterns, unique=True), types)
def test_leaves_are_found_by_type_until_they_are_discarded(
    kept: list[EventPattern], discarded: list[EventPattern], event_type: str
) -> None:
    tree: PatternTree[list[str]] = PatternTree(list[str])
    for one in (*kept, *discarded):
        leaf = tree.leaf(one)
        assert tree.leaf(one) is leaf
        if not leaf:
            leaf.append(str(one))
    for one in discarded:
        tree.discard(one)
    left = [str(one) for one in kept if one not in discarded and one.matches(event_type)]
    assert sorted(text for leaf in tree.select(event_type) for text in leaf) == sorted(left)


@given(st.lists(patterns, unique=True))
def test_nothing_is_left_of_what_was_discarded(all_patterns: list[EventPattern]) -> None:
    tree: PatternTree[list[str]] = PatternTree(list[str])
    for one in all_patterns:
        tree.leaf(one)
    for one in all_patterns:
        tree.discard(one)
    assert tree.is_empty
