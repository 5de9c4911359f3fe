"""Events that are emitted later: each once, whoever schedules and however that ends."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest
from aiokafka import AIOKafkaProducer

from events.event import Event
from events.json_codec import decode_object
from events.recurrence import Recurrence
from events.run import Emission, RunOutcome, RunRequest
from router.router import Router
from tests.router.router_bench import Bench, Functions, does_nothing

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


async def schedules(request: RunRequest) -> RunOutcome:
    """Emits custom.late as its event's data says."""
    data = decode_object(request.event)["data"]
    assert isinstance(data, dict)
    delay_s, name, cancel = data.get("delay_s"), data.get("name"), data.get("cancel")
    assert isinstance(delay_s, float | None)
    assert isinstance(name, str | None)
    # One key, so that all are of one partition and read in order.
    late = Emission("custom.late", data.get("n"), "k", delay_s=delay_s, name=name)
    return RunOutcome(
        "ok",
        1.0,
        emissions=() if cancel else (late,),
        cancelled=(cancel,) if isinstance(cancel, str) else (),
    )


def is_late(event: Event) -> bool:
    return event.type == "custom.late"


async def late(bench: Bench, count: int) -> list[object]:
    return [event.body["data"] for event in await bench.events(is_late, count)]


async def test_an_event_with_a_delay_is_emitted_when_it_is_due_with_chain_and_cause(
    bench: Bench,
) -> None:
    await bench.define("late", "custom.x")
    async with bench.routing(Functions(late=schedules)):
        root = await bench.emit("custom.x", {"n": 1, "delay_s": 0.2})
        (event,) = await bench.events(is_late)
        (run,) = await bench.runs(1, listener="late")
    assert event.chain is not None
    assert (event.chain.root, event.chain.path) == (root, ("late",))
    assert event.traceparent is not None
    assert event.body["cause"] == {"event": root, "listener": "late"}
    emitted = run["emitted"]
    assert isinstance(emitted, list)
    (said,) = emitted
    assert isinstance(said, dict)
    assert (said["id"], said["type"]) == (event.id, "custom.late")
    assert isinstance(said["due_ms"], int)
    assert isinstance(event.body["ts_ms"], int)
    assert event.body["ts_ms"] >= said["due_ms"]


async def test_what_is_replaced_or_cancelled_is_not_emitted(bench: Bench) -> None:
    await bench.define("late", "custom.x")
    async with bench.routing(Functions(late=schedules)):
        for data in (
            {"n": "old", "delay_s": 3.0, "name": "n"},
            {"n": "new", "delay_s": 4.0, "name": "n"},
            {"n": "gone", "delay_s": 3.0, "name": "m"},
            {"cancel": "m"},
            {"n": "last", "delay_s": 6.0},
        ):
            await bench.emit("custom.x", data, "one")
        assert await late(bench, 2) == ["new", "last"]


async def test_what_waits_outlives_its_router(bench: Bench) -> None:
    await bench.define("late", "custom.x")
    async with bench.routing(Functions(late=schedules)):
        await bench.emit("custom.x", {"n": 1, "delay_s": 2.0})
        await bench.runs(1, listener="late")
    async with bench.routing(Functions(late=schedules)):
        await bench.emit("custom.x", {"n": 2, "delay_s": 3.0})
        assert await late(bench, 2) == [1, 2]


async def test_a_router_that_is_cut_off_again_and_again_emits_each_once(bench: Bench) -> None:
    await bench.define("late", "custom.x")
    numbers = range(300)
    for number in numbers:
        await bench.emit("custom.x", {"n": number, "delay_s": 0.01 * number})
    for _ in range(6):
        stop, ready = asyncio.Event(), asyncio.Event()
        made = Router(bench.cluster, Functions(late=schedules))
        router = asyncio.create_task(made.run(stop, ready.set))
        await asyncio.wait(
            (router, asyncio.create_task(ready.wait())), return_when="FIRST_COMPLETED"
        )
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(router), 0.5)
        router.cancel()
        await asyncio.gather(router, return_exceptions=True)
    async with bench.routing(Functions(late=schedules)):
        await bench.emit("custom.x", {"n": "end", "delay_s": 5.0})
        found = await bench.events(is_late, len(numbers) + 1)
    data = [event.body["data"] for event in found]
    assert data[-1] == "end"
    assert sorted(map(str, data[:-1])) == sorted(map(str, numbers))


async def test_of_two_routers_one_schedules_and_the_other_takes_over(bench: Bench) -> None:
    await bench.define("late", "custom.x")
    numbers = range(60)
    async with bench.routing(Functions(late=schedules), "0"):
        async with bench.routing(Functions(late=schedules), "1"):
            for number in numbers:
                await bench.emit("custom.x", {"n": number, "delay_s": 0.1 * number})
            await bench.events(is_late, 10)
        await bench.emit("custom.x", {"n": "end", "delay_s": 8.0})
        data = await late(bench, len(numbers) + 1)
    assert data[-1] == "end"
    assert sorted(map(str, data[:-1])) == sorted(map(str, numbers))


async def test_what_was_emitted_behind_somebodys_open_transaction_is_not_emitted_again(
    bench: Bench,
) -> None:
    await bench.define("late", "custom.x")
    other = AIOKafkaProducer(
        bootstrap_servers=bench.cluster.bootstrap, transactional_id=f"{bench.topics.prefix}.other"
    )
    await other.start()
    try:
        async with bench.routing(Functions(late=schedules)):
            await bench.emit("custom.x", {"n": "a", "delay_s": 2.0}, "k")
            await bench.emit("custom.x", {"n": "b", "delay_s": 0.0}, "k")
            assert await late(bench, 1) == ["b"]
            await other.begin_transaction()
            await other.send_and_wait(bench.topics.schedules, None, b"other", partition=0)
            assert await late(bench, 2) == ["b", "a"]
        async with bench.routing(Functions(late=schedules)):
            await bench.emit("custom.x", {"n": "c", "delay_s": 0.0}, "k")
            await bench.runs(3, listener="late")
            await other.commit_transaction()
            assert await late(bench, 3) == ["b", "a", "c"]
    finally:
        await other.stop()


async def test_what_runs_by_the_clock_runs_once_each_second_whoever_schedules(
    bench: Bench,
) -> None:
    now_ms = time.time_ns() // 1_000_000
    clock = {"every": "1s", "catch_up": "all", "version": 1, "since_ms": now_ms}
    await bench.define("tick", "schedule.tick", **clock)
    async with bench.routing(Functions(tick=does_nothing), "0"):
        async with bench.routing(Functions(tick=does_nothing), "1"):
            await bench.runs(2, listener="tick")
        await bench.runs(4, listener="tick")
    async with bench.routing(Functions(tick=does_nothing)):
        found = await bench.events(lambda event: event.type == "schedule.tick", 6)
    due = [data["due_ms"] for event in found if isinstance(data := event.body["data"], dict)]
    assert due == [now_ms + 1_000 * number for number in range(1, 7)]


async def test_a_definition_that_is_gone_is_due_no_more(bench: Bench) -> None:
    await bench.define("tick", "schedule.tick", every="1s")
    async with bench.routing(Functions(tick=does_nothing)):
        await bench.runs(1, listener="tick")
        await bench.delete("tick")
        schedules = await bench.values(bench.topics.schedules, lambda record: not record, 1)
    assert schedules == [{}]


async def test_what_a_run_asks_for_again_and_again_goes_on_until_it_is_cancelled(
    bench: Bench,
) -> None:
    async def asks(request: RunRequest) -> RunOutcome:
        recurrence = Recurrence(1_000)
        again = Emission("schedule.poll", {"n": 1}, name="poll", recurrence=recurrence)
        data = decode_object(request.event)["data"]
        cancel = data == "cancel"
        return RunOutcome(
            "ok", 1.0, emissions=() if cancel else (again,), cancelled=("poll",) if cancel else ()
        )

    await bench.define("asks", "custom.x")
    async with bench.routing(Functions(asks=asks)):
        await bench.emit("custom.x", "begin", "k")
        await bench.events(lambda event: event.type == "schedule.poll", 2)
        await bench.emit("custom.x", "cancel", "k")
        await bench.runs(2, listener="asks")
        # Emptied by the scheduler, the cancellation's own record last.
        await bench.values(bench.topics.schedules, lambda record: not record, 2)
    found = await bench.events(lambda event: event.type == "schedule.poll", 2)
    assert [event.chain and event.chain.path for event in found] == [("asks",)] * 2
    data = [event.body["data"] for event in found]
    assert all(isinstance(one, dict) and one["data"] == {"n": 1} for one in data)
