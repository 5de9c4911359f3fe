"""Positions: how far a client has every partition of the topics that it registered for.

A position is the offset of the last record that a client has, or need not have: it stays as the
event carried it, with nothing to add. -1 is a client that has nothing. Written as
`{"shop.public.orders": [17, -1, 4, 9]}`, one number a partition. Pure.

Whether anything is missing follows from what Kafka holds now (`Extent`): a record below its
beginning was thrown away by retention, and a position at or beyond its end is one of another
topic of the same name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

Partition: TypeAlias = tuple[str, int]
Positions: TypeAlias = dict[str, list[int]]

NOTHING = -1


@dataclass(frozen=True, slots=True)
class Extent:
    """What Kafka holds of a partition: its first offset, and the one after its last."""

    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """Where delivery begins: the next offset of each partition, and whether nothing is lost."""

    next_offsets: dict[Partition, int]
    complete: bool

    @property
    def positions(self) -> Positions:
        """The positions that this is."""
        return positions_of(self.next_offsets)


def positions_of(next_offsets: Mapping[Partition, int]) -> Positions:
    """Positions, from the offset that each partition is to be delivered from."""
    found: Positions = {}
    for topic, partition in sorted(next_offsets):
        offsets = found.setdefault(topic, [])
        offsets.extend([NOTHING] * (partition - len(offsets)))
        offsets.append(next_offsets[topic, partition] - 1)
    return found


def unlevel(
    given: Positions, live: Mapping[Partition, int], topics: Iterable[str]
) -> dict[Partition, int]:
    """The next offset wanted of every partition where it is not the live one.

    `live` holds the offset that each partition goes on with; only there Kafka has to be asked.
    """
    chosen = set(topics)
    wanted = {part: _next(given, part) for part in live if part[0] in chosen}
    return {part: offset for part, offset in wanted.items() if offset != live[part]}


def resume_point(
    given: Positions,
    live: Mapping[Partition, int],
    topics: Iterable[str],
    extents: Mapping[Partition, Extent],
) -> ResumePoint:
    """Where a client goes on that has what it gave, as far as Kafka holds it.

    `extents` are those of the partitions that `unlevel` named.
    """
    chosen = set(topics)
    live_parts = [part for part in live if part[0] in chosen]
    complete = _all_exist(given, live_parts)
    next_offsets: dict[Partition, int] = {}
    for part in live_parts:
        wanted = _next(given, part)
        extent = extents.get(part)
        if extent is not None and not extent.begin <= wanted <= extent.end:
            complete = False
            wanted = extent.begin
        next_offsets[part] = wanted
    return ResumePoint(next_offsets, complete)


def _next(given: Positions, part: Partition) -> int:
    topic, partition = part
    offsets = given.get(topic, ())
    return offsets[partition] + 1 if partition < len(offsets) else 0


def _all_exist(given: Positions, live_parts: list[Partition]) -> bool:
    """Whether every partition of which a client has something is still there."""
    known = set(live_parts)
    return all(
        offset == NOTHING or (topic, partition) in known
        for topic, offsets in given.items()
        for partition, offset in enumerate(offsets)
    )
