"""The built-in action `webhook`: the event's JSON, sent to a URL.

Any answer of 2xx is success; anything else is a failed run, tried again as the definition says.
`Idempotency-Key` is the same at each try, so that the receiver can tell a repeat.
"""

from __future__ import annotations

import asyncio
import contextlib
import time

import httpx

from events.event_id import emitted_id
from events.run import RunOutcome
from router.definition import Webhook
from router.delivery import Delivery

_MAX_ANSWER_BYTES = 500
_READ_ON_S = 0.5


async def call_webhook(
    client: httpx.AsyncClient, delivery: Delivery, webhook: Webhook
) -> RunOutcome:
    """Send the event once."""
    event, definition = delivery.event, delivery.definition
    headers = {
        "content-type": "application/json",
        "user-agent": "rowcast",
        "idempotency-key": emitted_id(event.id, definition.name, 0),
        "rowcast-event-id": event.id,
        "rowcast-event-type": event.type,
        "rowcast-listener": definition.name,
        **({"traceparent": event.traceparent} if event.traceparent else {}),
        **webhook.headers,
    }
    started = time.perf_counter()
    try:
        # In all: the client's own limits begin anew with each byte of a slow answer.
        async with (
            asyncio.timeout(definition.timeout_s),
            client.stream(
                webhook.method, webhook.url, content=event.raw, headers=headers, timeout=None
            ) as answer,
        ):
            if answer.is_success:
                took_ms = _since_ms(started)
                await _read_on(answer)
                return RunOutcome("ok", took_ms, result=answer.status_code)
            error = f"{webhook.url} answered {answer.status_code}, expected 2xx"
            return RunOutcome("failed", _since_ms(started), f"{error}: {await _said(answer)}")
    except TimeoutError:
        error = f"{webhook.url} did not answer within {definition.timeout_s:g} s"
        return RunOutcome("timeout", _since_ms(started), error)
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as failure:
        error = f"{webhook.url} was not reached: {failure or type(failure).__name__}"
        return RunOutcome("failed", _since_ms(started), error)


async def _said(answer: httpx.Response) -> str:
    """The beginning of an answer, as it came: what it unpacks to may have no end."""
    start = b""
    async for part in answer.aiter_raw():
        start += part
        if len(start) >= _MAX_ANSWER_BYTES:
            break
    return start[:_MAX_ANSWER_BYTES].decode("utf-8", "replace")


async def _read_on(answer: httpx.Response) -> None:
    """Read what a success says where it is short, so that its connection can be used again."""
    with contextlib.suppress(TimeoutError, httpx.HTTPError):
        async with asyncio.timeout(_READ_ON_S):
            await _said(answer)


def _since_ms(started: float) -> float:
    return (time.perf_counter() - started) * 1_000
