"""Which layers of confinement this machine offers, for `rowcast doctor`."""

from __future__ import annotations

import asyncio
import sys
from typing import Final

import msgspec

from listener_runtime.sandbox_command import CONFINEMENT

_LIMIT_S: Final = 20.0


async def confinement_report() -> dict[str, str]:
    """Each layer and `on`, or why it is not available; tried for real, in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", str(CONFINEMENT), "--report"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(_LIMIT_S):
        out, err = await process.communicate()
    try:
        return msgspec.json.decode(out, type=dict[str, str])
    except msgspec.DecodeError:
        return {"confinement": f"not available: {err.decode('utf-8', 'replace').strip()[-300:]}"}
