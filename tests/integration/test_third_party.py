"""Third-party APIs, bodies in events and writes without Kafka, on a running installation."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import cast

import httpx
import pytest

from events.event import Event
from events.json_codec import JsonObject
from rowcast.api_examination import examine_api
from rowcast.installation import open_installation
from tests.api.third_party_server import ThirdPartyServer
from tests.integration.live_installation import LiveInstallation, Predicate, wait_until
from tests.integration.second_service import SecondService

pytestmark = pytest.mark.integration

SETTINGS = {
    "ROWCAST__CREDENTIALS__PAYMENTS_KEY": "the-secret-key",
    "ROWCAST__HTTP__WITHOUT_KAFKA": "spill",
    "ROWCAST__SOURCES__SHOP__BODIES": "both",
    "ROWCAST__SOURCES__SHOP__REDACT": '["$.total", "parameters.note"]',
}


@pytest.fixture(scope="module")
def payments() -> Iterator[ThirdPartyServer]:
    """A payment service in a thread of its own, since these tests wait by blocking."""
    server, up, stop = ThirdPartyServer(), threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with server:
            up.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert up.wait(30)
    yield server
    loop.call_soon_threadsafe(stop.set)
    thread.join(30)
    loop.close()


@pytest.fixture
def second(live: LiveInstallation, tmp_path: Path) -> Iterator[SecondService]:
    service = SecondService(live, tmp_path / "second", SETTINGS)
    service.start()
    yield service
    service.stop()


def define(live: LiveInstallation, name: str, toml: str) -> None:
    file = live.folder / f"{name}.toml"
    file.write_text(f'third_party = "{name}"\nprivate = true\n{toml}')
    live.command("apply", str(file))


def of_calls(one: Event, calls: Collection[str]) -> bool:
    """Whether it is the event of one of these calls; rows that were read have events too."""
    return one.type.startswith("api.") and one.body.get("call") in calls


def once(wanted: Predicate) -> Predicate:
    """Those that are wanted, each for the first time that it stands on Kafka."""
    seen: set[str] = set()

    def first(one: Event) -> bool:
        new = wanted(one) and one.id not in seen
        seen.add(one.id)
        return new

    return first


def test_a_listener_calls_an_api_once_however_often_it_is_run(
    live: LiveInstallation, payments: ThirdPartyServer
) -> None:
    define(live, "payments", f'base_url = "{payments.url}/v1"\n')
    live.apply(
        "charges",
        """
        # /// rowcast
        # on = "custom.charge"
        # retry = { attempts = 1, backoff_s = 0 }
        # ///
        async def main(event, g):
            payments = g.api("payments")
            made = await payments.post("/echo/charges", json={"n": 1}, params={"q": [1, 2]})
            found = await payments.request("GET", "fails/1/503", timeout_s=30)
            refused = []
            for path in ("../../admin/v1/events", "/echo/%2e%2E/x", "a/..;/b", "a%2f..%2fb"):
                try:
                    refused.append((await payments.get(path)).status)
                except Exception as error:
                    refused.append("expected one without . and .." in str(error))
            if g.attempt == 1:
                raise ValueError("charged, and then something failed")
            return [made.json(), found.status, refused]
        """,
    )
    event = live.emit("custom.charge", {})
    run = live.wait_for_runs("charges", 2)[-1]
    echoed, status, refused = cast("list[JsonObject]", run["result"])
    assert (status, refused) == (200, [True] * 4)
    assert (echoed["path"], echoed["query"]) == ("/v1/echo/charges", "q=1&q=2")
    seen = [one for one in payments.seen if one["path"] == "/v1/echo/charges"]
    keys = {cast("dict[str, str]", one["headers"])["idempotency-key"] for one in seen}
    assert (len(seen), len(keys)) == (2, 1)
    assert not any("authorization" in cast("dict[str, str]", one["headers"]) for one in seen)
    told = live.wait_for_events(
        lambda one: one.type == "api.third_party.payments.called" and one.own_chain.root == event, 4
    )
    assert {one.own_chain.path for one in told} == {("charges",)}
    caller = cast("JsonObject", told[0].body["caller"])
    assert (caller["role"], caller["subject"]) == ("service_role", "listener:charges")
    attempts = [cast("JsonObject", one.body["upstream"])["attempts"] for one in told]
    assert sorted(map(str, attempts)) == ["1", "1", "1", "2"]


def test_custom_apis_call_apis_and_hooks_are_asked_before(
    live: LiveInstallation, payments: ThirdPartyServer
) -> None:
    define(live, "shipping", f'base_url = "{payments.url}/v1"\nroles = ["anon"]\n')
    live.apply(
        "forward",
        """
        # /// rowcast
        # api = "forward"
        # role = "anon"
        # ///
        async def main(request, g):
            answer = await g.api("shipping").post("/echo/forwarded", json=request["body"])
            return answer.json()["body"]
        """,
    )
    live.apply(
        "small_parcels",
        """
        # /// rowcast
        # before = "api.third_party.shipping.called"
        # ///
        async def main(call, g):
            if call["body"] and call["body"].get("kg", 0) > 30:
                return {"refuse": {"status": 422, "message": "too heavy"}}
            return {"body": {**(call["body"] or {}), "seen": True}}
        """,
    )
    url = f"http://127.0.0.1:{live.port_base}"

    def asked(path: str, kg: int) -> httpx.Response:
        return httpx.post(f"{url}{path}", json={"kg": kg}, timeout=60)

    wait_until(lambda: asked("/third-party/shipping/echo", 31).status_code == 422 or None, "hook")
    light = asked("/third-party/shipping/echo?q=a%26b", 2)
    assert (light.status_code, light.json()["body"]) == (200, '{"kg":2,"seen":true}')
    assert light.json()["query"] == "q=a%26b"
    through = asked("/functions/v1/forward", 3)
    assert (through.status_code, through.json()) == (200, '{"kg":3,"seen":true}')
    calls = {light.headers["rowcast-call"], through.headers["rowcast-call"]}
    told = live.wait_for_events(once(lambda one: of_calls(one, calls)), 2)
    assert {one.type for one in told} == {
        "api.third_party.shipping.called",
        "api.custom.forward.called",
    }
    for name in ("small_parcels", "forward", "shipping"):
        live.command("delete", name)


def test_the_doctor_names_a_secret_that_is_missing(live: LiveInstallation) -> None:
    define(
        live,
        "unpaid",
        'base_url = "https://api.example.com"\n[credential]\nkind = "bearer"\nsecret = "NO_KEY"\n',
    )
    unsent = live.folder / "unsent" / "of-an-older-service.events"
    unsent.write_bytes(b"x" * 1_234)
    installation = open_installation(live.folder, port_base=live.port_base)
    findings = {one.subject: one for one in asyncio.run(examine_api(installation))}
    assert findings["third-party API unpaid"].severity == "error"
    assert 'NO_KEY = "..." in [credentials]' in findings["third-party API unpaid"].mend
    assert findings["events of API calls"].found.startswith("1,234 bytes")
    unsent.unlink()
    live.command("delete", "unpaid")


def test_bodies_stand_in_events_where_they_are_asked_for(
    live: LiveInstallation, second: SecondService
) -> None:
    headers = {"apikey": live.token(), "prefer": "return=representation"}
    with httpx.Client(base_url=f"{second.url}/rest/v1", headers=headers) as client:
        order = {"user_id": 1, "product_id": 2, "total": 31}
        made = client.post("/orders", json=order)
        assert made.status_code == 201
        found = client.get("/orders", params={"id": f"eq.{made.json()[0]['id']}"})
        assert [row["total"] for row in found.json()] == [31]
        hostile = client.post("/orders", content=b"[" * 100_000)
        assert hostile.status_code == 400
    calls = {one.headers["rowcast-call"] for one in (made, found, hostile)}
    events = {
        str(one.body["call"]): one.body
        for one in live.wait_for_events(lambda one: of_calls(one, calls), 3)
    }
    written = events[made.headers["rowcast-call"]]
    request = cast("JsonObject", written["request"])
    assert request["body"] == {**order, "total": "[redacted]"}
    assert cast("JsonObject", request["headers"])["apikey"] == "[redacted]"
    (row,) = cast("list[JsonObject]", cast("JsonObject", written["response"])["body"])
    assert (row["user_id"], row["total"]) == (1, "[redacted]")
    read = cast("JsonObject", events[found.headers["rowcast-call"]]["response"])
    assert cast("list[JsonObject]", read["body"])[0]["total"] == "[redacted]"
    assert events[hostile.headers["rowcast-call"]]["outcome"] == "failed"


def test_writes_without_kafka_are_accepted_and_their_events_survive_a_kill(
    live: LiveInstallation, payments: ThirdPartyServer, second: SecondService
) -> None:
    define(
        live,
        "payments",
        f'base_url = "{payments.url}/v1"\nroles = ["authenticated"]\n'
        '[credential]\nkind = "bearer"\nsecret = "PAYMENTS_KEY"\n',
    )
    headers = {"apikey": live.token()}
    service = {"apikey": live.token("--role", "service_role")}
    charges = f"{second.url}/third-party/payments/echo"
    wait_until(
        lambda: "[secret]" in httpx.get(charges, headers=headers).text or None, "the definition"
    )
    order = {"user_id": 1, "product_id": 2, "total": 32}
    calls: list[str] = []
    with live.without_kafka():
        for number in range(4):
            made = httpx.post(
                f"{second.url}/rest/v1/orders", json=order, headers=headers, timeout=30
            )
            assert made.status_code == 201, number
            calls.append(made.headers["rowcast-call"])
        charged = httpx.post(charges, json={"n": 1}, headers=headers)
        assert charged.status_code == 200
        calls.append(charged.headers["rowcast-call"])
        emitted = httpx.post(
            f"{second.url}/admin/v1/events",
            json=[{"type": "custom.spilled", "data": n, "key": "k"} for n in range(3)],
            headers=service,
            timeout=30,
        )
        assert emitted.status_code == 201
        second.kill()
        unsent = second.folder / "unsent"
        with (unsent / "events.events").open("ab") as file:
            file.write(b"0000beef {cut off by the cra")
        second.start(ready=False)
    told = live.wait_for_events(once(lambda one: of_calls(one, calls)), len(calls))
    said = second.log.read_text()
    assert "6 events that Kafka has not taken before are sent first" in said
    assert "3 events that Kafka has not taken before are sent first" in said
    assert {str(one.body["call"]) for one in told} == set(calls)
    assert {str(one.body["outcome"]) for one in told} == {"ok"}
    assert b"the-secret-key" not in b"".join(one.raw for one in told)
    custom = live.wait_for_events(once(lambda one: one.type == "custom.spilled"), 3)
    assert [one.body["data"] for one in custom] == [0, 1, 2]
    assert [one.id for one in custom] == emitted.json()["ids"]
    wait_until(
        lambda: all(file.stat().st_size == 0 for file in unsent.glob("*.events")) or None,
        "empty files",
    )
