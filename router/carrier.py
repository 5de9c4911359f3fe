"""Carries one delivery to its end: attempts, waits between them, and what each leaves.

Every attempt's records are handed to the group commit; the last one's finish the delivery.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import Callable, Mapping

import httpx

from events.cluster import Cluster
from events.errors import EventsError
from events.mail import MailSender
from events.outgoing_record import OutgoingRecord
from events.run import Emission, RunOutcome, Sandbox, StateWrite
from events.traceparent import continue_trace
from router.backoff import backoff_s
from router.definition import Email, Emit, ListenerCode, Webhook
from router.delivery import (
    Delivery,
    cycle_records,
    dead_records,
    outcome_records,
    refuse_too_large,
    run_request,
)
from router.email import send_email
from router.module import Module, missing_modules
from router.state_table import StateTable
from router.template import fill_template
from router.webhook import call_webhook

_log = logging.getLogger(__name__)

Settle = Callable[[Delivery, list[OutgoingRecord], bool, tuple[StateWrite, ...]], None]
_WEBHOOKS_AT_ONCE = 64


class Carrier:
    """Runs deliveries; one of it serves all, concurrently."""

    def __init__(
        self,
        cluster: Cluster,
        sandbox: Sandbox,
        state: StateTable,
        modules: Callable[[], Mapping[str, Module]],
        mail: MailSender,
    ) -> None:
        self._topics = cluster.topics
        self._sandbox = sandbox
        self._mail = mail
        self._state = state
        self._modules = modules
        self._webhooks = asyncio.Semaphore(_WEBHOOKS_AT_ONCE)
        self._client = httpx.AsyncClient(follow_redirects=False)

    async def close(self) -> None:
        """Close connections of webhooks."""
        await self._client.aclose()

    async def carry(self, delivery: Delivery, settle: Settle) -> None:
        """Run a delivery until it ends well or is given up; `settle` takes each attempt's end."""
        if delivery.is_cycle:
            settle(delivery, cycle_records(delivery, _now_ms(), self._topics), True, ())
            return
        retry = delivery.definition.retry
        first_failed_ms = 0
        for attempt in range(1, retry.attempts + 2):
            started_ms = _now_ms()
            outcome = await self._attempt_safely(delivery, attempt)
            outcome, records = self._written(delivery, outcome, attempt, started_ms)
            if outcome.status == "ok":
                settle(delivery, records, True, outcome.state)
                return
            first_failed_ms = first_failed_ms or started_ms
            if attempt > retry.attempts:
                error = outcome.error or outcome.status
                now_ms = _now_ms()
                records += dead_records(
                    delivery, error, attempt, first_failed_ms, now_ms, self._topics
                )
                settle(delivery, records, True, ())
                return
            settle(delivery, records, False, ())
            # Jitter is no secret.
            await asyncio.sleep(backoff_s(retry, attempt, random.random()))  # noqa: S311

    async def _attempt_safely(self, delivery: Delivery, attempt: int) -> RunOutcome:
        try:
            return await self._attempt(delivery, attempt)
        except Exception as error:  # noqa: BLE001 - see below
            # A mistake of ours in one delivery must not end the routing of all the others.
            _log.exception("carrying out %s", delivery.definition.name)
            return RunOutcome("failed", 0.0, f"inside Rowcast: {error!r}")

    async def _attempt(self, delivery: Delivery, attempt: int) -> RunOutcome:
        event, definition = delivery.event, delivery.definition
        match definition.action:
            case ListenerCode(code=code):
                present = self._modules()
                if (missing := missing_modules(definition.modules, present)) is not None:
                    return RunOutcome("failed", 0.0, missing)
                state = self._state.of(definition.tenant, definition.name)
                modules = tuple((name, present[name].code) for name in definition.modules)
                request = run_request(delivery, code, attempt, state, modules)
                return await self._sandbox.run(request)
            case Webhook() as webhook:
                async with self._webhooks:
                    return await call_webhook(self._client, delivery, webhook)
            case Email() as email:
                return await send_email(self._mail, delivery, email)
            case Emit(type=event_type, data=template, key=key_template):
                key = fill_template(key_template, event.body)
                emission = Emission(
                    event_type,
                    fill_template(template, event.body),
                    None if key is None else str(key),
                )
                return RunOutcome("ok", 0.0, emissions=(emission,))

    def _written(
        self, delivery: Delivery, outcome: RunOutcome, attempt: int, started_ms: int
    ) -> tuple[RunOutcome, list[OutgoingRecord]]:
        """The records of an attempt; it has failed where they cannot be written."""
        try:
            records = self._records(delivery, outcome, attempt, started_ms)
            refusal = refuse_too_large(records)
        except (EventsError, TypeError) as error:
            # Nested deeper than JSON is written, or a channel that names nothing.
            records, refusal = [], f"what the run leaves cannot be written: {error}"
        if refusal is None:
            return outcome, records
        failed = RunOutcome("failed", outcome.duration_ms, refusal)
        return failed, self._records(delivery, failed, attempt, started_ms)

    def _records(
        self, delivery: Delivery, outcome: RunOutcome, attempt: int, started_ms: int
    ) -> list[OutgoingRecord]:
        return outcome_records(delivery, outcome, attempt, started_ms, self._topics, _span)


def _span(traceparent: str | None) -> str:
    return continue_trace(traceparent, os.urandom(24))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
