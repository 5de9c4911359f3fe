from __future__ import annotations

import json

from push.event_frame import EventFrames
from push.pushed_event import pushed_event

# Spaces, order and the number are as no encoder of ours would write them.
RAW = '{ "type":"custom.x", "id":"e1", "data":{"price":1.10, "name":"Größe"} }'.encode()


def test_the_events_own_bytes_stand_in_the_frame() -> None:
    event = pushed_event(("shop.public.orders", 3), 17, None, RAW)
    assert event is not None
    frame = EventFrames(event).frame([1, 5], [5])
    assert RAW in frame.payload
    assert json.loads(frame.payload) == {
        "op": "event",
        "ids": [1, 5],
        "left": [5],
        "topic": "shop.public.orders",
        "partition": 3,
        "offset": 17,
        "event": json.loads(RAW),
    }


def test_a_frame_is_made_once_for_all_that_have_the_same_ids() -> None:
    event = pushed_event(("t", 0), 0, None, RAW)
    assert event is not None
    frames = EventFrames(event)
    assert frames.frame([1]) is frames.frame([1])
    assert frames.frame([1]).payload != frames.frame([1], [1]).payload
    assert b"left" not in frames.frame([1]).payload
