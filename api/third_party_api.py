"""`/third-party/<name>/<path>`: other people's APIs, called with credentials that no caller sees.

An ASGI application, as the data API's: reads who calls and what, looks the definition up, has the
call carried out, and sees to its event. What another server has done cannot be rolled back; so a
write is refused while Kafka is known to be away, and the event of one that was sent is on Kafka,
or on disk, before its answer.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, urlencode

from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

from api.answer import Answer, error_answer
from api.api_event import ApiCall
from api.call_hooks import CallHooks, HookedCall
from api.call_journal import CallJournal
from api.call_recording import (
    CallRecording,
    begin_call,
    call_failure,
    failure_outcome,
    identify,
)
from api.caller import Caller, CallerReader
from api.definition_table import DefinitionTable
from api.errors import ApiError
from api.exchange import (
    ClientGoneError,
    read_headers,
    read_request_body,
    send_answer,
    send_options,
)
from api.forwarded_headers import HeaderList, forwarded
from api.function_input import read_query
from api.path_pattern import read_path, write_path, write_query
from api.response_cache import ResponseCache
from api.settings import ApiSettings
from api.third_party_definition import ThirdParty
from api.third_party_line import PartyAnswer, PartyCall, PartyTrace, ThirdPartyLine
from api.upstream import Outbound
from api.whole_mount import WholeMount
from events.names import encode_segment

PREFIX: Final = "/third-party/"
_READING: Final = frozenset(("GET", "HEAD"))
_PARAMETERS_MAX: Final = 1_000
_GUARDS: Final = (
    # What comes from elsewhere is shown under our origin: no browser shall run it there.
    ("content-security-policy", "sandbox; default-src 'none'"),
    ("x-content-type-options", "nosniff"),
)


@dataclass(frozen=True, slots=True)
class PartySettings:
    """The definitions as they change, and who carries calls out."""

    table: DefinitionTable
    outbound: Outbound


class ThirdPartyApi:
    """Serves what is defined, to those whom the definitions name."""

    def __init__(
        self,
        callers: CallerReader,
        journal: CallJournal,
        settings: ApiSettings,
        parties: PartySettings,
        hooks: CallHooks | None = None,
    ) -> None:
        self._hooks = hooks
        self._callers = callers
        self._journal = journal
        self._settings = settings
        self._outbound = parties.outbound
        self._lines: dict[str, ThirdPartyLine] = {}
        self._definitions = parties.table
        parties.table.watch(self._take_definitions)

    def routes(self) -> list[BaseRoute]:
        """What is served."""
        return [WholeMount(PREFIX.rstrip("/"), self)]

    async def close(self) -> None:
        """End all connections."""
        await self._outbound.close()

    def _take_definitions(self) -> None:
        """What is unchanged stays in use, with its token, its rate and its circuit."""
        lines: dict[str, ThirdPartyLine] = {}
        for name, one in self._definitions.of(ThirdParty).items():
            line = self._lines.get(name)
            if line is None or line.definition != one:
                # A cache of its own: what another definition was answered is not this one's.
                line = ThirdPartyLine(one, self._settings.secrets, self._outbound, ResponseCache())
            lines[name] = line
        self._lines = lines

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One call, from its first byte to the last of its answer."""
        begun_s = time.perf_counter()
        headers = read_headers(scope)
        if scope["method"] == "OPTIONS":
            await send_options(send, b"OPTIONS, GET, HEAD, POST, PUT, PATCH, DELETE", headers)
            return
        call = begin_call(scope, headers, _type("_", "failed"))
        call.operation = "call"
        recording = CallRecording(call, self._journal, begun_s)
        trace = PartyTrace()
        try:
            answer = await self._answer(scope, receive, headers, call, trace)
        except ClientGoneError:
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets JSON
            failure = call_failure(error, call)
            answer = error_answer(failure)
            outcome = "refused" if failure.status == 429 else failure_outcome(failure)
            call.type = _type(call.name if call.name in self._lines else "_", "failed")
            _tell(call, trace)
            await recording.failed(failure, outcome, wait=call.method not in _READING)
        else:
            _tell(call, trace)
            outcome = "ok" if answer.status < 400 else "failed"
            call.type = _type(call.name, "called" if outcome == "ok" else "failed")
            await recording.done(outcome, answer.status, wait=call.method not in _READING)
        await send_answer(send, answer, headers, call.id, with_body=call.method != "HEAD")

    async def _answer(
        self,
        scope: Scope,
        receive: Receive,
        headers: dict[str, str],
        call: ApiCall,
        trace: PartyTrace,
    ) -> Answer:
        caller = identify(call, scope, headers, self._callers, self._settings.chain_secret)
        raw: bytes = scope.get("raw_path") or scope["path"].encode()
        name, slash, rest = raw.partition(b"?")[0].removeprefix(PREFIX.encode()).partition(b"/")
        await self._definitions.when_read()
        line = self._line(name, call)
        definition = line.definition
        call.name = definition.name
        query: bytes = scope["query_string"]
        policy = definition.body_policy
        call.parameters = policy.parameters(_parameters(query))
        path, query_text, segments = _place(slash + rest, query)
        if not definition.allows(caller.role):
            raise ApiError(
                403,
                "42501",
                f"The role {caller.role} may not call the third-party API {definition.name}",
                hint="Its definition names those that may in roles = [...]",
            )
        if call.method not in definition.methods:
            raise ApiError(
                405,
                "PGRST117",
                f"The third-party API {definition.name} may not be called with {call.method[:40]}",
                headers=(("allow", ", ".join(definition.methods)),),
            )
        if not line.allows_path(segments):
            raise ApiError(
                403,
                "RC403",
                f"This path of the third-party API {definition.name} may not be called",
                hint="Its definition names those that may in paths = [...]",
            )
        if call.method in _READING:
            self._journal.check_read()
        else:
            self._journal.check_write()
        body = await read_request_body(receive, headers, self._settings.body_bytes_max)
        if self._hooks is not None and self._hooks.is_needed(called := _type(call.name, "called")):
            self._journal.check_kafka()
            call.type = called
            given = HookedCall(tuple(read_query(query.decode("latin-1"))), body, headers)
            hooked = await self._hooks.before(call, given)
            call.parameters = policy.parameters(dict(hooked.query))
            query_text = write_query(urlencode(hooked.query).encode())
            body, headers = hooked.body, dict(hooked.headers)
        if policy.of_request:
            call.more["request"] = policy.described(
                tuple(headers.items()), body, headers.get("content-type", "")
            )
        asked = PartyCall(
            method=call.method,
            path=path,
            query=query_text,
            headers=_sent_on(headers, definition),
            body=body,
            caller=_identity(caller),
            asked=headers.get("cache-control", ""),
            trace=call.traceparent,
            chain=call.chain,
        )
        answer = await line.call(asked, trace)
        content_type = next((value for key, value in answer.headers if key == "content-type"), None)
        if policy.of_response:
            call.more["response"] = policy.described(
                answer.headers, answer.body, content_type or ""
            )
        return _served(answer, content_type)

    def _line(self, raw_name: bytes, call: ApiCall) -> ThirdPartyLine:
        name = raw_name.decode("latin-1")
        line = self._lines.get(name)
        if line is None:
            call.name = name[:200]
            raise ApiError(
                404,
                "RC404",
                f"There is no third-party API {name[:200]!r}",
                hint="`rowcast apply` makes one of a file: docs/third-party.md",
            )
        return line


def _type(name: str, outcome: str) -> str:
    return f"api.third_party.{encode_segment(name)}.{outcome}"


def _tell(call: ApiCall, trace: PartyTrace) -> None:
    call.more["upstream"] = {
        "status": trace.status,
        "attempts": trace.attempts,
        "cached": trace.cached,
        "duration_ms": round(trace.duration_ms, 3),
    }


def _place(raw_path: bytes, raw_query: bytes) -> tuple[str, str, tuple[str, ...]]:
    """Path and query as they are sent, and the segments that patterns are for."""
    if not raw_path:
        return "", write_query(raw_query), ("",)
    try:
        segments = read_path(raw_path)
        return write_path(segments), write_query(raw_query), segments
    except ValueError as error:
        raise ApiError(
            400, "RC400", f"The address cannot be called on a third-party API: {error}"
        ) from error


def _parameters(raw_query: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(
            raw_query.decode("latin-1"), keep_blank_values=True, max_num_fields=_PARAMETERS_MAX
        )
    except ValueError as error:
        raise ApiError(400, "RC400", f"The query cannot be read: {error}") from error
    found: dict[str, str] = {}
    for name, value in pairs:
        found[name] = f"{found[name]},{value}" if name in found else value
    return found


def _sent_on(headers: Mapping[str, str], definition: ThirdParty) -> HeaderList:
    try:
        return forwarded(headers, definition.forward_headers)
    except ValueError as error:
        raise ApiError(
            400, "RC400", f"The header {error} holds a character that headers cannot carry"
        ) from error


def _identity(caller: Caller) -> str | None:
    """What tells one caller from another; None for one who has not said who they are."""
    return f"{caller.role} {caller.subject}" if caller.subject else None


def _served(answer: PartyAnswer, content_type: str | None) -> Answer:
    guarded = {name for name, _ in _GUARDS}
    headers = tuple(
        (name, value)
        for name, value in answer.headers
        if name != "content-type" and name not in guarded
    )
    return Answer(answer.status, answer.body, content_type, (*headers, *_GUARDS))
