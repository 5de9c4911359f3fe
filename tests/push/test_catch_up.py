"""Catching up, moment by moment: what is hard to meet by chance while events come."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from aiokafka.structs import TopicPartition

from events.event_type import EventPattern
from events.json_codec import JsonObject
from push.catch_up import CatchUp
from push.conditions import Conditions
from push.fan_out import FanOut
from push.frame import Frame
from push.outbox import Ending, Outbox
from push.positions import Partition, ResumePoint
from push.registration import Joining, Registration
from tests.push.push_bench import LIMIT_S, PushBench

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


class WatchedOutbox(Outbox):
    """Tells when somebody has to wait for room."""

    def __init__(self) -> None:
        super().__init__(1_000_000)
        self.waits = asyncio.Event()

    async def room(self, size_bytes: int) -> None:
        if not self.fits(size_bytes):
            self.waits.set()
        await super().room(size_bytes)


@asynccontextmanager
async def catching_up(bench: PushBench, registration: Registration) -> AsyncGenerator[None]:
    """A registration that catches up from the beginning of the orders' first partition."""
    fan_out = FanOut(bench.topics)
    fan_out.place({(bench.orders, 0): 10})
    begin = ResumePoint({(bench.orders, 0): 0}, complete=True)
    catch_up = CatchUp(bench.cluster, fan_out, registration, begin, LIMIT_S)
    task = asyncio.create_task(catch_up.run(asyncio.Semaphore(1)))
    yield
    async with asyncio.timeout(LIMIT_S):
        await task


def joining(bench: PushBench, outbox: Outbox, target: int) -> tuple[Registration, Joining]:
    pattern = EventPattern.parse(bench.pattern)
    registration = Registration(1, pattern, Conditions(), outbox)
    registration.joining = Joining(1_000, {orders(bench): target})
    return registration, registration.joining


def orders(bench: PushBench) -> Partition:
    return bench.orders, 0


async def messages(outbox: Outbox) -> AsyncGenerator[JsonObject]:
    """What comes out of an outbox, one by one."""
    while True:
        async with asyncio.timeout(LIMIT_S):
            frames = await outbox.next()
        assert not isinstance(frames, Ending)
        for frame in frames:
            yield json.loads(frame.payload)


async def offsets_of(said: AsyncGenerator[JsonObject], count: int) -> list[object]:
    return [(await anext(said))["offset"] for _ in range(count)]


async def test_targets_that_move_after_they_were_reached_leave_no_gap(bench: PushBench) -> None:
    for number in range(10):
        await bench.write({"id": number}, partition=0)
    outbox = WatchedOutbox()
    registration, waits = joining(bench, outbox, 5)
    # As if live delivery held so much that the outbox has no room to go live yet.
    waits.held_bytes = 10_000_000
    # A frame that nobody has taken out yet.
    outbox.put(Frame.of(b'{"op":"first"}'))
    async with catching_up(bench, registration):
        # Five are in the outbox, all ten were fetched, and it waits for room.
        async with asyncio.timeout(LIMIT_S):
            await outbox.waits.wait()
        waits.move({orders(bench): 10})
        said = messages(outbox)
        assert await anext(said) == {"op": "first"}
        assert await offsets_of(said, 10) == list(range(10))
        live = await anext(said)
        assert (live["op"], live["complete"]) == ("live", True)
    assert registration.joining is None


async def test_what_is_held_goes_out_after_what_was_missed_and_before_live(
    bench: PushBench,
) -> None:
    for number in range(3):
        await bench.write({"id": number}, partition=0)
    outbox = Outbox(1_000_000)
    registration, waits = joining(bench, outbox, 3)
    waits.hold(Frame.of(b'{"op":"held"}'))
    async with catching_up(bench, registration):
        said = messages(outbox)
        operations = [(await anext(said))["op"] for _ in range(5)]
        assert operations == ["event"] * 3 + ["held", "live"]


async def test_what_is_thrown_away_before_it_is_read_makes_it_incomplete(bench: PushBench) -> None:
    for number in range(10):
        await bench.write({"id": number}, partition=0)
    await bench.delete_records({TopicPartition(*orders(bench)): 7})
    outbox = Outbox(1_000_000)
    registration, _ = joining(bench, outbox, 10)
    async with catching_up(bench, registration):
        said = messages(outbox)
        assert await offsets_of(said, 3) == [7, 8, 9]
        live = await anext(said)
        assert (live["op"], live["complete"]) == ("live", False)
