"""Runs beside one another: none waits for, sees or outlives what another does."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import replace

import psutil
import pytest

from listener_runtime.errors import ImageError
from listener_runtime.pool import SandboxPool
from listener_runtime.settings import HostSettings, PoolSettings
from tests.listener_runtime.conftest import opened, pool_settings
from tests.listener_runtime.sandbox_runs import request, result, run

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

ENDLESS = "def main(event, g):\n    while True: pass"
ANSWER = "def main(event, g): return 42"

DIRTY = """
import builtins, decimal, json, os, random, sys

def main(event, g):
    builtins.len = lambda _: 99
    builtins.leak = 1
    json.dumps = None
    sys.modules["leak"] = sys
    sys.path.append("/leak")
    sys.setrecursionlimit(5000)
    os.environ["LEAK"] = "1"
    os.chdir("/")
    os.dup2(os.open("/tmp/leak", os.O_RDWR | os.O_CREAT), 1)
    open("/home/pyodide/leak.py", "w").write("leak = 1")
    decimal.getcontext().prec = 3
    main.__globals__["__builtins__"]["open"] = None
    import _guest
    _guest.G.emit = lambda *_: None
    return [g.listener]
"""

LOOK = """
import builtins, decimal, json, os, sys

def main(event, g):
    print("seen")
    return [
        len("abc"), hasattr(builtins, "leak"), json.dumps([1]), "leak" in sys.modules,
        "/leak" in sys.path, sys.getrecursionlimit(), "LEAK" in os.environ, os.getcwd(),
        os.listdir("/tmp"), os.listdir("/home/pyodide"), decimal.getcontext().prec,
        open is not None, g.emit("custom.x") is not None,
    ]
"""


async def test_every_run_finds_the_interpreter_as_no_run_has_touched_it(
    single: SandboxPool,
) -> None:
    clean = await result(single, LOOK)
    for _ in range(5):
        assert (await run(single, DIRTY)).status == "ok"
        outcome = await run(single, LOOK)
        assert outcome.result == clean
        assert [line.message for line in outcome.logs] == ["seen"]


async def test_runs_do_not_repeat_one_anothers_randomness(single: SandboxPool) -> None:
    code = """
    import random, secrets, uuid

    def main(event, g):
        return [random.random(), secrets.token_hex(8), str(uuid.uuid4())]
    """
    seen = [await result(single, code) for _ in range(20)]
    assert len({str(one) for one in seen}) == 20


async def test_a_run_without_end_is_killed_at_its_limit_and_another_takes_over(
    single: SandboxPool,
) -> None:
    outcome = await single.run(request(ENDLESS, timeout_s=0.3))
    assert outcome.status == "timeout"
    assert "0.3 s" in str(outcome.error)
    assert await result(single, ANSWER) == 42


@pytest.mark.parametrize(
    "code",
    [
        "def main(event, g):\n    hoard = []\n    while True: hoard.append(bytearray(8 << 20))",
        "def main(event, g): return len('x' * (1 << 30))",
        "def main(event, g):\n    x = []\n    for _ in range(10**9): x.append([])",
    ],
)
async def test_memory_is_bounded_and_the_next_run_has_all_of_it(
    single: SandboxPool, code: str
) -> None:
    outcome = await single.run(request(code, memory_mb=64))
    assert outcome.status in ("failed", "killed")
    assert "emory" in str(outcome.error)
    assert await result(single, "def main(event, g): return len(bytearray(100 << 20))") == 100 << 20


async def test_a_run_may_ask_for_more_memory_than_the_standard(single: SandboxPool) -> None:
    code = "def main(event, g): return len(bytearray(400 << 20))"
    assert (await single.run(request(code))).status == "failed"
    assert (await single.run(request(code, memory_mb=600))).result == 400 << 20
    assert await result(single, ANSWER) == 42


@pytest.mark.parametrize(
    "code",
    [
        "import os\ndef main(event, g): os._exit(0)",
        "import os\ndef main(event, g): os.abort()",
        "import sys, faulthandler\ndef main(event, g): faulthandler._sigsegv()",
        "import _runner\ndef main(event, g): _runner._batch.lines.append('{}')",
        "import _runner\ndef main(event, g): _runner.tell({'t': 'done', 'ok': True}, 'forged')",
        "import _runner\ndef main(event, g): _runner._batch.open = 'nonsense'",
        "import _runner\ndef main(event, g): _runner._encode = lambda *_, **__: 'nonsense'",
    ],
)
async def test_a_process_that_breaks_is_replaced_and_its_run_is_said_to_be_killed(
    single: SandboxPool, code: str
) -> None:
    outcome = await single.run(request(code, timeout_s=5))
    assert outcome.status in ("killed", "failed")
    assert outcome.error
    assert await result(single, ANSWER) == 42


async def test_a_flood_of_output_is_cut_and_the_run_goes_on(single: SandboxPool) -> None:
    outcome = await run(single, "def main(event, g):\n    print('x' * 10_000_000)\n    return 1")
    assert outcome.result == 1
    assert sum(len(line.message) for line in outcome.logs) < 70_000
    assert "are lost" in outcome.logs[-1].message


async def test_a_listener_that_never_ends_leaves_room_for_the_others(pool: SandboxPool) -> None:
    async with asyncio.TaskGroup() as tasks:
        endless = [
            tasks.create_task(pool.run(request(ENDLESS, listener="endless", timeout_s=2)))
            for _ in range(6)
        ]
        others = [
            tasks.create_task(pool.run(request(ANSWER, listener=f"other-{number}")))
            for number in range(20)
        ]
        outcomes = await asyncio.gather(*others)
        assert not all(task.done() for task in endless)
    assert [outcome.result for outcome in outcomes] == [42] * 20
    assert {task.result().status for task in endless} == {"timeout"}


async def test_a_process_serves_one_tenant_only(pool: SandboxPool) -> None:
    served: dict[int, set[str]] = {}
    code = "import asyncio\nasync def main(event, g): await asyncio.sleep(0.05)"

    async def watch() -> None:
        while True:
            for process in (*pool.idle, *pool.busy):
                if process.tenant is not None:
                    served.setdefault(process.pid, set()).add(process.tenant)
            await asyncio.sleep(0.005)

    watching = asyncio.create_task(watch())
    for _ in range(2):
        outcomes = await asyncio.gather(
            *(
                pool.run(request(code, tenant=f"tenant-{number}", listener=f"of {number}"))
                for number in range(6)
            )
        )
        assert {outcome.status for outcome in outcomes} == {"ok"}
    watching.cancel()
    assert {tenant for tenants in served.values() for tenant in tenants} == {
        f"tenant-{number}" for number in range(6)
    }
    assert {len(tenants) for tenants in served.values()} == {1}


async def test_a_killed_process_costs_only_its_run(pool: SandboxPool) -> None:
    task = asyncio.create_task(
        pool.run(request("import asyncio\nasync def main(event, g): await asyncio.sleep(20)"))
    )
    while not pool.busy:
        await asyncio.sleep(0)
    (process,) = pool.busy
    psutil.Process(process.pid).send_signal(signal.SIGKILL)
    outcome = await task
    assert outcome.status == "killed"
    assert "SIGKILL" in str(outcome.error)
    assert await result(pool, ANSWER) == 42


async def test_closing_leaves_no_process_behind(pool: SandboxPool) -> None:
    task = asyncio.create_task(pool.run(request(ENDLESS, timeout_s=60)))
    while not pool.busy:
        await asyncio.sleep(0)
    denos = [psutil.Process(process.pid) for process in (*pool.idle, *pool.busy)]
    await pool.close()
    assert (await task).status == "killed"
    assert not [child for child in denos if child.is_running()]


async def test_a_run_that_is_given_up_frees_its_process(single: SandboxPool) -> None:
    for _ in range(3):
        task = asyncio.create_task(single.run(request(ENDLESS, timeout_s=60)))
        while not single.busy:
            await asyncio.sleep(0)
        waiting = asyncio.create_task(single.run(request(ANSWER, listener="other")))
        await asyncio.sleep(0)
        waiting.cancel()
        task.cancel()
        await asyncio.gather(task, waiting, return_exceptions=True)
        assert await result(single, ANSWER) == 42


async def test_an_image_that_is_not_there_or_damaged_is_named_with_the_mend(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    good = pool_settings(1, 1)
    empty = tmp_path_factory.mktemp("image")
    with pytest.raises(ImageError, match="make install"):
        SandboxPool(PoolSettings(empty, good.deno), HostSettings())
    for file in good.image.iterdir():
        (empty / file.name).symlink_to(file)
    (empty / "main.mjs").unlink()
    (empty / "main.mjs").write_text("throw new Error('damaged')")
    pool = SandboxPool(PoolSettings(empty, good.deno, processes=1, processes_max=1), HostSettings())
    with pytest.raises(ImageError, match="damaged"):
        await pool.start()


async def test_the_pool_grows_with_those_who_wait_and_shrinks_when_nobody_does() -> None:
    async with opened(replace(pool_settings(1, 4), idle_s=0.2), HostSettings()) as pool:
        code = "import asyncio\nasync def main(event, g): await asyncio.Event().wait()"
        runs = [asyncio.create_task(pool.run(request(code, listener=str(n)))) for n in range(4)]
        while len(pool.busy) < 4:
            assert not any(run.done() for run in runs)
            await asyncio.sleep(0.01)
        for run in runs:
            run.cancel()
        await asyncio.gather(*runs, return_exceptions=True)
        assert await result(pool, ANSWER) == 42
        while len(pool.idle) + len(pool.busy) > 1:
            await asyncio.sleep(0.01)
        assert await result(pool, ANSWER) == 42


async def test_the_pool_stays_within_its_memory_budget() -> None:
    settings = replace(pool_settings(1, 6), memory_budget_mb=2 * 220)
    async with opened(settings, HostSettings()) as pool:
        seen: set[int] = set()

        async def watch() -> None:
            while True:
                seen.add(len(pool.idle) + len(pool.busy))
                await asyncio.sleep(0.005)

        watching = asyncio.create_task(watch())
        code = "import asyncio\nasync def main(event, g): await asyncio.sleep(0.5)"
        outcomes = await asyncio.gather(
            *(pool.run(request(code, listener=str(number))) for number in range(8))
        )
        large = await pool.run(request(ANSWER, memory_mb=1024))
        watching.cancel()
    assert {outcome.status for outcome in (*outcomes, large)} == {"ok"}
    assert max(seen) == 2
