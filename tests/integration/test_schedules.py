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


def test_a_listener_runs_by_the_clock_and_another_asks_for_more_of_it(
    live: LiveInstallation,
) -> None:
    live.apply(
        "clock.work",
        """
        # /// rowcast
        # schedule = "* * * * * *"
        # time_zone = "Europe/Berlin"
        # ///
        async def main(event, g):
            await g.schedule.every("1s", "again", {"n": 1})
            return event["data"]["due_ms"] % 1000
        """,
    )
    live.apply(
        "again",
        """
        # /// rowcast
        # on = "schedule.again"
        # ///
        async def main(event, g):
            await g.schedule.cancel("again")
            return event["data"]["data"]
        """,
    )
    runs = live.wait_for_runs("clock.work", 2)
    again = live.wait_for_runs("again")
    said = live.command("schedules").stdout
    shown = live.command("get").stdout
    for name in ("clock.work", "again"):
        live.command("delete", name)
    assert [run["result"] for run in runs[:2]] == [0, 0]
    assert again[0]["result"] == {"n": 1}
    assert "* * * * * * (Europe/Berlin), asked for by clock.work" in said
    assert "schedule.clock-x2Ework  * * * * * * (Europe/Berlin)" in shown
