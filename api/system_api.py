"""`/admin/v1/...`: what the command line does, over HTTP, by the service's own role only.

An ASGI application over a table of operations, which it is given: it reads a request into an
operation's arguments, lets it be carried out, and sees to it that the call's event is on Kafka:
before the answer of what changes something, right after that of what only looks. Hooks are asked
as for other calls, but never before a definition is deleted, since a bad one could not be removed
then, nor before one looks for what is wrong, Kafka for instance, without which no hook is known.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final
from urllib.parse import unquote

import msgspec
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
from api.errors import ApiError
from api.exchange import (
    ClientGoneError,
    read_headers,
    read_request_body,
    send_answer,
    send_options,
)
from api.query_parser import read_parameters
from api.settings import ApiSettings
from api.system_description import describe_system
from api.system_operation import PREFIX, ServedOperation, SystemOperation, read_body
from events.json_codec import JsonObject, encode

UNHOOKED: Final = frozenset(("delete_definition", "status", "doctor"))
"""The operations that no hook is asked for."""

_OPENAPI: Final = "application/openapi+json; charset=utf-8"


class SystemApi:
    """Serves operations to `service_role`."""

    def __init__(
        self,
        operations: Sequence[ServedOperation],
        callers: CallerReader,
        journal: CallJournal,
        settings: ApiSettings,
        hooks: CallHooks | None = None,
    ) -> None:
        self._hooks = hooks
        self._operations = tuple(operations)
        self._callers = callers
        self._journal = journal
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One call, from its first byte to the last of its answer."""
        begun_s = time.perf_counter()
        headers = read_headers(scope)
        if scope["method"] == "OPTIONS":
            await send_options(send, b"OPTIONS, GET, HEAD, POST, PUT, DELETE", headers)
            return
        call = begin_call(scope, headers, "api.system.unknown")
        call.operation = "unknown"
        recording = CallRecording(call, self._journal, begun_s)
        reads = call.method in ("GET", "HEAD")
        outcome: Outcome = "ok"
        try:
            answer = await self._answer(scope, receive, headers, call)
            if not reads:
                await recording.done("ok", answer.status, wait=True)
        except ClientGoneError:
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets JSON
            failure = call_failure(error, call)
            answer = error_answer(failure)
            outcome = failure_outcome(failure)
            await recording.failed(failure, outcome, wait=not reads)
        await send_answer(send, answer, headers, call.id, with_body=call.method != "HEAD")
        if outcome == "ok":
            recording.answered(answer.status)

    async def _answer(
        self, scope: Scope, receive: Receive, headers: dict[str, str], call: ApiCall
    ) -> Answer:
        identify(call, scope, headers, self._callers, self._settings.chain_secret).check_service()
        segments = _segments(scope)
        if segments == ("",):
            return self._description(call, scope.get("root_path", ""))
        served, in_path = self._find(segments, call)
        operation = served.operation
        call.operation, call.type = operation.name, f"api.system.{operation.name}"
        call.name = "/".join(in_path.values())
        if operation.has_body:
            self._journal.check_write()
            body = await read_request_body(receive, headers, self._settings.body_bytes_max)
        else:
            _check_journal(self._journal, call.method)
            body = b""
        query = tuple(read_parameters(scope["query_string"].decode("latin-1")))
        asked = HookedCall(query, body, headers)
        given = _arguments(operation, in_path, asked, call)
        hooked = await self._hooked(asked, call)
        if hooked is not asked:
            given = _arguments(operation, in_path, hooked, call)
        return Answer(operation.status, await served.carry_out(given), JSON)

    async def _hooked(self, asked: HookedCall, call: ApiCall) -> HookedCall:
        """The call as hooks want it; raises ApiError where they refuse it."""
        if self._hooks is None or call.operation in UNHOOKED:
            return asked
        await self._hooks.when_known()
        if not self._hooks.is_needed(call.type):
            return asked
        self._journal.check_kafka()
        return await self._hooks.before(call, asked)

    def _find(
        self, segments: tuple[str, ...], call: ApiCall
    ) -> tuple[ServedOperation, dict[str, str]]:
        method = "GET" if call.method == "HEAD" else call.method
        allowed: list[str] = []
        found: list[tuple[ServedOperation, dict[str, str]]] = []
        for served in self._operations:
            in_path = served.operation.match(segments)
            if in_path is None:
                continue
            if served.operation.method == method:
                found.append((served, in_path))
            else:
                allowed.append(served.operation.method)
        if found:
            # A name that is spelled out goes before one that stands for an argument.
            return min(found, key=lambda one: len(one[1]))
        if allowed:
            raise ApiError(
                405,
                "PGRST117",
                f"Unsupported HTTP method: {call.method[:40]}",
                hint=f"Expected {', '.join(sorted(set(allowed)))}",
                headers=(("allow", ", ".join(sorted(set(allowed)))),),
            )
        raise ApiError(
            404,
            "RC404",
            f"There is nothing at {call.path[:200]}",
            hint=f"GET {PREFIX}/ describes what there is",
        )

    def _description(self, call: ApiCall, url: str) -> Answer:
        if call.method not in ("GET", "HEAD"):
            raise ApiError(405, "PGRST117", f"Unsupported HTTP method: {call.method[:40]}")
        self._journal.check_read()
        call.operation, call.type = "describe", "api.system.describe"
        described = describe_system([one.operation for one in self._operations], url)
        return Answer(200, encode(described), _OPENAPI)


def _segments(scope: Scope) -> tuple[str, ...]:
    """Of the path below ours, still percent-encoded, so that a name may hold a slash."""
    raw: bytes | None = scope.get("raw_path")
    path = raw.decode("latin-1").partition("?")[0] if raw is not None else str(scope["path"])
    if not path.startswith(PREFIX):
        path = unquote(path)
    return tuple(path.removeprefix(PREFIX).strip("/").split("/"))


def _arguments(
    operation: SystemOperation[msgspec.Struct, object],
    in_path: dict[str, str],
    asked: HookedCall,
    call: ApiCall,
) -> JsonObject:
    """An operation's arguments; what the call's event tells of them is noted."""
    if operation.has_body:
        body = read_body(asked.body)
        call.parameters = {name: _told(body[name]) for name in operation.told if name in body}
        _refuse_both(in_path, body)
        return {**in_path, **body}
    query = dict(asked.query)
    known = operation.arguments.__struct_fields__
    call.parameters = {name: text for name, text in query.items() if name in known}
    _refuse_both(in_path, query)
    return {**in_path, **query}


def _check_journal(journal: CallJournal, method: str) -> None:
    if method in ("GET", "HEAD"):
        journal.check_read()
    else:
        journal.check_write()


def _refuse_both(in_path: dict[str, str], others: JsonObject | dict[str, str]) -> None:
    both = [name for name in in_path if name in others]
    if both:
        raise ApiError(400, "RC400", f"found {both[0]!r} beside the path, expected it there alone")


def _told(value: object) -> str:
    return value if isinstance(value, str) else encode(value).decode()
