"""g.kv across runs, retries and routers: it changes exactly where a run ended well."""

from __future__ import annotations

import asyncio

import pytest

from events.json_codec import decode_object
from events.run import RunOutcome, RunRequest, StateWrite
from router.router import Router
from tests.router.router_bench import Bench, Functions

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


async def counts(request: RunRequest) -> RunOutcome:
    """Counts its runs; the first attempt of each event fails after it has counted."""
    count = int(request.state.get("count", b"0"))
    if decode_object(request.event)["data"] == "delete":
        return RunOutcome("ok", 1.0, result=count, state=(StateWrite("count", None),))
    status = "failed" if request.attempt == 1 else "ok"
    write = StateWrite("count", str(count + 1).encode())
    return RunOutcome(status, 1.0, result=count, state=(write,))


async def results(bench: Bench, count: int) -> list[object]:
    return [run["result"] for run in await bench.runs(count, listener="counts", status="ok")]


async def test_each_run_sees_what_the_one_before_left_and_a_failed_one_leaves_nothing(
    bench: Bench,
) -> None:
    await bench.define("counts", "custom.x")
    async with bench.routing(Functions(counts=counts)):
        for _ in range(5):
            await bench.emit("custom.x", {}, "k")
        assert await results(bench, 5) == [0, 1, 2, 3, 4]
    async with bench.routing(Functions(counts=counts)):
        await bench.emit("custom.x", {}, "k")
        await bench.emit("custom.x", "delete", "k")
        await bench.emit("custom.x", {}, "k")
        assert await results(bench, 8) == [0, 1, 2, 3, 4, 5, 6, 0]


async def test_a_router_that_is_cut_off_has_counted_what_it_committed_and_no_more(
    bench: Bench,
) -> None:
    await bench.define("counts", "custom.x")
    for _ in range(40):
        await bench.emit("custom.x", {}, "k")
    for seen in (5, 12, 20):
        router = Router(bench.cluster, Functions(counts=counts))
        routing = asyncio.create_task(router.run(asyncio.Event(), lambda: None))
        await results(bench, seen)
        routing.cancel()
        await asyncio.gather(routing, return_exceptions=True)
    async with bench.routing(Functions(counts=counts)):
        assert await results(bench, 40) == list(range(40))
