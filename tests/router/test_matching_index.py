from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from events.event_type import EventPattern
from router.matching_index import MatchingIndex

segments = st.sampled_from(("a", "b", "c", "*"))


def pattern(rest: list[str], end: tuple[str, ...]) -> EventPattern:
    return EventPattern.parse(".".join(("db", *rest, *end)))


def event_type_of(rest: list[str]) -> str:
    return ".".join(("db", *rest))


patterns = st.builds(
    pattern,
    st.lists(segments, max_size=4),
    st.sampled_from(((), ("**",))),
)
types = st.lists(st.sampled_from("abc"), min_size=1, max_size=5).map(event_type_of)


@given(st.lists(patterns, max_size=20), types)
def test_the_index_finds_just_what_asking_each_pattern_finds(
    all_patterns: list[EventPattern], event_type: str
) -> None:
    index = MatchingIndex((pattern, number) for number, pattern in enumerate(all_patterns))
    naive = [n for n, pattern in enumerate(all_patterns) if pattern.matches(event_type)]
    assert sorted(index.match(event_type)) == naive
