"""Frames of one event. The event's own bytes are put in as they came from Kafka, never encoded
anew, and a frame is made once for all connections whose registrations have the same ids. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

from push.frame import Frame
from push.pushed_event import PushedEvent


class EventFrames:
    """The frames of one event, each made when it is first asked for."""

    def __init__(self, event: PushedEvent) -> None:
        place = f'"topic":"{event.topic}","partition":{event.partition},"offset":{event.offset}'
        self._tail = b',%b,"event":%b}' % (place.encode(), event.raw)
        self._made: dict[tuple[tuple[int, ...], tuple[int, ...]], Frame] = {}

    def frame(self, ids: Sequence[int], left: Sequence[int] = ()) -> Frame:
        """The frame for registrations, of which some see the row leave their conditions."""
        key = (tuple(ids), tuple(left))
        frame = self._made.get(key)
        if frame is None:
            head = f'{{"op":"event","ids":[{",".join(map(str, ids))}]'
            if left:
                head += f',"left":[{",".join(map(str, left))}]'
            frame = Frame.of(head.encode() + self._tail)
            self._made[key] = frame
        return frame
