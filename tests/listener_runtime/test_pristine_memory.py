"""Between runs a process's whole memory is, byte for byte, what it was before any."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from infra import artifacts
from listener_runtime.settings import HostSettings
from tests.listener_runtime.conftest import opened, pool_settings
from tests.listener_runtime.sandbox_runs import request, result

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

# Ends the process where memory is not what it was: its next run is killed then.
LOOK = """
  const heap = module.HEAPU8;
  for (let at = 0; at < heap.length; at += 1) {
    if (heap[at] !== (at < pristine.length ? pristine[at] : 0)) throw new Error(`changed: ${at}`);
  }
"""

RUNS = {
    "modules and globals": """
        import builtins, json, sys

        def main(event, g):
            builtins.leak = ["x" * 1000 for _ in range(1000)]
            json.dumps = None
            sys.modules["leak"] = sys
        """,
    "deep calls": """
        def depth(n): return n and depth(n - 1)

        def main(event, g):
            return depth(900) + len(repr(eval("[" * 80 + "]" * 80)))
        """,
    "a larger heap": """
        def main(event, g):
            global kept
            kept = [bytearray(b"secret" * 100_000) for _ in range(50)]
            return len(kept)
        """,
    "an error": "def main(event, g): raise ValueError('x' * 100_000)",
    "timers": """
        import asyncio

        async def main(event, g):
            for _ in range(50): asyncio.get_running_loop().create_task(asyncio.sleep(9))
            await asyncio.sleep(0.01)
        """,
}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image, with a look at all of memory after each reset."""
    copy = tmp_path_factory.mktemp("looking") / "image"
    shutil.copytree(artifacts.sandbox_image(), copy)
    main = copy / "main.mjs"
    program = main.read_text()
    for before, after in (
        ("if (!keep) reset();", f"if (!keep) {{ reset(); {LOOK} }}"),
        ("const started =", "reset();\nconst pristine = module.HEAPU8.slice();\nconst started ="),
    ):
        assert program.count(before) == 1
        program = program.replace(before, after)
    main.write_text(program)
    return copy


async def test_memory_is_put_back_byte_for_byte(image: Path) -> None:
    async with opened(replace(pool_settings(1, 1), image=image), HostSettings()) as pool:
        process = pool.idle[0].pid
        for code in RUNS.values():
            assert (await pool.run(request(code))).status in ("ok", "failed")
            assert await result(pool, "def main(event, g): return 'next'") == "next"
            assert pool.idle[0].pid == process
