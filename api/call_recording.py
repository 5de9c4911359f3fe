"""One call's way into the journal: once, whatever becomes of the call."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Mapping

from starlette.types import Scope

from api.answer import Answer
from api.api_event import ApiCall, Outcome
from api.call_journal import CallJournal
from api.caller import Caller, CallerReader
from api.errors import ApiError, EventsUnavailableError, RefusedError
from api.read_event import TopicEvent, read_events
from events.chain import CHAIN_HEADER, Chain
from events.errors import EventFormatError
from events.event import OutgoingEvent
from events.json_codec import JsonObject
from events.signed_chain import verify_chain
from events.traceparent import continue_trace

_log = logging.getLogger(__name__)


def begin_call(scope: Scope, headers: Mapping[str, str], event_type: str) -> ApiCall:
    """What is known of a call before anything of it is read."""
    return ApiCall(
        id=f"api_{secrets.token_hex(16)}",
        type=event_type,
        method=scope["method"],
        path=scope["path"],
        begun_ms=int(time.time() * 1_000),
        traceparent=continue_trace(headers.get("traceparent"), secrets.token_bytes(24)),
    )


def _calling_chain(headers: Mapping[str, str], secret: str) -> Chain | None:
    """The chain of the listener that calls; raises ApiError for one that we did not sign."""
    signed = headers.get(CHAIN_HEADER)
    if signed is None:
        return None
    try:
        return verify_chain(signed, secret, int(time.time() * 1_000))
    except EventFormatError as error:
        raise ApiError(400, "RC400", f"{error}; leave it out") from error


def identify(
    call: ApiCall,
    scope: Scope,
    headers: Mapping[str, str],
    callers: CallerReader,
    chain_secret: str,
) -> Caller:
    """Note who calls, and in which chain; raises ApiError for a token or chain that is not ours."""
    call.chain = _calling_chain(headers, chain_secret)
    client = scope.get("client")
    caller = callers.read(headers, client[0] if client else "", now=time.time())
    call.caller = caller
    return caller


def call_failure(error: Exception, call: ApiCall) -> ApiError:
    """What the client is answered; an error of our own goes into the log."""
    if isinstance(error, ApiError):
        nobody = call.caller is None or call.caller.role == "anon"
        if error.code == "42501" and nobody:
            error.status = 401  # who says who they are may be allowed
            error.headers = (*error.headers, ("www-authenticate", "Bearer"))
        return error
    _log.error("%s %s failed", call.method, call.path, exc_info=error)
    return ApiError(
        500,
        "RC500",
        "The call failed in Rowcast itself",
        details=f"Its log tells more about the call {call.id}",
    )


def failure_outcome(failure: ApiError) -> Outcome:
    """What the event of a call that is answered with an error says."""
    if isinstance(failure, RefusedError) or failure.status in (401, 403, 503):
        return "refused"
    return "failed"


class CallRecording:
    """Sees to the event of a call; `begun_s` is time.perf_counter's at its start."""

    def __init__(self, call: ApiCall, journal: CallJournal, begun_s: float) -> None:
        self._call = call
        self._journal = journal
        self._begun_s = begun_s
        self._recorded = False
        self._told = False

    async def commit(self, answer: Answer) -> None:
        """Before a write is committed: the event must be on Kafka.

        Raises EventsUnavailableError, with which the write is rolled back.
        """
        elapsed_ms = self._elapsed_ms()
        event = self._call.event("ok", answer.status, elapsed_ms)
        refused = self._call.event("refused", 503, elapsed_ms)
        await self.tell_first()
        self._recorded = True
        await self._journal.record(event, refused)

    def event(self, status: int, outcome: Outcome, error: ApiError | None = None) -> OutgoingEvent:
        """The call's event, which the caller brings to Kafka in a transaction of its own."""
        self._recorded = True
        return self._call.event(outcome, status, self._elapsed_ms(), error=_described(error))

    def answered(self, status: int) -> None:
        """After a call that went well was answered: the event of a read goes its way.

        Likewise that of a write that was rolled back because the client asked for it.
        """
        if not self._recorded:
            self._journal.note(self._call.event("ok", status, self._elapsed_ms()))
        if self._call.telling == "after":
            for topic, event in self._reads():
                self._journal.note(event, topic)

    async def tell_first(self) -> None:
        """Before rows are answered, where they must be told of by then.

        Raises EventsUnavailableError, with which they are not answered; their events may come
        nevertheless.
        """
        if self._call.telling == "before" and not self._told:
            self._told = True
            told = [self._journal.record(event, event, topic) for topic, event in self._reads()]
            await asyncio.gather(*told)

    async def done(self, outcome: Outcome, status: int, *, wait: bool) -> None:
        """After what another server has done, which nothing takes back: before its answer."""
        event = self._call.event(outcome, status, self._elapsed_ms())
        self._recorded = True
        if wait:
            await self._journal.record_done(event)
        else:
            self._journal.note(event)

    async def failed(self, error: ApiError, outcome: Outcome, *, wait: bool) -> None:
        """Before an error is answered; the event of a write that failed is waited for."""
        if self._recorded and isinstance(error, EventsUnavailableError):
            return
        event = self._call.event(
            outcome,
            error.status,
            self._elapsed_ms(),
            error=_described(error),
            # On Kafka it says already that the call went well.
            correction=self._recorded,
        )
        if not wait or isinstance(error, EventsUnavailableError):
            self._journal.note(event)
            return
        # Without Kafka it stays among those that wait; the call failed as it did.
        with contextlib.suppress(EventsUnavailableError):
            await self._journal.record(event, event)

    def _reads(self) -> list[TopicEvent]:
        return read_events(self._call, int(time.time() * 1_000)) if self._call.reads else []

    def _elapsed_ms(self) -> float:
        return (time.perf_counter() - self._begun_s) * 1_000


def _described(error: ApiError | None) -> JsonObject | None:
    return None if error is None else {"code": error.code, "message": error.message[:2_000]}
