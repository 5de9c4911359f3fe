"""`POST /admin/v1/events`: custom events over HTTP, by the service's own role only."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import Final

from starlette.types import Receive, Scope, Send

from api.answer import JSON, Answer, error_answer
from api.api_event import ApiCall, Outcome
from api.call_hooks import CallHooks, HookedCall
from api.call_journal import CallJournal
from api.call_recording import (
    CallRecording,
    begin_call,
    call_failure,
    failure_outcome,
    identify,
)
from api.caller import CallerReader
from api.errors import ApiError, EventTooLargeError
from api.exchange import (
    ClientGoneError,
    read_headers,
    read_request_body,
    send_answer,
    send_options,
)
from api.settings import ApiSettings
from api.shortened_event import event_bytes
from events.errors import EventsError, InvalidDataError
from events.event import OutgoingEvent, make_event
from events.event_schema import EventSchemas
from events.event_type import check_custom_type
from events.json_codec import JsonObject, JsonValue, decode, encode
from events.outgoing_record import RECORD_BYTES_MAX

PATH: Final = "/admin/v1/events"
_EVENTS_MAX: Final = 1_000
_KEY_CHARS_MAX: Final = 1_000
_FIELDS: Final = frozenset(("type", "data", "key"))


@dataclass(frozen=True, slots=True)
class _Emission:
    event: OutgoingEvent
    event_type: str


class EventApi:
    """Emits what it is posted: `{"type": "custom.x", "data": ..., "key": ...}`, or an array."""

    def __init__(
        self,
        callers: CallerReader,
        journal: CallJournal,
        emitted: CallJournal,
        settings: ApiSettings,
        hooks: CallHooks | None = None,
    ) -> None:
        self._hooks = hooks
        self._callers = callers
        self._journal = journal
        self._emitted = emitted
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One call, from its first byte to the last of its answer."""
        begun_s = time.perf_counter()
        headers = read_headers(scope)
        if scope["method"] == "OPTIONS":
            await send_options(send, b"OPTIONS, POST", headers)
            return
        call = begin_call(scope, headers, "api.system.emit")
        call.operation = "emit"
        recording = CallRecording(call, self._journal, begun_s)
        try:
            answer = await self._answer(scope, receive, headers, call)
            await recording.commit(answer)
        except ClientGoneError:
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets JSON
            failure = call_failure(error, call)
            answer = error_answer(failure)
            outcome: Outcome = failure_outcome(failure)
            await recording.failed(failure, outcome, wait=True)
        await send_answer(send, answer, headers, call.id, with_body=True)

    async def _answer(
        self, scope: Scope, receive: Receive, headers: dict[str, str], call: ApiCall
    ) -> Answer:
        identify(call, scope, headers, self._callers, self._settings.chain_secret).check_service()
        if call.method != "POST":
            raise ApiError(405, "PGRST117", f"Unsupported HTTP method: {call.method[:40]}")
        self._journal.check_write()
        self._emitted.check_write()
        body = await read_request_body(receive, headers, self._settings.body_bytes_max)
        if self._hooks is not None:
            body = (await self._hooks.asked(call, HookedCall((), body, headers))).body
        emissions = _emissions(body, self._settings.schemas, call)
        call.name = ", ".join(sorted({one.event_type for one in emissions}))
        call.rows = len(emissions)
        await self._emitted.record_all([one.event for one in emissions])
        ids: list[JsonValue] = [one.event.id for one in emissions]
        return Answer(201, encode({"ids": ids}), JSON)


def _emissions(body: bytes, schemas: EventSchemas, call: ApiCall) -> list[_Emission]:
    try:
        value = decode(body)
    except ValueError as error:
        raise ApiError(400, "PGRST102", "Empty or invalid json", details=str(error)) from error
    items = value if isinstance(value, list) else [value]
    if len(items) > _EVENTS_MAX:
        raise ApiError(413, "RC413", f"found {len(items)} events, expected at most {_EVENTS_MAX}")
    return [_emission(item, schemas, call) for item in items]


def _emission(item: JsonValue, schemas: EventSchemas, call: ApiCall) -> _Emission:
    if not isinstance(item, dict) or not set(item) <= _FIELDS:
        raise _invalid('expected {"type": "custom.x", "data": ..., "key": "..."}')
    event_type, key = item.get("type"), item.get("key")
    if not isinstance(event_type, str):
        raise _invalid("expected the string `type`, which names the event: custom.<name>")
    if key is not None and (not isinstance(key, str) or len(key) > _KEY_CHARS_MAX):
        raise _invalid(f"expected a string of at most {_KEY_CHARS_MAX} characters as `key`")
    data = item.get("data")
    try:
        check_custom_type(event_type)
        schemas.check(event_type, data)
        event = make_event(
            event_id=f"ev_{secrets.token_hex(16)}",
            event_type=event_type,
            data=data,
            ts_ms=int(time.time() * 1_000),
            key=key,
            chain=call.chain,
            traceparent=call.traceparent,
        )
    except InvalidDataError as error:
        details: JsonObject = {"type": event_type, "path": error.path, "problem": error.problem}
        raise ApiError(422, "RC422", str(error), details=encode(details).decode()) from error
    except (EventsError, TypeError) as error:
        raise _invalid(str(error)) from error
    if (size := event_bytes(event)) > RECORD_BYTES_MAX:
        raise EventTooLargeError(size, f"{RECORD_BYTES_MAX}")
    return _Emission(event, event_type)


def _invalid(message: str) -> ApiError:
    return ApiError(400, "RC400", message, hint="docs/api.md, Custom events")
