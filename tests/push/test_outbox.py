from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from push.frame import Frame
from push.outbox import SLOW, Ending, Outbox

pytestmark = pytest.mark.anyio


def frame(size_bytes: int, text: str = "x") -> Frame:
    return Frame.of(text.encode().ljust(size_bytes))


async def drained(outbox: Outbox) -> list[Frame | Ending]:
    """All that comes out of an outbox that has ended."""
    out: list[Frame | Ending] = []
    while not isinstance(frames := await outbox.next(), Ending):
        out += frames
    return [*out, frames]


async def test_frames_come_out_in_the_order_they_went_in() -> None:
    outbox = Outbox(100)
    for text in "abc":
        outbox.put(frame(1, text))
    assert await outbox.next() == [frame(1, text) for text in "abc"]


async def test_only_so_much_comes_out_at_once_and_always_a_frame() -> None:
    outbox = Outbox(10_000_000)
    for size in (40_000, 40_000, 40_000, 200_000, 1):
        outbox.put(frame(size))
    sizes: list[list[int]] = []
    for _ in range(3):
        frames = await outbox.next()
        assert not isinstance(frames, Ending)
        sizes.append([one.size_bytes for one in frames])
    assert sizes == [[40_000, 40_000], [40_000, 200_000], [1]]


async def test_a_client_that_does_not_read_is_told_and_closed_with_try_again_later() -> None:
    outbox = Outbox(100)
    ended: list[bool] = []
    outbox.on_end(lambda: ended.append(True))
    for _ in range(4):
        outbox.put(frame(50))
    assert outbox.has_ended
    assert ended == [True]
    last, ending = await drained(outbox)
    assert isinstance(last, Frame)
    assert json.loads(last.payload)["code"] == "slow"
    assert isinstance(ending, Ending)
    assert ending.code == SLOW == 1013


async def test_an_event_of_any_size_gets_through_an_idle_connection() -> None:
    outbox = Outbox(100)
    outbox.put(frame(10_000))
    outbox.put(frame(100))
    assert not outbox.has_ended
    outbox.put(frame(1))
    assert outbox.has_ended


async def test_after_the_end_nothing_is_taken_and_the_first_end_counts() -> None:
    outbox = Outbox(100)
    outbox.put(frame(1, "dropped"))
    outbox.end(4401, "first", frame(1, "last"))
    outbox.end(1012, "second")
    outbox.put(frame(1, "late"))
    assert await drained(outbox) == [frame(1, "last"), Ending(4401, "first")]


@pytest.mark.parametrize("ends", [False, True])
async def test_who_waits_for_a_frame_is_woken_by_one_and_by_the_end(ends: bool) -> None:
    outbox = Outbox(100)
    waiting = asyncio.create_task(outbox.next())
    await asyncio.sleep(0)
    assert not waiting.done()
    if ends:
        outbox.end(1012, "")
    else:
        outbox.put(frame(1))
    async with asyncio.timeout(10):
        assert isinstance(await waiting, Ending) is ends


async def test_room_is_waited_for_until_the_reader_makes_it() -> None:
    outbox = Outbox(100)
    outbox.put(frame(1))
    outbox.put(frame(80))
    assert outbox.fits(20)
    assert not outbox.fits(21)
    waiting = asyncio.create_task(outbox.room(30))
    await asyncio.sleep(0)
    assert not waiting.done()
    await outbox.next()
    async with asyncio.timeout(10):
        await waiting


async def test_who_waits_for_room_is_woken_by_the_end() -> None:
    outbox = Outbox(1)
    outbox.put(frame(1))
    outbox.put(frame(1))
    waiting = asyncio.create_task(outbox.room(1))
    await asyncio.sleep(0)
    outbox.end(1012, "")
    async with asyncio.timeout(10):
        await waiting


@given(st.lists(st.integers(1, 60)))
def test_it_never_holds_more_than_its_limit_behind_the_oldest_frame(sizes: list[int]) -> None:
    async def fill() -> None:
        outbox = Outbox(100)
        taken: list[int] = []
        for size in sizes:
            outbox.put(frame(size))
            if outbox.has_ended:
                assert sum(taken[1:]) + size > 100
                return
            taken.append(size)
            assert sum(taken[1:]) <= 100

    asyncio.run(fill())
