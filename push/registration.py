"""A registration, and how one that catches up goes live: at one exact offset of each partition.

While it catches up, what happens live is held back. Catching up ends at the offsets that live
delivery had reached when holding began (`targets`); then what was held goes out and the
registration is live, with no event between and none twice. Where too much would be held, it is
dropped and the targets move: it is on Kafka, so that catching up delivers it. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from events.event_type import EventPattern
from push.conditions import Conditions
from push.frame import Frame
from push.outbox import Outbox
from push.positions import Partition


@dataclass(slots=True)
class Joining:
    """The state of a registration that catches up."""

    limit_bytes: int
    targets: dict[Partition, int]
    held: list[Frame] = field(default_factory=list[Frame])
    held_bytes: int = 0

    def hold(self, frame: Frame) -> bool:
        """Hold a live event back; False where it does not fit, and the targets must move."""
        if self.held_bytes + frame.size_bytes > self.limit_bytes:
            return False
        self.held.append(frame)
        self.held_bytes += frame.size_bytes
        return True

    def move(self, targets: dict[Partition, int]) -> None:
        """Drop what is held; all below the targets is to be caught up with."""
        self.targets = targets
        self.held.clear()
        self.held_bytes = 0


@dataclass(slots=True, eq=False)
class Registration:
    """One pattern with conditions, of one connection; `since_ms` is when it was asked for.

    `floors` are offsets below which a client has everything although live delivery here has not
    come to them yet: it got them from another process.
    """

    id: int
    pattern: EventPattern
    conditions: Conditions
    outbox: Outbox
    floors: dict[Partition, int] = field(default_factory=dict[Partition, int])
    joining: Joining | None = None
    since_ms: int = 0

    def has(self, place: Partition, offset: int) -> bool:
        """Whether the client has this record from elsewhere."""
        floor = self.floors.get(place)
        if floor is None:
            return False
        if offset < floor:
            return True
        del self.floors[place]
        return False
