"""`make bench-sandbox`: what the sandbox costs, beside the obvious ways to run a stranger's Python.

One process of ours on one core runs the same listener as each alternative: a new Deno with a cold
Pyodide for each run, and a new CPython process for each run (which is no sandbox at all). Prints a
table; docs/benchmarks.md holds one run of it.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil

from events.chain import Chain
from events.json_codec import encode
from events.run import RunRequest
from infra import artifacts
from listener_runtime.frames import RESET_FRAME
from listener_runtime.pool import SandboxPool
from listener_runtime.sandbox_process import STANDARD_MEMORY_MB, SandboxProcess
from listener_runtime.settings import HostSettings, PoolSettings

LISTENER = """\
async def main(event, g):
    after = event["after"]
    return {"id": after["id"], "total": after["total"]}
"""
EVENT = encode({"id": "shop/1/1", "after": {"id": 7, "total": "12.30", "status": "paid"}})
SINGLE = """\
async def main(event, g):
    for _ in range(2000):
        try:
            await g.db("none").fetch("")
        except Exception:
            pass
"""
GATHERED = """\
import asyncio

async def main(event, g):
    for _ in range(40):
        calls = [g.db("none").fetch("") for _ in range(50)]
        await asyncio.gather(*calls, return_exceptions=True)
"""
COLD = """
import { loadPyodide } from "PYODIDE/pyodide.mjs";
const pyodide = await loadPyodide({ indexURL: "PYODIDE/" });
pyodide.globals.set("text", Deno.readTextFileSync(Deno.args[0]));
await pyodide.runPythonAsync(`
import json
space = {}
exec(json.loads(text)["code"], space)
print(json.dumps(await space["main"](json.loads(text)["event"], None)))
`);
"""
SUBPROCESS = """
import asyncio, json, sys
text = json.load(sys.stdin)
space = {}
exec(text["code"], space)
print(json.dumps(asyncio.run(space["main"](text["event"], None))))
"""
_numbers = itertools.count()


def request(code: str, *, reuse: bool = False) -> RunRequest:
    """A run of a listener."""
    name = f"bench-{next(_numbers)}"
    return RunRequest(name, "bench", code, EVENT, name, Chain(name), timeout_s=60, reuse=reuse)


def settings() -> PoolSettings:
    """One process."""
    return PoolSettings(artifacts.sandbox_image(), artifacts.deno(), 1, 1)


async def runs_per_second(pool: SandboxPool, count: int, *, reuse: bool, at_once: int) -> float:
    """How many runs end in a second."""
    requests: Iterator[RunRequest] = iter([request(LISTENER, reuse=reuse) for _ in range(count)])

    async def work() -> None:
        for one in requests:
            outcome = await pool.run(one)
            if outcome.status != "ok":
                raise SystemExit(f"a run failed: {outcome.error}")

    started = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(at_once)))
    return count / (time.perf_counter() - started)


async def start_ms() -> tuple[float, float]:
    """Milliseconds from nothing to ready: best and median of nine."""
    taken: list[float] = []
    for _ in range(9):
        started = time.perf_counter()
        process = await SandboxProcess.start(
            artifacts.deno(), artifacts.sandbox_image(), STANDARD_MEMORY_MB
        )
        taken.append((time.perf_counter() - started) * 1_000)
        await process.kill()
    return min(taken), statistics.median(taken)


async def memory_mib() -> tuple[float, float]:
    """Resident set of the first process, and what a second one adds (proportional set)."""
    processes = [
        await SandboxProcess.start(artifacts.deno(), artifacts.sandbox_image(), STANDARD_MEMORY_MB)
        for _ in range(2)
    ]
    first = psutil.Process(processes[0].pid).memory_info().rss / 2**20
    further = psutil.Process(processes[1].pid).memory_full_info().pss / 2**20
    for process in processes:
        await process.kill()
    return first, further


async def reset_ms(pool: SandboxPool) -> float:
    """Milliseconds to put a process's memory and files back."""
    taken: list[float] = []
    for count in (0, 500):
        pool.idle[0].send(RESET_FRAME * count)
        started = time.perf_counter()
        await pool.run(request(LISTENER))
        taken.append((time.perf_counter() - started) * 1_000 / 500)
    return taken[1] - taken[0]


def spent_ms(command: list[str], stdin: str) -> float:
    """Milliseconds of one run of an alternative, the median of seven."""
    taken: list[float] = []
    for _ in range(7):
        started = time.perf_counter()
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
        taken.append((time.perf_counter() - started) * 1_000)
        if '"total": "12.30"' not in done.stdout:
            raise SystemExit(f"an alternative failed: {done.stderr}")
    return statistics.median(taken)


def alternatives() -> list[tuple[str, float]]:
    """Milliseconds a run of a cold Pyodide in a new Deno, and of a new CPython."""
    work = json.dumps({"code": LISTENER, "event": json.loads(EVENT)})
    pyodide = artifacts.build_directory() / "pyodide" / "node_modules" / "pyodide"
    pyodide = pyodide.resolve()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "work.json").write_text(work)
        program = place / "cold.mjs"
        program.write_text(COLD.replace("PYODIDE", str(pyodide)))
        deno = [str(artifacts.deno()), "run", "-A", "--no-config", str(program)]
        return [
            ("a new Deno, a cold Pyodide", spent_ms([*deno, str(place / "work.json")], "")),
            ("a new CPython (no sandbox)", spent_ms([sys.executable, "-c", SUBPROCESS], work)),
        ]


async def measure() -> None:
    """Run everything and print the table."""
    rows: list[tuple[str, str]] = []
    best, median = await start_ms()
    rows.append(("start to ready, best / median of 9", f"{best:.0f} / {median:.0f} ms"))
    first, further = await memory_mib()
    rows.append(("memory, first process / each further", f"{first:.0f} / {further:.0f} MiB"))
    pool = SandboxPool(settings(), HostSettings())
    await pool.start()
    try:
        await runs_per_second(pool, 300, reuse=False, at_once=1)
        pristine = await runs_per_second(pool, 2_000, reuse=False, at_once=1)
        rows.append(("pristine runs", f"{pristine:,.0f} /s ({1_000 / pristine:.1f} ms each)"))
        rows.append(("reset after a pristine run", f"{await reset_ms(pool):.2f} ms"))
        process = psutil.Process(pool.idle[0].pid)
        before = process.memory_info().rss / 2**20
        await runs_per_second(pool, 10_000, reuse=False, at_once=1)
        after = process.memory_info().rss / 2**20
        rows.append(("memory before / after 10,000 more", f"{before:.0f} / {after:.0f} MiB"))
        for at_once in (1, 64, 256):
            count = 20_000 if at_once > 1 else 3_000
            warm = await runs_per_second(pool, count, reuse=True, at_once=at_once)
            rows.append((f"warm runs, {at_once} wait at once", f"{warm:,.0f} /s"))
        for name, code in (("one by one", SINGLE), ("50 gathered", GATHERED)):
            outcome = await pool.run(replace(request(code), timeout_s=120))
            if outcome.status != "ok":
                raise SystemExit(f"host calls failed: {outcome.error}")
            rate = 2_000 / outcome.duration_ms * 1_000
            rows.append((f"host calls, {name}", f"{rate:,.0f} /s"))
    finally:
        await pool.close()
    for name, milliseconds in alternatives():
        rows.append((name, f"{1_000 / milliseconds:,.1f} /s ({milliseconds:,.0f} ms each)"))
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        sys.stdout.write(f"{name:<{width}}  {value}\n")


def main() -> None:
    """Keep to one core where the machine lets us, then measure."""
    if len(os.sched_getaffinity(0)) > 1:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    asyncio.run(measure())


if __name__ == "__main__":
    main()
