"""One record in, frames in outboxes out: the live way of every event to every connection.

Holds the offset that live delivery of each partition goes on with. It moves together with the
frames, never before or after them, so that whatever is computed from it without an await between
is exact. Pure: no I/O; whoever reads Kafka calls it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from events.event_type import EventPattern
from events.topic import Topics
from push.event_frame import EventFrames
from push.outbox import Outbox
from push.positions import Partition, Positions, positions_of
from push.protocol import answer
from push.pushed_event import Concern, PushedEvent, pushed_event
from push.registration import Joining, Registration
from push.registration_index import RegistrationIndex
from push.topic_selection import may_hold


@dataclass(slots=True)
class _Ids:
    all: list[int] = field(default_factory=list[int])
    left: list[int] = field(default_factory=list[int])


class FanOut:
    """All live registrations, and where live delivery stands."""

    def __init__(self, topics: Topics) -> None:
        self._topics = topics
        self._index: RegistrationIndex[Registration] = RegistrationIndex()
        self._next_offsets: dict[Partition, int] = {}
        self._known_topics: set[str] = set()

    @property
    def next_offsets(self) -> Mapping[Partition, int]:
        """The offset that each partition goes on with."""
        return self._next_offsets

    def place(self, offsets: Mapping[Partition, int]) -> None:
        """Begin or go on with partitions at offsets."""
        self._next_offsets.update(offsets)
        self._known_topics.update(topic for topic, _ in offsets)

    def topics_of(self, pattern: EventPattern) -> set[str]:
        """The topics there are that can hold events of a pattern."""
        return {topic for topic in self._known_topics if self.may_hold(topic, pattern)}

    def may_hold(self, topic: str, pattern: EventPattern) -> bool:
        """Whether a topic, there or not, can hold events of a pattern."""
        return may_hold(self._topics, topic, pattern)

    def offsets_of(self, pattern: EventPattern) -> dict[Partition, int]:
        """Where live delivery of the topics of a pattern stands."""
        topics = self.topics_of(pattern)
        return {part: at for part, at in self._next_offsets.items() if part[0] in topics}

    def positions(self, pattern: EventPattern) -> Positions:
        """The same, as positions."""
        return positions_of(self.offsets_of(pattern))

    def add(self, registration: Registration) -> None:
        """Deliver to a registration from now on."""
        self._index.add(registration, registration.pattern, registration.conditions)

    def remove(self, registration: Registration) -> None:
        """Deliver to it no more."""
        if registration in self._index:
            self._index.remove(registration)

    def dispatch(self, part: Partition, offset: int, key: bytes | None, value: bytes | None) -> int:
        """Give a record to whom it concerns; returns to how many registrations.

        A record that was given before, or of a partition that is not followed, is left out.
        """
        if offset < self._next_offsets.get(part, offset + 1):
            return 0
        self._next_offsets[part] = offset + 1
        if not self._index:
            return 0
        event = pushed_event(part, offset, key, value)
        if event is None:
            return 0
        concerned = self._index.match(event)
        if concerned:
            self._deliver(event, concerned)
        return len(concerned)

    def _deliver(self, event: PushedEvent, concerned: dict[Registration, Concern]) -> None:
        frames = EventFrames(event)
        live: dict[Outbox, _Ids] = {}
        for registration, concern in concerned.items():
            if registration.floors and registration.has(event.place, event.offset):
                continue
            if registration.joining is not None:
                self._hold(registration, registration.joining, frames, concern)
                continue
            ids = live.setdefault(registration.outbox, _Ids())
            ids.all.append(registration.id)
            if concern == "left":
                ids.left.append(registration.id)
        for outbox, ids in live.items():
            outbox.put(frames.frame(ids.all, ids.left))

    def _hold(
        self, registration: Registration, joining: Joining, frames: EventFrames, concern: Concern
    ) -> None:
        ids = (registration.id,)
        frame = frames.frame(ids, ids if concern == "left" else ())
        if not joining.hold(frame):
            joining.move(self.offsets_of(registration.pattern))

    def lost(self, part: Partition, begin: int) -> None:
        """Go on at a later (or, of a new topic, earlier) offset, and tell whom that concerns."""
        topic, partition = part
        after = self._next_offsets.get(part, 0) - 1
        self._next_offsets[part] = begin
        missing: dict[Outbox, list[int]] = {}
        for registration in self._index:
            if self.may_hold(topic, registration.pattern):
                missing.setdefault(registration.outbox, []).append(registration.id)
        for outbox, ids in missing.items():
            outbox.put(
                answer(
                    "lost",
                    ids=ids,
                    topic=topic,
                    partition=partition,
                    after=after,
                    before=begin,
                    message=f"events of {topic} between these offsets are no longer on Kafka, or "
                    "the topic was made anew; read the rows again from the database",
                )
            )
