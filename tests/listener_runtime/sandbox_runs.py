"""Runs of short code, for the tests of the sandbox."""

from __future__ import annotations

import itertools
import textwrap

from events.chain import Chain
from events.json_codec import JsonValue, encode
from events.run import RunOutcome, RunRequest
from listener_runtime.pool import SandboxPool

_numbers = itertools.count(1)


def request(
    code: str,
    event: JsonValue = None,
    *,
    listener: str = "listener",
    tenant: str = "default",
    timeout_s: float = 30.0,
    memory_mb: int = 256,
    modules: dict[str, str] | None = None,
) -> RunRequest:
    number = next(_numbers)
    return RunRequest(
        run_id=f"run_{number}",
        listener=listener,
        code=textwrap.dedent(code),
        event=encode(event),
        event_id=f"ev_{number}",
        chain=Chain("root", ("before",)),
        tenant=tenant,
        timeout_s=timeout_s,
        memory_mb=memory_mb,
        modules=tuple((name, textwrap.dedent(text)) for name, text in (modules or {}).items()),
    )


async def run(pool: SandboxPool, code: str, event: JsonValue = None) -> RunOutcome:
    return await pool.run(request(code, event))


async def result(pool: SandboxPool, code: str, event: JsonValue = None) -> JsonValue:
    """What `main` returned; fails where it did not return."""
    outcome = await run(pool, code, event)
    assert outcome.status == "ok", outcome.error
    return outcome.result
