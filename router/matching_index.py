"""Which listeners an event type is for: the cost does not grow with those it is not for.

Built anew when definitions change, which is rare; never changed in place.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

from events.event_type import EventPattern
from events.pattern_tree import PatternTree

Item = TypeVar("Item")


class MatchingIndex(Generic[Item]):
    """Items by pattern."""

    def __init__(self, entries: Iterable[tuple[EventPattern, Item]]) -> None:
        self._tree: PatternTree[list[Item]] = PatternTree(list[Item])
        for pattern, item in entries:
            self._tree.leaf(pattern).append(item)

    def match(self, event_type: str) -> list[Item]:
        """The items whose pattern selects a type; an item once for each such pattern."""
        return [item for items in self._tree.select(event_type) for item in items]
