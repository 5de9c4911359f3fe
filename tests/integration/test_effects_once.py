"""A run that is tried again does not do again what it has done."""

from __future__ import annotations

import psycopg
import pytest

from tests.integration.live_installation import LiveInstallation

pytestmark = pytest.mark.integration


def test_a_retry_repeats_no_write_and_what_records_that_is_no_event(
    live: LiveInstallation,
) -> None:
    live.apply(
        "writes_then_fails",
        """
        # /// rowcast
        # on = "custom.effects_once"
        # retry = { attempts = 3, backoff_s = 0.1 }
        # ///
        async def main(event, g):
            await g.db("shop").execute(
                "insert into order_audit (order_id, new_status, event_id)"
                " values (0, $1, gen_random_uuid()::text)", "once"
            )
            async with g.db("shop").transaction() as tx:
                await tx.execute(
                    "insert into order_audit (order_id, new_status, event_id)"
                    " values (0, $1, gen_random_uuid()::text)", "twice"
                )
            await g.db("docs").collection("review_history").insert({"effect": "once"})
            if g.attempt < 3:
                raise ValueError("not yet")
            history = g.db("docs").collection("review_history")
            return await history.count({"effect": "once"})
        """,
    )
    live.emit("custom.effects_once", {})
    runs = live.wait_for_runs("writes_then_fails", 3)
    live.command("delete", "writes_then_fails")
    assert [run["status"] for run in runs] == ["failed", "failed", "ok"]
    assert runs[-1]["attempt"] == 3
    with psycopg.connect(live.status().sources["shop"].dsn) as connection:
        rows = connection.execute(
            "select new_status, count(*) from order_audit where order_id = 0 group by 1 order by 1"
        ).fetchall()
    assert rows == [("once", 1), ("twice", 1)]
    lines = live.command("tail", "**", "--dump").stdout.split("\n")
    assert any("order_audit.created" in line for line in lines)
    assert not [line for line in lines if "rowcast_capture" in line or "rowcast_chain" in line]
