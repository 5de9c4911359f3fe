"""What one listener puts into the cache another one finds there."""

from __future__ import annotations

import pytest

from tests.integration.live_installation import LiveInstallation

pytestmark = pytest.mark.integration


def test_listeners_share_a_cache(live: LiveInstallation) -> None:
    live.apply(
        "cache_writer",
        """
        # /// rowcast
        # on = "custom.cache_write"
        # ///
        async def main(event, g):
            await g.cache.set("shared:1", event["data"], ttl="1h")
            await g.emit("custom.cache_read")
        """,
    )
    live.apply(
        "cache_reader",
        """
        # /// rowcast
        # on = "custom.cache_read"
        # ///
        async def main(event, g):
            found = await g.cache.get("shared:1")
            deleted = await g.cache.delete(prefix="shared:")
            return [found, deleted, await g.cache.get("shared:1", "none")]
        """,
    )
    live.emit("custom.cache_write", {"n": 1})
    (run,) = live.wait_for_runs("cache_reader")
    live.command("delete", "cache_writer", "cache_reader")
    assert run["result"] == [{"n": 1}, 1, "none"]
