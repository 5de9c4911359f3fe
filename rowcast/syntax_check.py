"""Whether the sandbox's Python, which is newer than ours, can read a listener's code."""

from __future__ import annotations

from events.chain import Chain
from events.json_codec import encode
from events.run import RunRequest
from listener_runtime.pool import SandboxPool
from rowcast.installation import Installation
from rowcast.sandbox_settings import pool_settings

_CHECK = """\
def main(event, g):
    try:
        compile(event["code"], "listener", "exec")
    except SyntaxError as error:
        return str(error)
"""


async def check_guest_syntax(installation: Installation, code: str) -> str | None:
    """What the guest's compiler says is wrong, None where it is content."""
    pool = SandboxPool(pool_settings(installation, processes=1), installation.host_settings())
    await pool.start()
    try:
        outcome = await pool.run(
            RunRequest("check", "check", _CHECK, encode({"code": code}), "check", Chain("check"))
        )
    finally:
        await pool.close()
    if outcome.status != "ok":
        return outcome.error or outcome.status
    return outcome.result if isinstance(outcome.result, str) else None
