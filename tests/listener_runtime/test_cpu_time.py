"""CPU time has a limit of its own, whatever a run's time limit is."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from events.json_codec import JsonObject, JsonValue
from events.run import RunRequest
from listener_runtime.pool import SandboxPool
from listener_runtime.settings import HostSettings
from tests.listener_runtime.conftest import pool_settings
from tests.listener_runtime.sandbox_runs import request, result

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

BURN = "def main(event, g):\n    while True: pass\n"
BURN_IN_PARTS = """
import asyncio, time

async def main(event, g):
    while True:
        until = time.process_time() + 0.02
        while time.process_time() < until: pass
        await asyncio.sleep(0.02)
"""


class SlowHost:
    """A host whose every call is answered after `wait_s`."""

    def __init__(self, wait_s: float) -> None:
        self._wait_s = wait_s

    def open(self, run: RunRequest) -> SlowHost:
        assert run.listener
        return self

    async def call(self, name: str, args: JsonObject) -> JsonValue:
        await asyncio.sleep(self._wait_s)
        return {"name": name, "args": args}

    async def close(self) -> None:
        pass


@pytest.mark.parametrize("code", [BURN, BURN_IN_PARTS], ids=["at once", "in parts"])
async def test_a_run_that_burns_cpu_time_is_ended_long_before_its_time_limit(
    single: SandboxPool, code: str
) -> None:
    burning = replace(request(code, timeout_s=600), cpu_s=0.2)
    outcome = await single.run(burning)
    assert outcome.status == "timeout"
    assert "more than 0.2 s of CPU time" in str(outcome.error)
    assert "`cpu_s`" in str(outcome.error)
    assert await result(single, "def main(event, g): return 1") == 1


async def test_waiting_uses_no_cpu_time() -> None:
    code = """
    import asyncio

    async def main(event, g):
        await g.cache.get("key")
        await asyncio.sleep(0.4)
        return "waited"
    """
    pool = SandboxPool(pool_settings(1, 1), HostSettings(), SlowHost(0.4))
    await pool.start()
    try:
        outcome = await pool.run(replace(request(code, timeout_s=60), cpu_s=0.3))
    finally:
        await pool.close()
    assert outcome.status == "ok", outcome.error
    assert outcome.duration_ms > 600


async def test_runs_of_one_frame_have_the_cpu_time_of_one_each(single: SandboxPool) -> None:
    code = """
    import time

    def main(event, g):
        until = time.monotonic() + (600 if event == 5 else 0.05)
        while time.monotonic() < until: pass
        return event
    """
    runs = [
        replace(request(code, number, timeout_s=600), reuse=True, cpu_s=0.4) for number in range(20)
    ]
    outcomes = await asyncio.gather(*(single.run(one) for one in runs))
    assert [one.status for one in outcomes].count("ok") == 19
    assert outcomes[5].status == "timeout"
