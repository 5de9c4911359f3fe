"""The router against a real Kafka. The sandbox's place is taken by Python functions: what a run
does is not the router's business, when and how often it is run is."""

from __future__ import annotations

import asyncio
import json
import time

import anyio
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from events.json_codec import JsonObject, decode_object
from events.run import Emission, PushMessage, RunOutcome, RunRequest
from router.definition import (
    Emit,
    Webhook,
)
from router.router import Router
from tests.router.router_bench import Bench, Body, Functions, does_nothing, emits, ok

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


async def test_what_a_run_emits_stands_on_kafka_with_its_record_and_chain(bench: Bench) -> None:
    async def body(_request: RunRequest) -> RunOutcome:
        return RunOutcome(
            "ok",
            1.0,
            emissions=(Emission("custom.second", {"n": 1}, "k"),),
            pushes=(PushMessage("room.1", "hello"),),
        )

    await bench.define("one", "custom.first")
    async with bench.routing(Functions(one=body)):
        root = await bench.emit("custom.first", {})
        (second,) = await bench.events(lambda event: event.type == "custom.second")
        (pushed,) = await bench.events(lambda event: event.type == "push.room.1")
        (run,) = await bench.runs(1, listener="one")
    assert second.chain is not None
    assert (second.chain.root, second.chain.path) == (root, ("one",))
    assert second.traceparent is not None
    assert second.body["cause"] == {"event": root, "listener": "one"}
    assert pushed.body["data"] == "hello"
    assert run["status"] == "ok"
    assert run["emitted"] == [
        {"id": second.id, "type": "custom.second"},
        {"id": pushed.id, "type": "push.room.1"},
    ]


async def test_a_failed_run_is_tried_three_times_more_and_then_a_dead_letter(
    bench: Bench,
) -> None:
    async def fails(_request: RunRequest) -> RunOutcome:
        return RunOutcome("failed", 1.0, "ValueError: no", emissions=(Emission("custom.no", 1),))

    await bench.define("fails", "custom.first")
    await bench.define("works", "custom.first")
    async with bench.routing(Functions(fails=fails, works=emits("custom.yes"))):
        event = await bench.emit("custom.first", {"a": 1})
        runs = await bench.runs(4, listener="fails")
        (letter,) = await bench.values(bench.topics.dead, lambda _: True, 1)
        (said,) = await bench.events(lambda event: event.type == "system.listener_dead")
        await bench.events(lambda event: event.type == "custom.yes")
        emitted = await bench.events(lambda event: event.type != "custom.first", 2)
    assert [run["attempt"] for run in runs] == [1, 2, 3, 4]
    assert (letter["listener"], letter["attempts"]) == ("fails", 4)
    assert letter["error"] == "ValueError: no"
    stored = letter["event"]
    assert isinstance(stored, dict)
    assert (stored["id"], stored["data"]) == (event, {"a": 1})
    assert said.chain is not None
    assert "custom.no" not in {event.type for event in emitted}


async def test_a_cycle_of_three_is_stopped_and_siblings_are_no_cycle(bench: Bench) -> None:
    async def ten(_request: RunRequest) -> RunOutcome:
        return ok(*(Emission("custom.a", {"n": number}) for number in range(10)))

    await bench.define("root", "custom.start")
    for name, on in (("on_a", "a"), ("on_b", "b"), ("on_c", "c")):
        await bench.define(name, f"custom.{on}")
    sandbox = Functions(
        root=ten, on_a=emits("custom.b"), on_b=emits("custom.c"), on_c=emits("custom.a")
    )
    async with bench.routing(sandbox):
        await bench.emit("custom.start", {})
        stopped = await bench.runs(10, listener="on_a", status="cycle_stopped")
        said = await bench.events(lambda event: event.type == "system.cycle_stopped", 10)
    assert stopped[0]["path"] == ["root", "on_a", "on_b", "on_c", "on_a"]
    assert len({event.id for event in said}) == 10
    names = [name for name, _, _ in sandbox.runs]
    assert {name: names.count(name) for name in set(names)} == {
        "root": 1,
        "on_a": 10,
        "on_b": 10,
        "on_c": 10,
    }


async def test_a_listener_that_allows_recursion_is_run_so_often_again(bench: Bench) -> None:
    await bench.define("again", "custom.x", recursion=2)
    sandbox = Functions(again=emits("custom.x"))
    async with bench.routing(sandbox):
        await bench.emit("custom.x", {})
        await bench.runs(1, status="cycle_stopped")
    assert len(sandbox.runs) == 3


async def test_a_listener_on_system_events_that_fails_ends(bench: Bench) -> None:
    async def fails(_request: RunRequest) -> RunOutcome:
        return RunOutcome("failed", 1.0, "no")

    await bench.define("watch", "system.**")
    await bench.define("first", "custom.x")
    async with bench.routing(Functions(watch=fails, first=fails)):
        await bench.emit("custom.x", {})
        await bench.runs(2, listener="watch", status="cycle_stopped")
        await bench.define("last", "custom.last", action=Emit("custom.end"))
        await bench.emit("custom.last", {})
        await bench.events(lambda event: event.type == "custom.end")
        events = await bench.events(lambda event: event.type.startswith("system."), 3)
    assert sorted(event.type for event in events) == [
        "system.cycle_stopped",
        "system.listener_dead",
        "system.listener_dead",
    ]


async def test_a_chain_of_fifty_runs_to_its_end(bench: Bench) -> None:
    bodies: dict[str, Body] = {}
    for number in range(50):
        bodies[f"link_{number}"] = emits(f"custom.step_{number + 1}")
        await bench.define(f"link_{number}", f"custom.step_{number}")
    async with bench.routing(Functions(**bodies)):
        await bench.emit("custom.step_0", {})
        (last,) = await bench.events(lambda event: event.type == "custom.step_50")
    assert last.chain is not None
    assert last.chain.path == tuple(f"link_{number}" for number in range(50))


async def test_events_of_one_key_run_in_order_and_others_do_not_wait(bench: Bench) -> None:
    gate = asyncio.Event()
    seen: list[object] = []

    async def body(request: RunRequest) -> RunOutcome:
        data = decode_object(request.event)["data"]
        if data == ["slow", 0]:
            await gate.wait()
        seen.append(data)
        return ok(Emission("custom.done", data))

    await bench.define("ordered", "custom.x")
    async with bench.routing(Functions(ordered=body)):
        for number in range(3):
            await bench.emit("custom.x", ["slow", number], key="slow")
        await bench.emit("custom.x", ["quick", 0], key="quick")
        await bench.events(lambda event: event.body["data"] == ["quick", 0], 2)
        assert seen == [["quick", 0]]
        gate.set()
        await bench.events(lambda event: event.type == "custom.done", 4)
    assert seen[1:] == [["slow", 0], ["slow", 1], ["slow", 2]]


async def test_definitions_change_while_events_flow(bench: Bench) -> None:
    async with bench.routing(Functions(late=emits("custom.heard"))):
        await bench.define("late", "custom.x")
        # The feed is its own consumer: what is emitted before it has read is not heard.
        with anyio.fail_after(60):
            while True:
                await bench.emit("custom.x", {})
                with anyio.move_on_after(0.5):
                    await bench.events(lambda event: event.type == "custom.heard")
                    break
        await bench.delete("late")
        await bench.define("other", "custom.y", action=Emit("custom.still", "$.data"))
        with anyio.fail_after(60):
            while True:
                await bench.emit("custom.y", {"a": 1})
                with anyio.move_on_after(0.5):
                    (still,) = await bench.events(lambda event: event.type == "custom.still")
                    break
    assert still.body["data"] == {"a": 1}


async def test_a_listener_is_not_run_for_what_happened_before_it_was_applied(
    bench: Bench,
) -> None:
    old = await bench.emit("custom.x", {})
    since_ms = int(time.time() * 1_000) + 1
    await asyncio.sleep(0.01)
    await bench.define("new", "custom.x", since_ms=since_ms)
    sandbox = Functions(new=does_nothing)
    async with bench.routing(sandbox):
        new = await bench.emit("custom.x", {})
        await bench.runs(1, listener="new")
    ran_for = {event for _, event, _ in sandbox.runs}
    assert new in ran_for
    assert old not in ran_for


async def test_a_router_that_is_cut_off_repeats_only_what_it_had_not_committed(
    bench: Bench,
) -> None:
    stuck = asyncio.Event()

    async def body(request: RunRequest) -> RunOutcome:
        if decode_object(request.event)["data"] == 0 and not stuck.is_set():
            stuck.set()
            await asyncio.Event().wait()
        return ok(Emission("custom.done", decode_object(request.event)["data"]))

    await bench.define("first", "custom.x")
    await bench.define("second", "custom.x")
    sandbox = Functions(first=body, second=emits("custom.second"))
    stop, ready = asyncio.Event(), asyncio.Event()
    router = asyncio.create_task(Router(bench.cluster, sandbox).run(stop, ready.set))
    await ready.wait()
    for number in range(20):
        await bench.emit("custom.x", number)
    await bench.events(lambda event: event.type == "custom.done", 19)
    await bench.events(lambda event: event.type == "custom.second", 20)
    router.cancel()
    await asyncio.gather(router, return_exceptions=True)
    before = len(sandbox.runs)

    async with bench.routing(sandbox):
        done = await bench.events(lambda event: event.type == "custom.done", 20)
    assert sorted(str(event.body["data"]) for event in done) == sorted(map(str, range(20)))
    assert [run[0] for run in sandbox.runs[before:]] == ["first"]


async def test_a_topic_that_appears_is_routed_and_what_runs_is_not_disturbed(
    bench: Bench,
) -> None:
    gate, begun = asyncio.Event(), asyncio.Event()

    async def waits(_request: RunRequest) -> RunOutcome:
        begun.set()
        await gate.wait()
        return ok(Emission("custom.waited", 1))

    source = bench.cluster.sources[0]
    await bench.define("waits", "custom.x")
    await bench.define("row", f"db.{source}.public.t.created", action=Emit("custom.row"))
    sandbox = Functions(waits=waits)
    async with bench.routing(sandbox):
        await bench.emit("custom.x", {})
        await begun.wait()
        admin = AIOKafkaAdminClient(bootstrap_servers=bench.cluster.bootstrap)
        await admin.start()
        await admin.create_topics([NewTopic(f"{source}.public.t", 2, 1)])
        await admin.close()
        value = json.dumps({"id": "1", "type": f"db.{source}.public.t.created"}).encode()
        await bench.producer.send_and_wait(f"{source}.public.t", value, b"1")
        await bench.events(lambda event: event.type == "custom.row")
        gate.set()
        await bench.events(lambda event: event.type == "custom.waited")
    assert len(sandbox.runs) == 1


async def test_a_webhook_is_called_with_the_event_and_tried_again(bench: Bench) -> None:
    asked: list[tuple[str, JsonObject]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.split("content-length: ")[1].split("\r\n")[0])
        asked.append((head, decode_object(await reader.readexactly(length))))
        status = "500 No" if len(asked) == 1 else "204 Fine"
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        hook = Webhook(f"http://127.0.0.1:{port}/hook", headers={"x-mine": "1"})
        await bench.define("hook", "custom.x", action=hook)
        async with bench.routing(Functions()):
            event = await bench.emit("custom.x", {"a": 1})
            runs = await bench.runs(2, listener="hook")
    assert [run["status"] for run in runs] == ["failed", "ok"]
    assert "answered 500" in str(runs[0]["error"])
    assert [body["id"] for _, body in asked] == [event, event]
    keys = {head.split("idempotency-key: ")[1].split("\r\n")[0] for head, _ in asked}
    assert len(keys) == 1
    assert "x-mine: 1" in asked[0][0]


async def test_an_event_too_large_to_write_fails_the_run_and_not_the_router(bench: Bench) -> None:
    async def huge(_request: RunRequest) -> RunOutcome:
        return ok(Emission("custom.huge", "x" * (16 * 1024 * 1024)))

    await bench.define("huge", "custom.x")
    async with bench.routing(Functions(huge=huge)):
        await bench.emit("custom.x", {})
        (letter,) = await bench.values(bench.topics.dead, lambda _: True, 1)
    assert "emit a reference" in str(letter["error"])
