"""What stands at event patterns, found by an event's type without looking at the rest.

A trie over the segments of patterns: the cost of a look-up depends on the number of segments and
on what it finds, not on what it does not. What a leaf is, is up to who uses it. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from events.event_type import EventPattern

Leaf = TypeVar("Leaf")


@dataclass(slots=True)
class _Node(Generic[Leaf]):
    children: dict[str, _Node[Leaf]] = field(default_factory=dict[str, "_Node[Leaf]"])
    ending: Leaf | None = None
    open_ended: Leaf | None = None

    @property
    def is_empty(self) -> bool:
        return not self.children and self.ending is None and self.open_ended is None


class PatternTree(Generic[Leaf]):
    """One leaf for each pattern that was asked for; `make_leaf` makes it."""

    def __init__(self, make_leaf: Callable[[], Leaf]) -> None:
        self._make_leaf = make_leaf
        self._root: _Node[Leaf] = _Node()

    @property
    def is_empty(self) -> bool:
        """Whether there is no leaf, nor any branch that led to one."""
        return self._root.is_empty

    def leaf(self, pattern: EventPattern) -> Leaf:
        """The leaf of a pattern, made where there is none."""
        node = self._root
        for segment in pattern.segments:
            node = node.children.setdefault(segment, _Node())
        leaf = node.open_ended if pattern.open_ended else node.ending
        if leaf is not None:
            return leaf
        made = self._make_leaf()
        if pattern.open_ended:
            node.open_ended = made
        else:
            node.ending = made
        return made

    def discard(self, pattern: EventPattern) -> None:
        """Take the leaf of a pattern out, and what of the trie was there for it alone."""
        way = [self._root]
        for segment in pattern.segments:
            way.append(way[-1].children[segment])
        if pattern.open_ended:
            way[-1].open_ended = None
        else:
            way[-1].ending = None
        for node, segment in zip(way[-2::-1], pattern.segments[::-1], strict=True):
            if node.children[segment].is_empty:
                del node.children[segment]

    def select(self, event_type: str) -> Iterator[Leaf]:
        """The leaves of the patterns that select a type, shorter patterns first."""
        level = [self._root]
        for segment in event_type.split("."):
            below: list[_Node[Leaf]] = []
            for node in level:
                if node.open_ended is not None:
                    yield node.open_ended
                for step in (segment, "*"):
                    child = node.children.get(step)
                    if child is not None:
                        below.append(child)
            level = below
        for node in level:
            if node.ending is not None:
                yield node.ending
