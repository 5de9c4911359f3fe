"""Which registrations an event is for, found without looking at those it is not for.

At each pattern (events/pattern_tree.py), registrations by the fields that they ask for
(their shape) and then, in a hash table, by the values: a hundred thousand registrations for as
many keys cost an event one look-up. Shapes hang below the first of their fields, and only fields
that the event has are followed, so that made-up fields cost nothing. Pure.

It must never differ from `concerns`, which says the same for one registration.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from events.event_type import EventPattern
from events.json_codec import JsonObject
from events.pattern_tree import PatternTree
from push.conditions import Conditions, Shape, Values, values_of
from push.pushed_event import Concern, PushedEvent

Item = TypeVar("Item", bound=Hashable)
_First = tuple[str, str]


@dataclass(slots=True)
class _Holders(Generic[Item]):
    """Registrations of one pattern. `by_shape` goes first field -> shape -> values -> items.

    Dictionaries stand for sets: they keep the order, so that what is sent does not depend on
    hashes.
    """

    everything: dict[Item, None] = field(default_factory=dict[Item, None])
    conditional: dict[Item, None] = field(default_factory=dict[Item, None])
    by_shape: dict[_First, dict[Shape, dict[Values, dict[Item, None]]]] = field(
        default_factory=dict[_First, dict[Shape, dict[Values, dict[Item, None]]]]
    )

    @property
    def is_empty(self) -> bool:
        return not self.everything and not self.conditional

    def add(self, item: Item, conditions: Conditions) -> None:
        if not conditions.shape:
            self.everything[item] = None
            return
        self.conditional[item] = None
        shapes = self.by_shape.setdefault(_first(conditions.shape), {})
        by_values = shapes.setdefault(conditions.shape, {})
        for values in conditions.combinations():
            by_values.setdefault(values, {})[item] = None

    def remove(self, item: Item, conditions: Conditions) -> None:
        if not conditions.shape:
            del self.everything[item]
            return
        del self.conditional[item]
        first = _first(conditions.shape)
        shapes = self.by_shape[first]
        by_values = shapes[conditions.shape]
        for values in conditions.combinations():
            items = by_values[values]
            del items[item]
            if not items:
                del by_values[values]
        if not by_values:
            del shapes[conditions.shape]
        if not shapes:
            del self.by_shape[first]

    def match(self, event: PushedEvent, found: dict[Item, Concern]) -> None:
        found.update(dict.fromkeys(self.everything, "row"))
        if not self.conditional:
            return
        if event.is_truncation:
            found.update(dict.fromkeys(self.conditional, "row"))
            return
        for row, concern in event.rows:
            for shapes in self._shapes(event.key, row):
                for shape, by_values in shapes.items():
                    values = values_of(shape, event.key, row)
                    for item in by_values.get(values, ()) if values is not None else ():
                        found.setdefault(item, concern)

    def _shapes(
        self, key: JsonObject, row: JsonObject
    ) -> Iterator[dict[Shape, dict[Values, dict[Item, None]]]]:
        if len(self.by_shape) <= len(key) + len(row):
            yield from self.by_shape.values()
            return
        for place, names in (("key", key), ("row", row)):
            for name in names:
                shapes = self.by_shape.get((place, name))
                if shapes is not None:
                    yield shapes


class RegistrationIndex(Generic[Item]):
    """Items by pattern and conditions; an item stands in it once."""

    def __init__(self) -> None:
        self._tree: PatternTree[_Holders[Item]] = PatternTree(_Holders[Item])
        self._entries: dict[Item, tuple[EventPattern, Conditions]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, item: Item) -> bool:
        return item in self._entries

    def __iter__(self) -> Iterator[Item]:
        return iter(self._entries)

    def add(self, item: Item, pattern: EventPattern, conditions: Conditions) -> None:
        """Take an item in that is not in it."""
        self._tree.leaf(pattern).add(item, conditions)
        self._entries[item] = (pattern, conditions)

    def remove(self, item: Item) -> None:
        """Take an item out, and what of the trie was there for it alone."""
        pattern, conditions = self._entries.pop(item)
        holders = self._tree.leaf(pattern)
        holders.remove(item, conditions)
        if holders.is_empty:
            self._tree.discard(pattern)

    def match(self, event: PushedEvent) -> dict[Item, Concern]:
        """The items that an event concerns, and how."""
        found: dict[Item, Concern] = {}
        for holders in self._tree.select(event.type):
            holders.match(event, found)
        return found


def _first(shape: Shape) -> _First:
    place, path = shape[0]
    return place, path[0]
