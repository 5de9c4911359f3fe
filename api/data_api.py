"""`/rest/v1/...`: every captured table and collection, and functions, over HTTP.

An ASGI application, since each layer between it and the server is paid for with every call. It
reads the request, finds the source, has it answered, and sees to it that the call's event is on
Kafka: inside of the transaction of a write, right after the answer of a read.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from starlette.types import Receive, Scope, Send

from api.answer import Answer, error_answer
from api.api_event import ApiCall, Outcome, Verb, data_type
from api.body_policy import shown_parameters
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
from api.data_request import DataRequest
from api.data_source import DataSource
from api.errors import ApiError
from api.exchange import (
    ClientGoneError,
    read_headers,
    read_request_body,
    send_answer,
    send_options,
)
from api.media import choose_media, strips_nulls
from api.openapi import describe_api
from api.preferences import parse_preferences
from api.query_parser import read_parameters
from api.settings import ApiSettings
from events.json_codec import encode

_log = logging.getLogger(__name__)

PREFIX: Final = "/rest/v1/"
_READING: Final = frozenset(("GET", "HEAD"))
_WRITING: Final = frozenset(("POST", "PATCH", "PUT", "DELETE"))
_VERBS: Final[Mapping[str, Verb]] = {
    "GET": "read",
    "HEAD": "read",
    "POST": "created",
    "PATCH": "updated",
    "PUT": "updated",
    "DELETE": "deleted",
}
_OPERATIONS: Final = {
    "GET": "select",
    "HEAD": "select",
    "POST": "insert",
    "PATCH": "update",
    "PUT": "upsert",
    "DELETE": "delete",
}


def is_data_path(path: str) -> bool:
    """Whether the data API answers for a path."""
    return path.startswith(PREFIX) or path == PREFIX.rstrip("/")


class DataApi:
    """Serves the sources' tables to whoever the reader says is calling."""

    def __init__(
        self,
        sources: Sequence[DataSource],
        callers: CallerReader,
        journal: CallJournal,
        settings: ApiSettings,
        hooks: CallHooks | None = None,
    ) -> None:
        self._hooks = hooks
        self._sources = {source.name: source for source in sources}
        self._callers = callers
        self._journal = journal
        self._settings = settings
        self._hidden = frozenset(
            name for one in settings.sources.values() for name in one.bodies.hidden_parameters
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One call, from its first byte to the last of its answer."""
        begun_s = time.perf_counter()
        headers = read_headers(scope)
        method: str = scope["method"]
        path: str = scope["path"]
        if method == "OPTIONS":
            function = path.startswith(f"{PREFIX}rpc/")
            writing = b"POST" if function else b"POST, PUT, PATCH, DELETE"
            await send_options(send, b"OPTIONS, GET, HEAD, " + writing, headers)
            return
        call = begin_call(scope, headers, data_type("", "", "read"))
        call.operation = _OPERATIONS.get(method, method.lower())
        recording = CallRecording(call, self._journal, begun_s)
        outcome: Outcome = "ok"
        try:
            answer = await self._answer(scope, receive, headers, call, recording)
            await recording.tell_first()
        except ClientGoneError:
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets JSON
            failure = call_failure(error, call)
            answer = error_answer(failure)
            outcome = failure_outcome(failure)
            await recording.failed(failure, outcome, wait=method in _WRITING)
        await send_answer(send, answer, headers, call.id, with_body=method != "HEAD")
        if outcome == "ok":
            recording.answered(answer.status)

    async def _answer(
        self,
        scope: Scope,
        receive: Receive,
        headers: dict[str, str],
        call: ApiCall,
        recording: CallRecording,
    ) -> Answer:
        caller = identify(call, scope, headers, self._callers, self._settings.chain_secret)
        method = call.method
        if method not in _READING and method not in _WRITING:
            raise ApiError(405, "PGRST117", f"Unsupported HTTP method: {method[:40]}")
        name = call.path.removeprefix(PREFIX.rstrip("/")).strip("/")
        is_function = name.startswith("rpc/")
        name = name.removeprefix("rpc/")
        call.name = name
        if is_function:
            call.operation = "call"
        parameters = read_parameters(scope["query_string"].decode("latin-1"))
        # Before it is known which source is meant, what any of them hides is hidden.
        call.parameters = shown_parameters(dict(parameters), self._hidden)
        preferences = parse_preferences(headers.get("prefer", ""))
        if preferences.resolution is not None and method == "POST":
            call.operation = "upsert"
        if method in _READING:
            self._journal.check_read()
            body = b""
        else:
            self._journal.check_write()
            body = await read_request_body(receive, headers, self._settings.body_bytes_max)
        if not name:
            return await self._description(call, scope.get("root_path", "") + PREFIX.rstrip("/"))
        profile = headers.get("accept-profile" if method in _READING else "content-profile", "")
        request = DataRequest(
            method=method,
            path=call.path,
            schema="",
            name=name,
            is_function=is_function,
            parameters=tuple(parameters),
            headers=headers,
            media=choose_media(accept := headers.get("accept", "")),
            strips_nulls=strips_nulls(accept),
            preferences=preferences,
            caller=caller,
            body=body,
        )
        source, request = await self._source(request, profile)
        call.source, call.schema = source.name, request.schema or source.default_schema
        call.telling = source.telling
        verb: Verb = "called" if is_function and method == "POST" else _VERBS[method]
        call.type = data_type(source.name, name, verb)
        if self._hooks is not None:
            request = await self._hooked(self._hooks, request, call)
        return await self._carried_out(source, request, call, recording)

    async def _carried_out(
        self, source: DataSource, request: DataRequest, call: ApiCall, recording: CallRecording
    ) -> Answer:
        """The source's answer, the call's bodies told of as the source's settings ask."""
        bodies = self._settings.sources[source.name].bodies
        if bodies.of_request:
            kind = request.headers.get("content-type", "")
            given = tuple(request.headers.items())
            call.more["request"] = bodies.described(given, request.body, kind)
        if not bodies.of_response:
            return await source.answer(request, call, recording.commit)

        def describe(answer: Answer) -> None:
            call.more["response"] = bodies.described(
                answer.headers, answer.body, answer.content_type or ""
            )

        async def commit(answer: Answer) -> None:
            describe(answer)
            await recording.commit(answer)

        answer = await source.answer(request, call, commit)
        describe(answer)
        return answer

    async def _hooked(self, hooks: CallHooks, request: DataRequest, call: ApiCall) -> DataRequest:
        """The request as hooks want it; raises ApiError where they refuse it."""
        await hooks.when_known()
        if not hooks.is_needed(call.type):
            return request
        self._journal.check_kafka()
        asked = HookedCall(request.parameters, request.body, request.headers)
        hooked = await hooks.before(call, asked)
        call.parameters = shown_parameters(dict(hooked.query), self._hidden)
        return replace(request, parameters=hooked.query, body=hooked.body, headers=hooked.headers)

    async def _description(self, call: ApiCall, url: str) -> Answer:
        if call.method not in _READING or call.caller is None:
            raise ApiError(405, "PGRST117", f"Unsupported HTTP method: {call.method}")
        call.operation = "describe"
        call.type = "api.system.describe"
        found = [await source.catalogue() for source in self._sources.values()]
        described = describe_api(found, call.caller.role, url)
        return Answer(200, encode(described), "application/openapi+json; charset=utf-8")

    async def _source(self, request: DataRequest, profile: str) -> tuple[DataSource, DataRequest]:
        """Where the table is, and the request with its schema.

        The profile names a source, a schema of the first source that has it, or both with a dot;
        without one the first source that has the table is meant.
        """
        sources = tuple(self._sources.values())
        if not sources:
            raise ApiError(404, "PGRST205", "There is no source to read from")
        if not profile:
            begun_s = time.monotonic()
            for since_s in (0.0, begun_s):
                for source in sources:
                    if await source.has(request, since_s=since_s):
                        return source, request
            return sources[0], request
        if profile in self._sources:
            return self._sources[profile], request
        name, _, schema = profile.partition(".")
        if schema and name in self._sources:
            return self._sources[name], request.in_schema(schema)
        for source in sources:
            if await source.has_schema(profile):
                return source, request.in_schema(profile)
        raise ApiError(
            406,
            "PGRST106",
            f"Invalid schema: {profile[:200]}",
            hint="Only the following sources are exposed, alone or with a schema of theirs "
            f"(source.schema): {', '.join(self._sources)}",
        )
