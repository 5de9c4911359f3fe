"""A listener's small state outlives its router and forgets what failed."""

from __future__ import annotations

import psutil
import pytest

from tests.integration.live_installation import LiveInstallation, wait_until

pytestmark = pytest.mark.integration


def test_state_counts_each_event_once_across_retries_and_a_killed_router(
    live: LiveInstallation,
) -> None:
    live.apply(
        "counter",
        """
        # /// rowcast
        # on = "custom.count"
        # retry = { attempts = 2, backoff_s = 0.01 }
        # ///
        async def main(event, g):
            count = await g.kv.get("count", 0) + 1
            await g.kv.set("count", count)
            if g.attempt == 1:
                raise ValueError("not yet")
            return [count, await g.kv.list()]
        """,
    )
    live.command("emit", "custom.count", "{}", "--key", "k")
    live.command("emit", "custom.count", "{}", "--key", "k")
    live.wait_for_runs("counter", 4)
    killed = live.status().services["router"].pid
    psutil.Process(killed).kill()
    wait_until(lambda: live.status().services["router"].pid != killed or None, "a new router")
    live.command("emit", "custom.count", "{}", "--key", "k")
    runs = live.wait_for_runs("counter", 6)
    live.command("delete", "counter")
    assert [run["result"] for run in runs if run["status"] == "ok"] == [
        [1, ["count"]],
        [2, ["count"]],
        [3, ["count"]],
    ]
