"""A call becomes a charge and a word to analytics, once each, though both fail at first."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from events.json_codec import JsonObject, decode_object
from rowcast.installation import open_installation
from rowcast.kafka_access import read_topic
from tests.examples.conftest import Scenarios
from tests.integration.live_installation import wait_until

pytestmark = pytest.mark.integration

ORDERS = ("B-1", "B-2", "B-3")
CREDENTIAL = b"example-payments-key"


def api_events(scenarios: Scenarios) -> list[JsonObject]:
    """All events of API calls, none of which holds the credential, as no run's record does."""
    cluster = open_installation(scenarios.folder).cluster
    calls = asyncio.run(read_topic(cluster, cluster.topics.api))
    runs = asyncio.run(read_topic(cluster, cluster.topics.runs))
    assert not [record for record in (*calls, *runs) if CREDENTIAL in (record.value or b"")]
    return [decode_object(record.value or b"") for record in calls]


def listed(scenarios: Scenarios, offset: int, path: str) -> list[JsonObject]:
    return httpx.get(f"http://127.0.0.1:{scenarios.port_base + offset}{path}", timeout=60).json()


def test_a_payment_is_charged_and_told_once(scenarios: Scenarios) -> None:
    token = scenarios.token("ada")

    def pay(order: str, amount: float = 12.5) -> httpx.Response:
        body = {"order": order, "amount": amount}
        return scenarios.call("POST", "/functions/v1/checkout", body, token)

    paid = [pay(order) for order in ORDERS]
    assert [answer.status_code for answer in paid] == [200] * len(ORDERS)
    # The button is pressed again.
    assert pay(ORDERS[0]).json() == paid[0].json()
    refused = pay("B-4", -1)
    assert refused.status_code == 422
    assert "$.amount" in refused.text
    charges = listed(scenarios, 8, "/charges")
    assert [charge["order"] for charge in charges] == [*ORDERS]
    # The analytics service is away, and so is the router for a while.
    run = scenarios.wait_for_runs("tell_analytics")[0]
    assert run["status"] == "failed"
    scenarios.kill_router()
    with scenarios.server("third-party/analytics_server.py", 9):
        wait_until(
            lambda: (
                (_answers(scenarios) and len(listed(scenarios, 9, "/events")) >= len(ORDERS))
                or None
            ),
            "analytics to be told of every order",
        )
        told = listed(scenarios, 9, "/events")
    assert sorted(str(event["order"]) for event in told) == [*ORDERS]
    calls = [
        event
        for event in api_events(scenarios)
        if event["type"] == "api.third_party.payments.called"
    ]
    upstream = [call["upstream"] for call in calls]
    attempts = [one["attempts"] for one in upstream if isinstance(one, dict)]
    # Two requests of the first call failed.
    assert attempts == [3, 1, 1, 1]
    types = [event["type"] for event in api_events(scenarios)]
    assert types.count("api.custom.checkout.called") == len(ORDERS) + 1


def _answers(scenarios: Scenarios) -> bool:
    try:
        listed(scenarios, 9, "/events")
    except httpx.TransportError:
        return False
    return True
