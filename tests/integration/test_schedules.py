"""What is to be emitted later is emitted once, though its router was killed meanwhile."""

from __future__ import annotations

import psutil
import pytest

from tests.integration.live_installation import LiveInstallation, wait_until

pytestmark = pytest.mark.integration


def test_events_emitted_later_outlive_a_killed_router_and_run_their_listener_once(
    live: LiveInstallation,
) -> None:
    live.apply(
        "plans",
        """
        # /// rowcast
        # on = "custom.plan"
        # ///
        async def main(event, g):
            await g.emit("custom.planned", 1, delay="2s")
            await g.schedule.after(3, "custom.planned", 2, name="replaced")
            await g.schedule.after(4, "custom.planned", 3, name="replaced")
            await g.schedule.after(1, "custom.planned", 4, name="cancelled")
            await g.schedule.cancel("cancelled")
            await g.schedule.at("2001-01-01", "custom.planned", 5)
            await g.schedule.after(5, "custom.planned", 6)
        """,
    )
    live.apply(
        "planned",
        """
        # /// rowcast
        # on = "custom.planned"
        # ///
        def main(event, g):
            return [event["data"], g.event_chain["path"]]
        """,
    )
    live.emit("custom.plan", {})
    live.wait_for_runs("plans")
    killed = live.status().services["router"].pid
    psutil.Process(killed).kill()
    wait_until(lambda: live.status().services["router"].pid != killed or None, "a new router")
    runs = live.wait_for_runs("planned", 4)
    events = live.wait_for_events(lambda event: event.type == "custom.planned", 4)
    for name in ("plans", "planned"):
        live.command("delete", name)
    assert sorted(str(event.body["data"]) for event in events) == ["1", "3", "5", "6"]
    assert all(run["status"] == "ok" for run in runs)
    results = sorted(str(run["result"]) for run in runs)
    assert results == [f"[{number}, ['plans']]" for number in (1, 3, 5, 6)]
