"""Custom events over HTTP, on a real Kafka."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from events.cluster import Cluster
from events.event import Event, decode_event
from events.event_schema import EventSchemas
from events.topic import Topics
from rowcast.kafka_access import follow
from tests.api.api_bench import bearer, serving

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

URL = "http://api/admin/v1/events"
SCHEMAS = EventSchemas({"custom.order": {"properties": {"n": {"type": "integer"}}}})


async def read(bootstrap: str, topic: str, count: int) -> list[Event]:
    records = follow(Cluster(bootstrap), topic_filter=(topic,), from_beginning=True)
    found: list[Event] = []
    async with asyncio.timeout(60), contextlib.aclosing(records):
        async for record in records:
            found.append(decode_event(record.value or b"", record.headers))
            if len(found) == count:
                break
    return found


async def test_the_service_emits_events_and_nobody_else(kafka_bootstrap: str) -> None:
    topics = Topics("admin")
    service = bearer("service_role", "cron")
    async with serving(kafka_bootstrap, {}, schemas=SCHEMAS, topics=topics) as client:
        one = {"type": "custom.order", "data": {"n": 1}, "key": "k"}
        made = await client.post(URL, json=[one, {"type": "custom.other"}], headers=service)
        assert made.status_code == 201
        ids = made.json()["ids"]
        for body, status, code in (
            ({"type": "db.x.y"}, 400, "RC400"),
            ({"type": 7}, 400, "RC400"),
            ({"type": "custom.x", "more": 1}, 400, "RC400"),
            ({"type": "custom.x", "key": 1}, 400, "RC400"),
            (7, 400, "RC400"),
            ([one, {"type": "custom.order", "data": {"n": "x"}}], 422, "RC422"),
        ):
            refused = await client.post(URL, json=body, headers=service)
            assert (refused.status_code, refused.json()["code"]) == (status, code)
        assert "$.n" in refused.json()["details"]
        assert (await client.post(URL, json=one)).status_code == 403
        assert (await client.get(URL, headers=service)).status_code == 405
    emitted = await read(kafka_bootstrap, topics.events, 2)
    assert {event.id for event in emitted} == set(ids)
    assert {event.type: event.body["data"] for event in emitted} == {
        "custom.order": {"n": 1},
        "custom.other": None,
    }
    calls = await read(kafka_bootstrap, topics.api, 9)
    assert {call.type for call in calls} == {"api.system.emit"}
    assert sorted(str(call.body["outcome"]) for call in calls) == [
        *["failed"] * 7,
        "ok",
        "refused",
    ]
