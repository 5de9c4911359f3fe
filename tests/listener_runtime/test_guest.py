"""What a listener's code meets inside the sandbox."""

from __future__ import annotations

from dataclasses import replace

import pytest

from events.run import Emission, PushMessage, StateWrite
from listener_runtime.pool import SandboxPool
from tests.listener_runtime.sandbox_runs import request, result, run

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


async def test_main_gets_the_event_and_its_result_is_the_outcome(pool: SandboxPool) -> None:
    code = "async def main(event, g):\n    return {'twice': event['n'] * 2, 'text': 'é\\u2028'}"
    assert await result(pool, code, {"n": 21}) == {"twice": 42, "text": "é\u2028"}


async def test_main_may_be_a_plain_function_that_emits_pushes_and_logs(pool: SandboxPool) -> None:
    outcome = await run(
        pool,
        """
        def main(event, g):
            g.emit("custom.a", {"n": 1}, key=7)
            g.push("orders", [1])
            g.log("seen", n=1)
            g.log.warning("odd")
            print("printed")
            return g.secrets.get("API_KEY") == "hunter" + "22"
        """,
    )
    assert outcome.result is True
    assert outcome.emissions == (Emission("custom.a", {"n": 1}, "7"),)
    assert outcome.pushes == (PushMessage("orders", [1]),)
    assert [(line.level, line.message, line.fields) for line in outcome.logs] == [
        ("info", "seen", {"n": 1}),
        ("warning", "odd", {}),
        ("info", "printed", {}),
    ]


async def test_what_is_to_be_emitted_later_is_told_in_seconds_or_as_a_time(
    pool: SandboxPool,
) -> None:
    outcome = await run(
        pool,
        """
        from datetime import datetime, timedelta, timezone

        async def main(event, g):
            for delay in (0, 1.5, "5m", "1h30m", "1.5s250ms", timedelta(days=2)):
                g.emit("custom.after", delay=delay)
            await g.schedule.after("1d", "custom.named", [1], key="k", name="n")
            zone = timezone(timedelta(hours=2))
            for when in (1.5, "1970-01-01T00:00:02Z", "1970-01-01T00:00:02",
                         datetime(1970, 1, 1, 2, 0, 3, tzinfo=zone), datetime(1970, 1, 1, 0, 0, 4)):
                await g.schedule.at(when, "custom.at", name="gone" if when == 1.5 else None)
            await g.schedule.cancel("gone")
        """,
    )
    assert outcome.status == "ok", outcome.error
    delays = [one.delay_s for one in outcome.emissions if one.type == "custom.after"]
    times = [one.due_ms for one in outcome.emissions if one.type == "custom.at"]
    assert delays == [0, 1.5, 300, 5_400, 1.75, 172_800]
    assert times == [2_000, 2_000, 3_000, 4_000]
    assert Emission("custom.named", [1], "k", 86_400, name="n") in outcome.emissions
    assert outcome.cancelled == ("gone",)


async def test_emit_push_and_secrets_may_be_awaited(pool: SandboxPool) -> None:
    code = """
    async def main(event, g):
        await g.emit("custom.a")
        await g.push("c")
        return [g.event_chain, g.attempt, (await g.secrets.get("API_KEY"))[:3]]
    """
    assert await result(pool, code) == [{"root": "root", "path": ["before"]}, 1, "hun"]


async def test_a_mistake_is_told_with_the_lines_of_the_listener_and_no_others(
    pool: SandboxPool,
) -> None:
    outcome = await run(
        pool,
        """
        async def deeper(event):
            return event["missing"]

        async def main(event, g):
            await g.emit("custom.never")
            return await deeper(event)
        """,
        {},
    )
    assert outcome.status == "failed"
    assert outcome.emissions == ()
    assert outcome.error is not None
    assert outcome.error.splitlines() == [
        "Traceback (most recent call last):",
        '  File "listener.py", line 7, in main',
        "    return await deeper(event)",
        "           ^^^^^^^^^^^^^^^^^^^",
        '  File "listener.py", line 3, in deeper',
        '    return event["missing"]',
        "           ~~~~~^^^^^^^^^^^",
        "KeyError: 'missing'",
    ]


CANCELLED = """
import asyncio

async def main(event, g):
    asyncio.current_task().cancel()
    await asyncio.sleep(0)
"""


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def main(event, g)\n    pass", "SyntaxError: expected ':'"),
        ("x = 1", "async def main(event, g)"),
        ("def main(event, g): return {1}", "cannot hold"),
        ("def main(event, g): return float('nan')", "cannot hold"),
        ("def main(event, g): g.emit('orders.paid')", "expected custom.<name>"),
        ("def main(event, g): g.emit('custom.x', object())", "cannot hold"),
        ("def main(event, g): g.emit('custom.x', delay='5 minutes')", '"1h30m"'),
        ("def main(event, g): g.emit('custom.x', delay=True)", "found the delay True"),
        ("def main(event, g): g.emit('custom.x', delay=-1)", "found delay = -1.0 s"),
        ("def main(event, g): g.emit('custom.x', delay=float('inf'))", "cannot hold"),
        ("def main(event, g): g.schedule.at('soon', 'custom.x')", "expected ISO 8601"),
        ("def main(event, g): g.schedule.at(None, 'custom.x')", "expected a datetime"),
        ("def main(event, g): g.schedule.at(1, 'custom.x', name=' ')", "found the name"),
        ("def main(event, g): g.schedule.at(1, 'system.x')", "expected custom.<name>"),
        ("async def main(event, g): await g.kv.set('', 1)", "expected 1 to 200"),
        ("async def main(event, g): await g.kv.set('a', object())", "cannot hold"),
        ("def main(event, g): g.push('', 1)", "expected a name"),
        ("def main(event, g): return g.secrets['NONE']", "API_KEY"),
        ("async def main(event, g): await g.db('nowhere').fetch('select 1')", "nowhere"),
        ("async def main(event, g): await g.http.get('http://127.0.0.1:1/')", "allow"),
        ("def main(event, g): raise SystemExit(3)", "SystemExit: 3"),
        ("def main(event, g): raise KeyboardInterrupt", "KeyboardInterrupt"),
        (CANCELLED, "cancelled itself"),
    ],
)
async def test_what_is_wrong_is_said(pool: SandboxPool, code: str, said: str) -> None:
    outcome = await run(pool, code)
    assert outcome.status == "failed"
    assert said in str(outcome.error)


async def test_state_is_read_and_written_and_leaves_a_run_that_ends_well(
    pool: SandboxPool,
) -> None:
    code = """
    async def main(event, g):
        before = [await g.kv.get("a"), await g.kv.get("no", "default"), await g.kv.list()]
        await g.kv.set("b", {"n": [1, None]})
        await g.kv.set("null", None)
        gone = [await g.kv.delete("a"), await g.kv.delete("a")]
        after = [await g.kv.get("b"), await g.kv.get("null", 1), await g.kv.list("b")]
        if event:
            raise ValueError("no")
        return [before, gone, after]
    """
    state = {"a": b"7"}
    outcome = await pool.run(replace(request(code), state=state))
    assert outcome.result == [
        [7, "default", ["a"]],
        [True, False],
        [{"n": [1, None]}, None, ["b"]],
    ]
    assert set(outcome.state) == {
        StateWrite("b", b'{"n":[1,null]}'),
        StateWrite("null", b"null"),
        StateWrite("a", None),
    }
    failed = await pool.run(replace(request(code, {"fail": True}), state=state))
    assert (failed.status, failed.state) == ("failed", ())


async def test_the_cache_is_shared_by_runs(pool: SandboxPool) -> None:
    code = """
    async def main(event, g):
        first = await g.cache.get("user:1", "none")
        await g.cache.set("user:1", {"n": 1}, ttl="5m")
        await g.cache.set("user:2", None)
        if event:
            return [first, await g.cache.delete("user:2"), await g.cache.delete(prefix="user:")]
        return first
    """
    assert await result(pool, code) == "none"
    assert await result(pool, code, 1) == [{"n": 1}, 1, 1]
    assert await result(pool, code) == "none"


async def test_time_passes_for_asyncio(pool: SandboxPool) -> None:
    code = """
    import asyncio

    async def main(event, g):
        order = []

        async def later(name, wait_s):
            await asyncio.sleep(wait_s)
            order.append(name)

        tasks = [asyncio.create_task(later(*one)) for one in (("b", 0.02), ("a", 0.0))]
        try:
            async with asyncio.timeout(0.05):
                await asyncio.Event().wait()
        except TimeoutError:
            order.append("timeout")
        await asyncio.gather(*tasks)
        return order
    """
    assert await result(pool, code) == ["a", "b", "timeout"]


async def test_calls_that_fail_are_ordinary_exceptions_and_may_be_gathered(
    pool: SandboxPool,
) -> None:
    code = """
    import asyncio

    async def main(event, g):
        calls = [g.db("nowhere").fetch("select 1") for _ in range(20)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        return [type(answer).__name__ for answer in answers]
    """
    assert await result(pool, code) == ["HostError"] * 20


async def test_a_call_left_behind_does_not_reach_the_next_run(single: SandboxPool) -> None:
    behind = "def main(event, g):\n    g.db('nowhere')._call('db.fetch', 'select 1', ())"
    for _ in range(3):
        await result(single, behind)
        assert await result(single, "def main(event, g): return 'mine'") == "mine"
