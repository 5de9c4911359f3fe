"""Chains of any depth, and cycles that stop."""

from __future__ import annotations

import time

import httpx
import psycopg
import pytest

from events.chain import Chain
from events.signed_chain import sign_chain
from events.token import make_token
from rowcast.installation import open_installation
from tests.integration.live_installation import LiveInstallation

pytestmark = pytest.mark.integration

LINK = """
    # /// rowcast
    # on = "custom.{on}"
    # ///
    async def main(event, g):
        await g.emit("custom.{emits}", {{"hops": event["data"]["hops"] + 1}})
"""


def test_a_chain_of_fifty_listeners_runs_to_its_end(live: LiveInstallation) -> None:
    folder = live.folder / "chain"
    folder.mkdir()
    for number in range(50):
        code = LINK.format(on=f"link_{number}", emits=f"link_{number + 1}")
        lines = [line.removeprefix("    ") for line in code.strip("\n").splitlines()]
        (folder / f"link_{number}.py").write_text("\n".join(lines) + "\n")
    live.command("apply", str(folder))
    root = live.emit("custom.link_0", {"hops": 0})
    (last,) = live.wait_for_events(lambda event: event.type == "custom.link_50")
    assert last.body["data"] == {"hops": 50}
    assert last.chain is not None
    assert last.chain.root == root
    assert last.chain.path == tuple(f"link_{number}" for number in range(50))


def test_a_cycle_of_three_listeners_is_stopped_and_said(live: LiveInstallation) -> None:
    for on, emits in (("red", "green"), ("green", "blue"), ("blue", "red")):
        live.apply(f"on_{on}", LINK.format(on=on, emits=emits))
    root = live.emit("custom.red", {"hops": 0})
    (stopped,) = live.wait_for_events(
        lambda event: event.type == "system.cycle_stopped" and root in str(event.chain)
    )
    assert stopped.chain is not None
    assert stopped.chain.root == root
    runs = [run for run in live.wait_for_runs("on_red", 2) if run["status"] == "cycle_stopped"]
    assert len(runs) == 1
    reds = live.wait_for_events(lambda event: event.type == "custom.red", 2)
    # They may stand in two partitions, which are read in any order.
    hops = sorted(str(event.body["data"]) for event in reds)
    assert hops == [str({"hops": 0}), str({"hops": 3})]
    assert [run["status"] for run in live.runs("on_green")] == ["ok"]
    assert [run["status"] for run in live.runs("on_blue")] == ["ok"]


def test_a_listener_that_changes_the_row_it_listens_to_does_not_loop(
    live: LiveInstallation,
) -> None:
    live.apply(
        "touch_user",
        """
        # /// rowcast
        # on = "db.shop.public.users.*"
        # ///
        async def main(event, g):
            await g.db("shop").execute(
                "update users set name = name || '!' where id = $1", event["after"]["id"]
            )
        """,
    )
    with psycopg.connect(live.status().sources["shop"].dsn) as connection:
        connection.execute("insert into users (name, email) values ('Loop', 'loop@example.com')")
    (stopped,) = live.wait_for_events(
        lambda event: event.type == "system.cycle_stopped" and "touch_user" in str(event.body)
    )
    live.command("delete", "touch_user")
    assert stopped.chain is not None
    with psycopg.connect(live.status().sources["shop"].dsn) as connection:
        row = connection.execute(
            "select name from users where email = 'loop@example.com'"
        ).fetchone()
    assert row == ("Loop!",)


def test_a_call_of_our_own_api_carries_the_chain_of_the_listener_that_made_it(
    live: LiveInstallation,
) -> None:
    installation = open_installation(live.folder)
    chain = Chain("root-over-http", ("caller",))
    signed = sign_chain(chain, installation.jwt_secret, time.time_ns() // 1_000_000)
    token = make_token(installation.jwt_secret, "service_role", "test", 60, now=time.time())
    url = f"{live.status().http}/rest/v1/users?id=eq.2"
    headers = {"authorization": f"Bearer {token}", "rowcast-chain": signed}
    answer = httpx.patch(url, json={"name": "over http"}, headers=headers)
    assert answer.status_code == 204, answer.text
    events = live.wait_for_events(lambda event: event.chain == chain, 2)
    assert sorted(event.type for event in events) == [
        "api.data.shop.users.updated",
        "db.shop.public.users.updated",
    ]
    emitted = httpx.post(
        f"{live.status().http}/admin/v1/events", json={"type": "custom.over_http"}, headers=headers
    )
    assert emitted.status_code == 201, emitted.text
    (event,) = live.wait_for_events(lambda event: event.type == "custom.over_http")
    assert event.chain == chain
    forged = httpx.patch(url, json={}, headers={**headers, "rowcast-chain": f"{signed[:-2]}xx"})
    assert forged.status_code == 400
    assert "not this installation's" in forged.json()["message"]
