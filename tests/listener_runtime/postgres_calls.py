"""A run's calls to a PostgreSQL source, as its listener makes them."""

from __future__ import annotations

import uuid

from events.chain import Chain
from events.json_codec import JsonObject, JsonValue
from events.run import RunRequest
from listener_runtime.host_calls import RunCalls

CHAIN = Chain("shop/0/1", ("first",))


def request(event_id: str = "", *, timeout_s: float = 30.0, listener: str = "second") -> RunRequest:
    event = event_id or uuid.uuid4().hex
    return RunRequest(uuid.uuid4().hex, listener, "", b"{}", event, CHAIN, timeout_s=timeout_s)


async def execute(calls: RunCalls, text: str, *params: JsonValue, **more: JsonValue) -> JsonValue:
    args: JsonObject = {"source": "shop", "sql": text, "params": [*params], **more}
    return await calls.call("db.execute", args)


async def fetch(
    calls: RunCalls, text: str, *params: JsonValue, **more: JsonValue
) -> list[JsonObject]:
    args: JsonObject = {"source": "shop", "sql": text, "params": [*params], **more}
    answer = await calls.call("db.fetch", args)
    assert isinstance(answer, dict)
    rows = answer["rows"]
    assert isinstance(rows, list)
    return [row for row in rows if isinstance(row, dict)]


async def fetch_one(calls: RunCalls, text: str, *params: JsonValue, **more: JsonValue) -> JsonValue:
    args: JsonObject = {"source": "shop", "sql": text, "params": [*params], **more}
    answer = await calls.call("db.fetch_one", args)
    assert isinstance(answer, dict)
    return answer["row"]


async def begin(calls: RunCalls) -> int:
    answer = await calls.call("db.begin", {"source": "shop"})
    assert isinstance(answer, dict)
    assert isinstance(answer["tx"], int)
    return answer["tx"]
