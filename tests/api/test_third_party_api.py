"""Third-party APIs over HTTP, with their events on a real Kafka."""

from __future__ import annotations

import time
from typing import cast

import pytest

from api.third_party_definition import parse_third_party_file
from events.chain import Chain
from events.json_codec import JsonObject
from events.signed_chain import sign_chain
from events.topic import Topics
from tests.api.api_bench import SECRET, bearer, serving
from tests.api.test_event_api import read
from tests.api.third_party_server import ThirdPartyServer

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

URL = "http://api/third-party/pay"
TOML = """
third_party = "pay"
base_url = "URL/v1"
private = true
roles = ["authenticated"]
methods = ["GET", "POST"]
paths = ["/echo", "/echo/**", "/fails/**"]
forward_headers = ["x-wanted"]
bodies = "both"
redact = ["$.card.number", "$.headers", "$.body", "$.query", "headers.x-wanted", "parameters.token"]
[headers]
x-fixed = "ours"
[credential]
kind = "bearer"
secret = "KEY"
[retry]
attempts = 0
"""
HOSTILE = (
    *("/echo/%2e%2e/admin", "/echo/%2E%2e%2fadmin", "/echo/..%2fadmin", "/echo/..%5cadmin"),
    *("/echo/%252e%252e/admin", "/echo/..;/admin", "/echo/%2e;x=1/admin", "/echo//admin"),
    *("/echo/%00", "/echo/%0dHost:%20evil", "/echo/%ff", "/echo/%zz", "/echo/" + "a" * 5_000),
)


async def test_a_call_goes_out_as_it_may_and_is_an_event(kafka_bootstrap: str) -> None:
    topics = Topics("parties")
    async with ThirdPartyServer() as server:
        party = parse_third_party_file("pay.toml", TOML.replace("URL", server.url))
        async with serving(
            kafka_bootstrap,
            {},
            topics=topics,
            definitions=[party],
            secrets={"KEY": "the-secret-key"},
        ) as client:
            hostile = {
                "Host": "evil.example",
                "X-Forwarded-Host": "evil.example",
                "X-HTTP-Method-Override": "DELETE",
                "Cookie": "a=1",
                "Connection": "x-wanted, authorization",
                "Transfer-Encoding": "identity",
                "Proxy-Authorization": "Basic eA==",
                "Rowcast-Chain": sign_chain(Chain("e1", ("l",)), SECRET, int(time.time() * 1_000)),
                "X-Wanted": "1",
                "Idempotency-Key": "once",
            }
            made = await client.post(
                f"{URL}/echo/charges?q=1&token=t",
                json={"card": {"number": "4242424242424242"}, "total": 7},
                headers=hostile,
            )
            assert made.status_code == 200
            seen = cast("dict[str, str]", server.seen[-1]["headers"])
            assert {name: seen.get(name) for name in ("x-wanted", "x-fixed", "user-agent")} == {
                "x-wanted": "1",
                "x-fixed": "ours",
                "user-agent": "rowcast",
            }
            assert seen["authorization"] == "Bearer the-secret-key"
            assert seen["host"] == server.url.removeprefix("http://")
            assert not {"cookie", "x-forwarded-host", "rowcast-chain", "apikey"} & seen.keys()
            assert "x-http-method-override" not in seen
            assert "the-secret-key" not in f"{made.headers}{made.text}"
            assert made.headers["content-security-policy"].startswith("sandbox")
            for path in HOSTILE:
                refused = await client.get(f"{URL}{path}")
                assert (refused.status_code, refused.json()["code"]) == (400, "RC400"), path
            assert len(server.seen) == 1
            for asked, status, code in (
                (client.get(f"{URL}/guarded"), 403, "RC403"),
                (client.delete(f"{URL}/echo"), 405, "PGRST117"),
                (client.get(f"{URL}/echo", headers=bearer("anon")), 401, "42501"),
                (client.get("http://api/third-party/other/x"), 404, "RC404"),
                (client.post(f"{URL}/echo", content=b"x" * 200_000), 413, "RC413"),
                (client.get(f"{URL}/fails/1/503"), 503, None),
            ):
                answer = await asked
                assert answer.status_code == status
                assert code is None or answer.json()["code"] == code
    events = await read(kafka_bootstrap, topics.api, 7 + len(HOSTILE))
    by_id = {str(event.body["call"]): event for event in events}
    event = by_id[made.headers["rowcast-call"]]
    assert event.type == "api.third_party.pay.called"
    assert event.chain == Chain("e1", ("l",))
    body = event.body
    assert body["caller"] == {"role": "authenticated", "subject": "ada", "address": "127.0.0.1"}
    assert (body["path"], body["outcome"], body["status"]) == (
        "/third-party/pay/echo/charges",
        "ok",
        200,
    )
    assert body["parameters"] == {"q": "1", "token": "[redacted]"}
    upstream = cast("JsonObject", body["upstream"])
    assert (upstream["status"], upstream["attempts"], upstream["cached"]) == (200, 1, False)
    request = cast("JsonObject", body["request"])
    assert request["body"] == {"card": {"number": "[redacted]"}, "total": 7}
    headers = cast("JsonObject", request["headers"])
    assert (headers["authorization"], headers["x-wanted"]) == ("[redacted]", "[redacted]")
    response = cast("JsonObject", cast("JsonObject", body["response"])["body"])
    assert response["headers"] == "[redacted]"
    assert {event.type for event in events} == {
        "api.third_party.pay.called",
        "api.third_party.pay.failed",
        "api.third_party._.failed",
    }
    raw = b"".join(event.raw for event in events)
    assert not any(word in raw for word in (b"the-secret-key", b"42424242", b"token=t"))
