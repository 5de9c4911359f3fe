"""Which listeners an event type is for, found through a trie over the segments of patterns.

The cost of a look-up depends on the number of segments and on the listeners that match, not on
those that do not. Built anew when definitions change, which is rare; never changed in place.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from events.event_type import EventPattern

Item = TypeVar("Item")


@dataclass(slots=True)
class _Node(Generic[Item]):
    children: dict[str, _Node[Item]] = field(default_factory=dict[str, "_Node[Item]"])
    ending: list[Item] = field(default_factory=list[Item])
    open_ended: list[Item] = field(default_factory=list[Item])


class MatchingIndex(Generic[Item]):
    """Items by pattern."""

    def __init__(self, entries: Iterable[tuple[EventPattern, Item]]) -> None:
        self._root: _Node[Item] = _Node()
        for pattern, item in entries:
            node = self._root
            for segment in pattern.segments:
                node = node.children.setdefault(segment, _Node())
            (node.open_ended if pattern.open_ended else node.ending).append(item)

    def match(self, event_type: str) -> list[Item]:
        """The items whose pattern selects a type; an item once for each such pattern."""
        segments = event_type.split(".")
        found: list[Item] = []
        level = [self._root]
        for segment in segments:
            below: list[_Node[Item]] = []
            for node in level:
                found += node.open_ended
                for step in (segment, "*"):
                    child = node.children.get(step)
                    if child is not None:
                        below.append(child)
            level = below
        for node in level:
            found += node.ending
        return found
