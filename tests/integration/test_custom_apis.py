"""Custom APIs as their callers have them, and what each call leaves, on a running installation."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import textwrap
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from events.chain import Chain
from events.event import Event
from events.signed_chain import sign_chain
from rowcast.installation import open_installation
from tests.integration.live_installation import LIMIT_S, LiveInstallation, json_lines, wait_until
from tests.integration.stock_clients import CLIENTS, node

pytestmark = pytest.mark.integration

INVOKE = Path(__file__).parent / "supabase" / "invoke.mjs"
CHECKOUT = """
    # /// rowcast
    # api = "checkout"
    # method = ["POST", "GET"]
    # description = "Takes an order"
    # modules = ["checkout_prices"]
    # [schema]
    # type = "object"
    # required = ["qty"]
    # properties.qty = { type = "integer", minimum = 1 }
    # properties.show = { type = "string" }
    # properties.lines = { type = "array", items.properties.price.type = "number" }
    # ///
    import checkout_prices

    OWN = {"X-Kind": ["a", "b"], "Access-Control-Expose-Headers": "x-kind"}

    async def main(request, g):
        asked = request["body"] or request["query"]
        shows = {
            "headers": {"status": 200, "body": request["headers"]},
            "text": {"status": 200, "headers": OWN, "body": "plain"},
            "bytes": {"status": 200, "body": "AAEC", "base64": True},
            "teapot": {"status": 418, "body": {"code": "TEA", "message": "short and stout"}},
        }
        if asked.get("show") in shows:
            return shows[asked["show"]]
        await g.emit("custom.checked_out", {"qty": asked["qty"]}, key="k")
        await g.schedule.after("1d", "custom.checkout_asked", {"qty": asked["qty"]})
        seen = await g.kv.get("seen", 0) + 1
        await g.kv.set("seen", seen)
        await g.db("shop").execute(
            "insert into order_audit (order_id, new_status, event_id) values (88, 'asked', $1)",
            request["id"],
        )
        return {
            "price": checkout_prices.PRICE * asked["qty"],
            "seen": seen,
            "path": request["path"],
            "caller": request["caller"]["role"],
            "chain": g.event_chain["path"],
        }
"""
MODULE = """
    # /// rowcast
    # module = "checkout_prices"
    # ///
    PRICE = 7
"""
HOSTILE = """
    # /// rowcast
    # api = "hostile"
    # role = "anon"
    # timeout_s = 3
    # cpu_s = 1
    # ///
    import asyncio, os

    async def main(request, g):
        await g.emit("custom.hostile", request["body"])
        match request["body"]:
            case "split": return {"status": 200, "headers": {"x": "a\\r\\nset-cookie: b"}}
            case "name": return {"status": 200, "headers": {"x y": "a"}}
            case "length": return {"status": 200, "headers": {"Content-Length": "5"}}
            case "status": return {"status": 99}
            case "base64": return {"status": 200, "body": "?", "base64": True}
            case "nan": return float("nan")
            case "object": return object()
            case "large": return "x" * 2_000_000
            case "raise": raise RuntimeError("the password is hunter2")
            case "exit": os._exit(1)
            case "recurse": return (lambda f: f(f))(lambda f: f(f))
            case "sleep": await asyncio.sleep(60)
            case "spin":
                while True: pass
            case other: return {"status": "fine", "body": other}
"""
SLOW = """
    # /// rowcast
    # api = "slow_api"
    # role = "anon"
    # reuse = true
    # ///
    import asyncio

    async def main(request, g):
        await asyncio.sleep(1.5)
"""
CALLED = """
    # /// rowcast
    # after = "api.custom.checkout.*"
    # where = { outcome = ["ok"] }
    # ///
    def main(event, g):
        return event["parameters"]
"""
CHECKED_OUT = """
    # /// rowcast
    # on = "custom.checked_out"
    # ///
    def main(event, g):
        return 1
"""
TOLD = """
    # /// rowcast
    # api = "told_api"
    # bodies = "both"
    # redact = ["$.card.number", "$..pin", "parameters.code", "headers.x-tenant"]
    # body_kb = 1
    # ///
    def main(request, g):
        asked = request["body"]
        return {"status": 201, "headers": {"x-tenant": "t-secret"},
                "body": {"card": asked["card"], "pin": asked["pin"], "more": "m" * asked["more"]}}
"""
DEFINITIONS = {
    "checkout_prices": MODULE,
    "checkout": CHECKOUT,
    "hostile": HOSTILE,
    "told_api": TOLD,
    "slow_api": SLOW,
    "checkout_seen": CALLED,
    "checked_out_seen": CHECKED_OUT,
}


def url(live: LiveInstallation, name: str = "") -> str:
    return f"http://127.0.0.1:{live.port_base}/functions/v1/{name}"


def served(live: LiveInstallation, name: str) -> None:
    """Wait until the HTTP service knows a custom API that was just applied."""
    wait_until(
        lambda: httpx.options(url(live, name)).headers["allow"] != "OPTIONS, GET, HEAD" or None,
        f"the custom API {name}",
    )


@pytest.fixture(scope="module")
def shop(live: LiveInstallation) -> LiveInstallation:
    folder = live.folder / "test-custom-apis"
    folder.mkdir()
    for name, code in DEFINITIONS.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(code))
    live.command("apply", str(folder))
    for name in ("checkout", "hostile", "slow_api", "told_api"):
        served(live, name)
    return live


@pytest.fixture(scope="module")
def token(live: LiveInstallation) -> str:
    return live.token()


def calls(live: LiveInstallation, name: str, wanted: int) -> list[Event]:
    """The API events of a custom API."""
    return live.wait_for_events(lambda event: event.type.startswith(f"api.custom.{name}."), wanted)


def test_supabase_js_invokes(shop: LiveInstallation, token: str) -> None:
    base = f"http://127.0.0.1:{shop.port_base}"
    done = subprocess.run(
        (
            node(),
            "--input-type=module",
            "-",
            base,
            token,
            "checkout",
        ),
        input=INVOKE.read_bytes(),
        cwd=CLIENTS,
        capture_output=True,
        check=False,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, done.stderr.decode()
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)
    first = found["json"]["data"]
    assert (first["price"], first["path"], first["caller"]) == (14, "/", "authenticated")
    assert first["chain"] == []
    assert found["get"]["data"]["price"] == 21
    assert found["get"]["data"]["path"] == "/below"
    # One state for all calls, each on top of the one before.
    assert found["get"]["data"]["seen"] == first["seen"] + 1
    headers = found["headers"]["data"]
    assert headers["x-own"] == "mine"
    assert "x-client-info" in headers
    assert not {"authorization", "apikey", "cookie"} & set(headers)
    assert found["text"]["data"] == "plain"
    assert found["bytes"]["data"] == "\x00\x01\x02"
    teapot = found["teapot"]["error"]
    assert (teapot["name"], teapot["status"]) == ("FunctionsHttpError", 418)
    assert teapot["body"]["code"] == "TEA"
    invalid = found["invalid"]["error"]
    assert invalid["status"] == 422
    assert json.loads(invalid["body"]["details"])["path"] == "$.qty"
    assert found["missing"]["error"]["status"] == 404


def test_a_call_leaves_its_event_its_run_and_what_it_emitted_before_the_answer(
    shop: LiveInstallation, token: str
) -> None:
    trace = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"
    secret = open_installation(shop.folder).jwt_secret
    chain = sign_chain(Chain("root-1", ("somebody",)), secret, int(time.time() * 1_000))
    answer = httpx.get(
        url(shop, "checkout"),
        params={"qty": "5"},
        headers={"apikey": token, "traceparent": trace, "rowcast-chain": chain},
        timeout=LIMIT_S,
    )
    assert answer.json()["chain"] == ["somebody"]
    call = answer.headers["rowcast-call"]
    # What is there now was there before the answer.
    dumped = shop.command("tail", "**", "--dump", "--full").stdout
    records = [json.loads(line) for line in dumped.split("\n") if line]
    mine = [one for one in records if call in json.dumps(one)]
    by_type = {one["event"]["type"]: one for one in mine}
    event = by_type["api.custom.checkout.called"]["event"]
    assert (event["outcome"], event["status"], event["name"]) == ("ok", 200, "checkout")
    assert event["caller"]["role"] == "authenticated"
    assert event["parameters"] == {"qty": "5"}
    assert event["trace"].startswith("00-" + "ab" * 16)
    assert token not in json.dumps(mine)
    emitted = by_type["custom.checked_out"]
    assert emitted["event"]["data"] == {"qty": 5}
    assert emitted["rowcast-chain"] == {"root": "root-1", "path": ["somebody", "checkout"]}
    (run,) = [run for run in shop.runs("checkout") if call in json.dumps(run)]
    assert (run["status"], run["result"]) == ("ok", {"status": 200})
    assert "custom.checkout_asked" in shop.command("schedules").stdout
    # The row that it wrote is a change with its chain; listeners see both events.
    (row,) = shop.wait_for_events(
        lambda event: event.type.endswith("order_audit.created") and call in event.raw.decode()
    )
    assert row.chain == Chain("root-1", ("somebody", "checkout"))
    shop.wait_for_runs("checked_out_seen")
    seen = shop.wait_for_runs("checkout_seen")
    assert {"qty": "5"} in [run["result"] for run in seen]

    looping = sign_chain(Chain("root-2", ("checkout",)), secret, int(time.time() * 1_000))
    stopped = httpx.get(
        url(shop, "checkout"),
        params={"qty": "5"},
        headers={"apikey": token, "rowcast-chain": looping},
        timeout=LIMIT_S,
    )
    assert (stopped.status_code, stopped.json()["code"]) == (508, "RC508")
    assert shop.runs("checkout")[-1]["status"] == "cycle_stopped"
    shop.wait_for_events(
        lambda event: event.type == "system.cycle_stopped" and "root-2" in str(event.chain)
    )


def test_bodies_stand_in_the_event_as_the_definition_asks_without_what_it_redacts(
    shop: LiveInstallation, token: str
) -> None:
    keys = {"apikey": token, "x-tenant": "t-secret"}
    sent = {"card": {"number": "n-secret", "kind": "gold"}, "pin": "p-secret", "more": 1}
    answers = [
        httpx.post(url(shop, "told_api?code=c-secret"), json=asked, headers=keys, timeout=LIMIT_S)
        for asked in (sent, {**sent, "more": 2_000})
    ]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json() == {**sent, "more": "m"}
    by_call = {event.id: event.body for event in calls(shop, "told_api", 2)}
    short, long = (by_call[answer.headers["rowcast-call"]] for answer in answers)
    assert "-secret" not in str(short) + str(long)
    assert short["parameters"] == {"code": "[redacted]"}
    redacted = {"card": {"number": "[redacted]", "kind": "gold"}, "pin": "[redacted]"}
    request: Any = short["request"]
    response: Any = short["response"]
    assert request["body"] == {**redacted, "more": 1}
    assert response["body"] == {**redacted, "more": "m"}
    for one in (request, response):
        assert one["headers"]["x-tenant"] == "[redacted]"
        assert one["cut"] is False
    assert request["headers"]["apikey"] == "[redacted]"
    response = long["response"]
    assert (response["cut"], response["bytes"] > 2_000) == (True, True)
    assert len(response["body"]) == 1_024


def test_a_path_with_a_line_break_is_a_call_as_any_other(
    shop: LiveInstallation, token: str
) -> None:
    answers = [
        httpx.get(f"http://127.0.0.1:{shop.port_base}{path}a%0ab", headers={"apikey": token})
        for path in ("/rest/v1/", "/functions/v1/", "/third-party/", "/admin/v1/")
    ]
    assert [answer.status_code for answer in answers] == [404, 404, 404, 403]
    assert all(set(answer.json()) >= {"code", "message"} for answer in answers)
    wanted = {answer.headers["rowcast-call"] for answer in answers}
    shop.wait_for_events(lambda event: event.id in wanted, len(wanted))


def test_what_may_not_be_called_so_is_refused_with_the_reason(
    shop: LiveInstallation, token: str
) -> None:
    keys = {"apikey": token}
    with httpx.Client(base_url=url(shop), timeout=LIMIT_S) as client:
        assert client.post("checkout", json={"qty": 1}).status_code == 401
        assert client.put("checkout", headers=keys).status_code == 405
        anon = shop.token("--role", "anon")
        assert client.post("checkout", headers={"apikey": anon}, json={}).status_code == 401
        wrong = client.post("checkout", headers={"apikey": "x.y.z"}, json={"qty": 1})
        assert (wrong.status_code, wrong.json()["code"]) == (401, "PGRST301")
        for sent, path in (
            ({"qty": "1"}, "$.qty"),
            ({}, "$"),
            ([1], "$"),
            ({"qty": 1, "lines": [{"price": 1}, {"price": "x"}]}, "$.lines[1].price"),
        ):
            answer = client.post("checkout", headers=keys, json=sent)
            assert answer.status_code == 422, answer.text
            assert json.loads(answer.json()["details"])["path"] == path
        assert client.get("checkout?qty=one", headers=keys).status_code == 422
        bad = client.post(
            "checkout", headers={**keys, "content-type": "application/json"}, content=b"{"
        )
        assert (bad.status_code, bad.json()["code"]) == (400, "PGRST102")
        deep = client.post(
            "checkout",
            headers={**keys, "content-type": "application/json"},
            content=b'{"qty":1,"deep":' + b"[" * 400 + b"]" * 400 + b"}",
        )
        assert (deep.status_code, deep.json()["code"]) == (400, "PGRST102")
        assert client.post("checkout", headers=keys).status_code == 422
        large = client.post("checkout", headers=keys, content=b'"' + b"x" * 11_000_000 + b'"')
        assert (large.status_code, large.json()["code"]) == (413, "RC413")
        asked = client.options("checkout", headers={"origin": "https://app.example"})
        assert asked.headers["access-control-allow-origin"] == "*"
        shown = client.get(
            "checkout?qty=1&show=text", headers={**keys, "origin": "https://app.example"}
        )
        assert shown.headers.get_list("x-kind") == ["a", "b"]
        assert shown.headers.get_list("access-control-expose-headers") == ["x-kind"]
        assert shown.headers["access-control-allow-origin"] == "*"
        described = client.get("", headers=keys).json()
        parameters = described["paths"]["/checkout"]["get"]["parameters"]
        assert {key: parameters[0][key] for key in ("name", "in", "required")} == {
            "name": "qty",
            "in": "query",
            "required": True,
        }
        assert "/checkout" not in client.get("").json()["paths"]


def test_code_that_answers_nonsense_fails_takes_too_long_or_dies_is_an_error_of_its_own(
    shop: LiveInstallation,
) -> None:
    expected = dict.fromkeys(
        ("split", "name", "length", "status", "base64", "nan", "object", "large", "raise"), 500
    )
    expected |= {"exit": 500, "recurse": 500, "sleep": 504, "spin": 504, "well": 200}
    with httpx.Client(base_url=url(shop), timeout=LIMIT_S) as client:
        for body, status in expected.items():
            answer = client.post("hostile", json=body)
            assert answer.status_code == status, (body, answer.text)
            assert "hunter2" not in answer.text
            assert "set-cookie" not in answer.headers
            if status >= 500:
                assert set(answer.json()) == {"code", "message", "details", "hint"}
            else:
                assert answer.json() == {"status": "fine", "body": "well"}
    events = calls(shop, "hostile", len(expected))
    assert Counter(event.type.rsplit(".", 1)[1] for event in events) == {"failed": 13, "called": 1}
    # What a run that failed emitted is not sent.
    emitted = [
        one["data"] for one in json_lines(shop.command("tail", "custom.hostile", "--dump").stdout)
    ]
    assert emitted == ["well"]
    errors = [str(run["error"]) for run in shop.runs("hostile")]
    assert any("hunter2" in error for error in errors)
    assert any("Content-Length" in error for error in errors)


def test_more_calls_at_once_than_may_be_are_refused_and_come_again(
    shop: LiveInstallation,
) -> None:
    async def ask() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(timeout=LIMIT_S, limits=limits) as client:
            return await asyncio.gather(*(client.post(url(shop, "slow_api")) for _ in range(150)))

    answers = asyncio.run(ask())
    found = Counter(answer.status_code for answer in answers)
    assert set(found) == {200, 503}
    assert found[200] >= 128
    (refused,) = {answer.json()["code"] for answer in answers if answer.status_code == 503}
    assert refused == "RC503"
    assert httpx.post(url(shop, "slow_api"), timeout=LIMIT_S).status_code == 200


def test_a_call_that_was_answered_has_its_event_and_emission_once_whenever_the_service_is_killed(
    shop: LiveInstallation, token: str
) -> None:
    answered: list[str] = []
    over = threading.Event()

    def call() -> None:
        while not over.is_set():
            try:
                answer = httpx.post(
                    url(shop, "checkout"),
                    headers={"apikey": token},
                    json={"qty": 1_000 + len(answered)},
                    timeout=LIMIT_S,
                )
            except httpx.HTTPError:
                continue
            if answer.status_code == 200:
                answered.append(answer.headers["rowcast-call"])

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: len(answered) >= 8 or None, "answers before the kill")
        pid = shop.status().services["http"].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: len(answered) >= 16 or None, "answers after the kill")
    finally:
        over.set()
        for thread in threads:
            thread.join()
    dumped = shop.command("tail", "**", "--dump").stdout
    events = [json.loads(line) for line in dumped.split("\n") if line]
    told = Counter(
        event["call"]
        for event in events
        if event["type"] == "api.custom.checkout.called" and event["outcome"] == "ok"
    )
    emitted = Counter(
        event["cause"]["event"] for event in events if event["type"] == "custom.checked_out"
    )
    assert [told[one] for one in answered] == [1] * len(answered)
    # All of a call or nothing of it, whether it was answered or not.
    assert set(emitted.values()) == {1}
    assert set(emitted) <= set(told)
