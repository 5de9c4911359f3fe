"""`/functions/v1/<name>`: custom APIs, each Python in the sandbox (docs/custom-apis.md).

What a call leaves is on Kafka before its answer, in one transaction: what the code emitted, the
record of its run, the API event. A service that is killed has answered nothing of it then.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from typing import Final

from starlette.types import Receive, Scope, Send

from api.answer import JSON, Answer, error_answer
from api.api_event import ApiCall
from api.body_policy import BodyPolicy
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
from api.code_calls import CodeCalls
from api.code_run import CodeRun
from api.custom_api import READING, CustomApi
from api.definition_table import DefinitionTable
from api.errors import ApiError, EffectsLostError
from api.exchange import (
    ClientGoneError,
    read_headers,
    read_request_body,
    send_answer,
    send_options,
)
from api.function_answer import IllegalAnswerError, function_answer
from api.function_input import (
    CodeBody,
    check_input,
    checked_query,
    encode_argument,
    read_query,
    visible_headers,
)
from api.function_openapi import describe_functions
from api.settings import ApiSettings
from events.event_schema import JsonSchema
from events.json_codec import JsonObject, decode, encode
from events.names import encode_segment
from events.outgoing_record import OutgoingRecord
from events.run import RunOutcome

_log = logging.getLogger(__name__)

PREFIX: Final = "/functions/v1/"


@dataclass(frozen=True, slots=True)
class _Served:
    api: CustomApi
    schema: JsonSchema | None
    bodies: BodyPolicy


class FunctionApi:
    """Serves the custom APIs of the table to whoever the reader says is calling."""

    def __init__(
        self,
        table: DefinitionTable,
        callers: CallerReader,
        journal: CallJournal,
        settings: ApiSettings,
        calls: CodeCalls,
        hooks: CallHooks,
        api_topic: str,
    ) -> None:
        self._table = table
        self._callers = callers
        self._journal = journal
        self._settings = settings
        self._calls = calls
        self._hooks = hooks
        self._api_topic = api_topic
        self._served: dict[str, _Served] = {}
        table.watch(self._follow)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One call, from its first byte to the last of its answer."""
        begun_s = time.perf_counter()
        headers = read_headers(scope)
        name, _, below = scope["path"].removeprefix(PREFIX.rstrip("/")).strip("/").partition("/")
        if scope["method"] == "OPTIONS":
            await send_options(send, self._allowed(name), headers)
            return
        call = begin_call(scope, headers, _type(name if name in self._served else "_", "failed"))
        call.operation, call.name = "call", name
        recording = CallRecording(call, self._journal, begun_s)
        try:
            answer = await self._answer(scope, receive, headers, call, f"/{below}", recording)
        except ClientGoneError:
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets JSON
            failure = call_failure(error, call)
            if call.operation == "call":
                call.type = _type(name if name in self._served else "_", "failed")
            # Of a Kafka that just failed nothing is waited for.
            wait = bool(name) and not isinstance(failure, EffectsLostError)
            await recording.failed(failure, failure_outcome(failure), wait=wait)
            answer = error_answer(failure)
            await send_answer(send, answer, headers, call.id, with_body=call.method != "HEAD")
            return
        await send_answer(send, answer, headers, call.id, with_body=call.method != "HEAD")
        recording.answered(answer.status)

    async def _answer(
        self,
        scope: Scope,
        receive: Receive,
        headers: dict[str, str],
        call: ApiCall,
        below: str,
        recording: CallRecording,
    ) -> Answer:
        identify(call, scope, headers, self._callers, self._settings.chain_secret)
        query = read_query(scope["query_string"].decode("latin-1"))
        call.parameters = dict(query)
        await self._table.when_read()
        if not call.name:
            return self._description(call, scope.get("root_path", ""))
        served = self._find(call)
        call.parameters = served.bodies.parameters(call.parameters)
        self._journal.check_kafka()
        self._calls.check()
        body = await read_request_body(receive, headers, self._settings.body_bytes_max)
        if self._hooks.is_needed(called := _type(call.name, "called")):
            call.type = called
            hooked = await self._hooks.before(call, HookedCall(tuple(query), body, headers))
            query, body, headers = list(hooked.query), hooked.body, dict(hooked.headers)
            call.parameters = served.bodies.parameters(dict(query))
        if served.bodies.of_request:
            kind = headers.get("content-type", "")
            call.more["request"] = served.bodies.described(tuple(headers.items()), body, kind)
        argument = _argument(served, call, below, query, headers, body)
        run = CodeRun(
            code=served.api,
            call_id=call.id,
            event_type=called,
            argument=argument,
            chain=call.chain,
            traceparent=call.traceparent,
            modules=self._calls.modules(served.api.modules),
        )
        return await self._run(run, call, recording, served.bodies)

    async def _run(
        self, run: CodeRun, call: ApiCall, recording: CallRecording, bodies: BodyPolicy
    ) -> Answer:
        started_ms = time.time_ns() // 1_000_000
        outcome = await self._calls.run(run)
        answer, outcome = _read_outcome(run, outcome)
        outcome, records = self._calls.left(run, outcome, started_ms)
        if outcome.status != "ok":
            failure = _failure(run, outcome)
            call.type = _type(call.name, "failed")
            event = recording.event(failure.status, "failed", failure)
        else:
            call.type = _type(call.name, "called")
            if bodies.of_response:
                call.more["response"] = bodies.described(
                    answer.headers, answer.body, answer.content_type or ""
                )
            event = recording.event(answer.status, "ok" if answer.status < 400 else "failed")
            failure = None
        await self._calls.commit(run, outcome, records, OutgoingRecord.of(event, self._api_topic))
        if failure is not None:
            return error_answer(failure)
        return answer

    def _find(self, call: ApiCall) -> _Served:
        """The API that is called; raises ApiError where there is none for this caller."""
        served = self._served.get(call.name)
        if served is None:
            known = [name for name, one in self._served.items() if _may(one, call)]
            raise ApiError(
                404,
                "RC404",
                f"There is no custom API {call.name[:200]!r}",
                hint=f"There are: {', '.join(sorted(known)) or 'none'}"[:1_000],
            )
        api = served.api
        if not _may(served, call):
            role = call.caller.role if call.caller else "anon"
            raise ApiError(
                403,
                "42501",
                f"permission denied for the custom API {api.name}",
                details=f"found the role {role}, expected {' or '.join(api.roles)}",
            )
        method = "GET" if call.method == "HEAD" else call.method
        if method not in api.methods:
            raise ApiError(
                405,
                "PGRST117",
                f"Unsupported HTTP method: {call.method[:40]}",
                headers=(("allow", self._allowed(api.name).decode()),),
            )
        return served

    def _description(self, call: ApiCall, url: str) -> Answer:
        if call.method not in ("GET", "HEAD"):
            raise ApiError(405, "PGRST117", f"Unsupported HTTP method: {call.method[:40]}")
        call.operation, call.type = "describe", "api.system.describe"
        visible = [one.api for one in self._served.values() if _may(one, call)]
        described = describe_functions(visible, url)
        return Answer(200, encode(described), "application/openapi+json; charset=utf-8")

    def _allowed(self, name: str) -> bytes:
        served = self._served.get(name)
        methods = served.api.methods if served else ("GET",)
        head = ("HEAD",) if "GET" in methods else ()
        return ", ".join(("OPTIONS", *methods, *head)).encode()

    def _follow(self) -> None:
        """Compile the schemas of what is served now, those that are new."""
        before, self._served = self._served, {}
        for name, api in self._table.of(CustomApi).items():
            known = before.get(name)
            if known is None or known.api != api:
                subject = f"the input of {name}"
                schema = None if api.schema is None else JsonSchema(subject, api.schema)
                known = _Served(api, schema, api.body_policy)
            self._served[name] = known


def _may(served: _Served, call: ApiCall) -> bool:
    return call.caller is not None and served.api.allows(call.caller.role)


def _type(name: str, verb: str) -> str:
    return f"api.custom.{encode_segment(name)}.{verb}"


def _argument(
    served: _Served,
    call: ApiCall,
    below: str,
    query: list[tuple[str, str]],
    headers: dict[str, str],
    body: bytes,
) -> bytes:
    """What `main` is given; raises ApiError where the input does not keep its schema."""
    found = CodeBody.of(body, headers.get("content-type", ""))
    parameters = checked_query(served.api, served.schema, call.method, query)
    if served.schema is not None and call.method not in READING:
        if found.is_base64:
            raise ApiError(415, "PGRST107", "Content-Type not acceptable", hint="Send JSON")
        check_input(served.schema, found.value)
    caller = call.caller
    request: JsonObject = {
        "id": call.id,
        "method": call.method,
        "path": below,
        "query": parameters,
        "headers": visible_headers(headers),
        "body": found.value,
        "base64": found.is_base64,
        "caller": None
        if caller is None
        else {**caller.described(), "claims": decode(caller.claims)},
    }
    return encode_argument(request)


def _read_outcome(run: CodeRun, outcome: RunOutcome) -> tuple[Answer, RunOutcome]:
    """The answer that a run means, and the run, failed where that cannot be sent."""
    nothing = Answer(200, b"null", JSON)
    if outcome.status != "ok":
        return nothing, outcome
    try:
        answer = function_answer(outcome.result)
        # What was answered is between the code and the caller: the run's record has the status.
        return answer, replace(outcome, result={"status": answer.status})
    except (IllegalAnswerError, TypeError) as error:
        message = f"what {run.code.name} returned is no answer: {error}"
        failed = RunOutcome("failed", outcome.duration_ms, message, logs=outcome.logs)
        return nothing, failed


def _failure(run: CodeRun, outcome: RunOutcome) -> ApiError:
    """What the client is told of a run that failed: nothing of its inside."""
    name = run.code.name
    if outcome.status == "timeout":
        return ApiError(
            504,
            "RC504",
            f"The custom API {name} took too long",
            details=f"`rowcast runs --listener {name}` tells more about the call {run.call_id}",
        )
    return ApiError(
        500,
        "RC500",
        f"The custom API {name} failed",
        details=f"`rowcast runs --listener {name}` tells more about the call {run.call_id}",
    )
