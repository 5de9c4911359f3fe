"""Listeners that keep their interpreter: faster, never at another listener's cost."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from events.json_codec import JsonValue
from events.run import RunRequest
from listener_runtime.pool import SandboxPool
from tests.listener_runtime.sandbox_runs import request, result

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

COUNT = """
seen = []

async def main(event, g):
    seen.append(event)
    g.log("seen", n=len(seen))
    print("printed", event)
    await g.emit("custom.counted", event)
    return len(seen)
"""


def warm(code: str, event: JsonValue = None, listener: str = "warm") -> RunRequest:
    return replace(request(code, event, listener=listener, timeout_s=2), reuse=True)


async def test_a_listener_that_asks_for_it_finds_what_its_run_before_left(
    single: SandboxPool,
) -> None:
    outcomes = [await single.run(warm(COUNT, number)) for number in range(5)]
    assert [outcome.result for outcome in outcomes] == [1, 2, 3, 4, 5]


async def test_runs_that_go_together_keep_what_each_said_apart(single: SandboxPool) -> None:
    outcomes = await asyncio.gather(*(single.run(warm(COUNT, number)) for number in range(200)))
    assert sorted(int(str(outcome.result)) for outcome in outcomes) == list(range(1, 201))
    for number, outcome in enumerate(outcomes):
        assert [emission.data for emission in outcome.emissions] == [number]
        assert [line.message for line in outcome.logs] == ["seen", f"printed {number}"]


async def test_runs_that_go_together_wait_beside_each_other(single: SandboxPool) -> None:
    code = """
    import asyncio
    waiting = 0
    gate = asyncio.Event()

    async def main(event, g):
        global waiting
        waiting += 1
        if waiting == event:
            gate.set()
        await gate.wait()
        return waiting
    """
    # The first goes alone, since the process is free when it comes.
    first = asyncio.create_task(single.run(warm("def main(event, g): return 0")))
    outcomes = await asyncio.gather(*(single.run(warm(code, 20)) for _ in range(20)))
    assert [outcome.result for outcome in outcomes] == [20] * 20
    assert (await first).result == 0


async def test_another_listener_and_a_new_version_find_nothing_of_it(single: SandboxPool) -> None:
    await single.run(warm(COUNT))
    look = (
        "import builtins\ndef main(e, g): return [hasattr(builtins, 'leak'), 'seen' in globals()]"
    )
    leak = "import builtins\ndef main(event, g): builtins.leak = 1"
    await single.run(warm(leak))
    assert await result(single, look) == [False, False]
    await single.run(warm(leak))
    assert (await single.run(warm(look))).result == [False, False]
    assert (await single.run(warm(COUNT))).result == 1


async def test_one_of_them_that_raises_fails_alone(single: SandboxPool) -> None:
    code = "def main(event, g):\n    if event == 3: raise ValueError(event)\n    return event"
    outcomes = await asyncio.gather(*(single.run(warm(code, number)) for number in range(10)))
    assert [outcome.status for outcome in outcomes].count("failed") == 1
    assert "ValueError: 3" in str(outcomes[3].error)
    assert [o.result for n, o in enumerate(outcomes) if n != 3] == [0, 1, 2, 4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize(
    ("deed", "status"), [("while True: pass", "timeout"), ("__import__('os').abort()", "killed")]
)
async def test_one_of_them_that_takes_the_process_along_is_found_and_the_others_run_again(
    single: SandboxPool, deed: str, status: str
) -> None:
    code = f"def main(event, g):\n    if event == 3:\n        {deed}\n    return event"
    outcomes = await asyncio.gather(*(single.run(warm(code, number)) for number in range(6)))
    assert outcomes[3].status == status
    assert [o.result for n, o in enumerate(outcomes) if n != 3] == [0, 1, 2, 4, 5]
