"""The built-in action `webhook`: the event's JSON, sent to a URL.

Any answer of 2xx is success; anything else is a failed run, tried again as the definition says.
`Idempotency-Key` is the same at each try, so that the receiver can tell a repeat.
"""

from __future__ import annotations

import time

import httpx

from events.event_id import emitted_id
from events.run import RunOutcome
from router.definition import Webhook
from router.delivery import Delivery

_MAX_ANSWER_CHARS = 500


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
        answer = await client.request(
            webhook.method,
            webhook.url,
            content=event.raw,
            headers=headers,
            timeout=definition.timeout_s,
        )
    except httpx.TimeoutException:
        error = f"{webhook.url} did not answer within {definition.timeout_s:g} s"
        return RunOutcome("timeout", _since_ms(started), error)
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as failure:
        error = f"{webhook.url} was not reached: {failure or type(failure).__name__}"
        return RunOutcome("failed", _since_ms(started), error)
    if answer.is_success:
        return RunOutcome("ok", _since_ms(started), result=answer.status_code)
    said = answer.text[:_MAX_ANSWER_CHARS]
    error = f"{webhook.url} answered {answer.status_code}, expected 2xx: {said}"
    return RunOutcome("failed", _since_ms(started), error)


def _since_ms(started: float) -> float:
    return (time.perf_counter() - started) * 1_000
