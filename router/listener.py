"""A definition made ready: its filter compiled, and the index of all that are enabled."""

from __future__ import annotations

from dataclasses import dataclass

from events.event import Event
from events.event_type import EventPattern
from router.definition import Definition
from router.matching_index import MatchingIndex
from router.where import Predicate, compile_where


@dataclass(frozen=True, slots=True)
class Listener:
    """A definition and its compiled filter, None where it has none."""

    definition: Definition
    predicate: Predicate | None

    @classmethod
    def compile(cls, definition: Definition) -> Listener:
        """From a definition that was checked."""
        where = definition.where
        return cls(definition, None if where is None else compile_where(where))

    def wants(self, event: Event, happened_ms: int) -> bool:
        """Whether it is to run for an event whose type matches."""
        if happened_ms < self.definition.since_ms:
            return False
        return self.predicate is None or self.predicate(event.body)


class ListenerIndex:
    """All enabled listeners by pattern."""

    def __init__(self, definitions: list[Definition]) -> None:
        enabled = [Listener.compile(one) for one in definitions if one.enabled]
        self._named = {listener.definition.name: listener.definition for listener in enabled}
        self._index = MatchingIndex(
            (EventPattern.parse(listener.definition.on), listener) for listener in enabled
        )

    def named(self, name: str) -> Definition | None:
        """The one of a name, if it is enabled."""
        return self._named.get(name)

    def match(self, event: Event, happened_ms: int) -> list[Definition]:
        """The definitions that are to run for an event, by name."""
        found = [
            listener.definition
            for listener in self._index.match(event.type)
            if listener.wants(event, happened_ms)
        ]
        return sorted(found, key=lambda definition: definition.name)
