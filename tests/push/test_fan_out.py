"""One record to many outboxes, and the hand-over from catching up to live, without Kafka."""

from __future__ import annotations

import json

import pytest

from events.event_type import EventPattern
from events.json_codec import JsonObject
from events.topic import Topics
from push.conditions import Conditions
from push.fan_out import FanOut
from push.frame import Frame
from push.outbox import Ending, Outbox
from push.positions import Partition
from push.registration import Joining, Registration

pytestmark = pytest.mark.anyio

ORDERS: Partition = ("shop.public.orders", 0)
USERS: Partition = ("shop.public.users", 0)


def fan_out() -> FanOut:
    made = FanOut(Topics("rowcast"))
    made.place({ORDERS: 0, USERS: 0})
    return made


def registration(
    number: int, outbox: Outbox, pattern: str = "db.shop.**", row: JsonObject | None = None
) -> Registration:
    return Registration(number, EventPattern.parse(pattern), Conditions.parse(None, row), outbox)


def give(to: FanOut, part: Partition, offset: int, after: JsonObject | None = None) -> int:
    event = {"id": f"{part[0]}/{offset}", "type": f"db.{part[0]}.created", "after": after or {}}
    return to.dispatch(part, offset, b"{}", json.dumps(event).encode())


async def taken(outbox: Outbox) -> list[JsonObject]:
    """What waits in an outbox, which is empty after."""
    outbox.put(Frame.of(b'{"op":"mark"}'))
    frames = await outbox.next()
    assert not isinstance(frames, Ending)
    found: list[JsonObject] = [json.loads(frame.payload) for frame in frames]
    assert found.pop() == {"op": "mark"}
    return found


async def test_registrations_of_one_connection_share_a_frame_and_others_have_their_own() -> None:
    to, one, other = fan_out(), Outbox(10_000), Outbox(10_000)
    to.add(registration(1, one))
    to.add(registration(2, one, "db.shop.public.orders.*"))
    to.add(registration(3, one, "db.shop.public.users.*"))
    to.add(registration(1, other))
    assert give(to, ORDERS, 0) == 3
    (mine,), (yours,) = await taken(one), await taken(other)
    assert (mine["ids"], yours["ids"]) == ([1, 2], [1])
    assert (mine["topic"], mine["partition"], mine["offset"]) == (*ORDERS, 0)


async def test_positions_move_with_what_is_delivered_and_never_back() -> None:
    to, outbox = fan_out(), Outbox(10_000)
    to.add(registration(1, outbox))
    for offset in (0, 1, 1, 0, 5):
        give(to, ORDERS, offset)
    assert [message["offset"] for message in await taken(outbox)] == [0, 1, 5]
    assert to.next_offsets == {ORDERS: 6, USERS: 0}
    assert to.positions(EventPattern.parse("db.shop.public.orders.*")) == {ORDERS[0]: [5]}


async def test_a_partition_that_is_not_followed_is_left_out() -> None:
    to, outbox = fan_out(), Outbox(10_000)
    to.add(registration(1, outbox))
    assert give(to, ("shop.public.new", 0), 0) == 0
    assert ("shop.public.new", 0) not in to.next_offsets


async def test_what_is_no_event_moves_positions_and_nothing_else() -> None:
    to, outbox = fan_out(), Outbox(10_000)
    to.add(registration(1, outbox))
    assert to.dispatch(ORDERS, 0, None, b"not json") == 0
    assert to.dispatch(ORDERS, 1, None, None) == 0
    assert to.next_offsets[ORDERS] == 2
    assert await taken(outbox) == []


async def test_while_it_catches_up_live_events_are_held_in_frames_of_their_own() -> None:
    to, outbox = fan_out(), Outbox(10_000)
    live, joins = registration(1, outbox), registration(2, outbox)
    joins.joining = Joining(10_000, to.offsets_of(joins.pattern))
    to.add(live)
    to.add(joins)
    give(to, ORDERS, 0)
    assert [message["ids"] for message in await taken(outbox)] == [[1]]
    assert [json.loads(frame.payload)["ids"] for frame in joins.joining.held] == [[2]]
    assert joins.joining.targets == {ORDERS: 0, USERS: 0}


async def test_what_cannot_be_held_is_left_to_catching_up_whose_targets_move_beyond_it() -> None:
    to, outbox = fan_out(), Outbox(10_000)
    joins = registration(1, outbox)
    joins.joining = Joining(400, to.offsets_of(joins.pattern))
    to.add(joins)
    held: list[int] = []
    for offset in range(4):
        give(to, ORDERS, offset)
        held.append(len(joins.joining.held))
    # Two fit; the third drops them, itself included, and holding begins anew after it.
    assert held == [1, 2, 0, 1]
    assert joins.joining.targets == {ORDERS: 3, USERS: 0}


async def test_a_client_that_is_ahead_is_not_given_again_what_it_has() -> None:
    to, outbox = fan_out(), Outbox(10_000)
    ahead = registration(1, outbox)
    ahead.floors = {ORDERS: 2}
    to.add(ahead)
    for offset in range(4):
        give(to, ORDERS, offset)
    give(to, USERS, 0)
    offsets = [(message["topic"], message["offset"]) for message in await taken(outbox)]
    assert offsets == [(ORDERS[0], 2), (ORDERS[0], 3), (USERS[0], 0)]
    assert ahead.floors == {}


async def test_a_row_that_leaves_a_filter_says_for_which_registration() -> None:
    to, outbox = fan_out(), Outbox(10_000)
    to.add(registration(1, outbox))
    to.add(registration(2, outbox, row={"status": "new"}))
    event = {
        "id": "e",
        "type": "db.shop.public.orders.updated",
        "op": "u",
        "before": {"status": "new"},
        "after": {"status": "paid"},
    }
    to.dispatch(ORDERS, 0, b"{}", json.dumps(event).encode())
    (message,) = await taken(outbox)
    assert (message["ids"], message["left"]) == ([1, 2], [2])


async def test_what_is_lost_is_told_to_whom_it_concerns() -> None:
    to, concerned, other = fan_out(), Outbox(10_000), Outbox(10_000)
    to.add(registration(4, concerned, "db.shop.public.orders.*", {"status": "new"}))
    to.add(registration(5, other, "db.shop.public.users.*"))
    give(to, ORDERS, 3)
    to.lost(ORDERS, 9)
    (message,) = await taken(concerned)
    assert (message["op"], message["ids"]) == ("lost", [4])
    assert (message["topic"], message["partition"]) == ORDERS
    assert (message["after"], message["before"]) == (3, 9)
    assert await taken(other) == []
    assert to.next_offsets[ORDERS] == 9


async def test_who_is_removed_gets_nothing_more() -> None:
    to, outbox = fan_out(), Outbox(10_000)
    one = registration(1, outbox)
    to.add(one)
    to.remove(one)
    to.remove(one)
    assert give(to, ORDERS, 0) == 0
