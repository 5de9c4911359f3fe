"""Hooks: code that is asked before a call is carried out, and may refuse or change it.

A call whose type no hook names pays for one look-up, and for nothing where there are no hooks at
all. A hook that fails, takes too long or answers what means nothing refuses the call, unless it
says `on_error = "allow"`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from api.api_event import ApiCall
from api.call_hook import CallHook
from api.code_calls import CodeCalls
from api.code_run import CodeRun
from api.definition_table import DefinitionTable
from api.errors import RefusedError
from api.function_input import CodeBody, encode_argument, query_object, query_pairs, visible_headers
from api.hook_answer import HookAnswer, MeaninglessError, Refusal, hook_answer
from events.event_type import EventPattern
from events.json_codec import JsonObject, decode, encode
from events.pattern_tree import PatternTree
from events.run import RunOutcome

_log = logging.getLogger(__name__)

_JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class HookedCall:
    """What of a call a hook may change; header names are in lower case."""

    query: tuple[tuple[str, str], ...]
    body: bytes
    headers: Mapping[str, str]


class _HookFailedError(Exception):
    """A hook's run did not end well; `status` is what the call is answered with."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class CallHooks:
    """The hooks of the table."""

    def __init__(self, table: DefinitionTable, calls: CodeCalls) -> None:
        self._table = table
        self._calls = calls
        self._tree: PatternTree[list[CallHook]] = PatternTree(list[CallHook])
        table.watch(self._follow)

    def is_needed(self, call_type: str) -> bool:
        """Whether any hook asks for calls of a type."""
        return not self._tree.is_empty and any(self._tree.select(call_type))

    async def when_known(self) -> None:
        """Wait until it is known which hooks there are; raises ApiError (503) after a while."""
        if not self._table.is_read:
            await self._table.when_read()

    async def asked(self, call: ApiCall, given: HookedCall) -> HookedCall:
        """Ask the hooks of a call as `before` does, where there are any; waits to know of them."""
        await self.when_known()
        return await self.before(call, given) if self.is_needed(call.type) else given

    async def before(self, call: ApiCall, asked: HookedCall) -> HookedCall:
        """Ask the hooks of a call, whose type is known by now, in their order.

        Returns what is to be carried out. Raises RefusedError where one refuses or fails, ApiError
        where one cannot be asked.
        """
        for hook in self._matching(call.type):
            asked = await self._ask(hook, call, asked)
        return asked

    def _matching(self, call_type: str) -> list[CallHook]:
        found = {hook.name: hook for hooks in self._tree.select(call_type) for hook in hooks}
        return sorted(found.values(), key=lambda hook: (hook.order, hook.name))

    async def _ask(self, hook: CallHook, call: ApiCall, asked: HookedCall) -> HookedCall:
        try:
            return _changed(asked, await self._run(hook, call, asked))
        except RefusedError:
            raise
        except (_HookFailedError, MeaninglessError) as error:
            if hook.on_error == "allow":
                _log.warning("the hook %s failed and lets call %s go on", hook.name, call.id)
                return asked
            status = error.status if isinstance(error, _HookFailedError) else 500
            raise _failed(hook, call, status) from error

    async def _run(self, hook: CallHook, call: ApiCall, asked: HookedCall) -> HookAnswer:
        """What the hook says; its run is on Kafka by then.

        Raises RefusedError where it refuses, MeaninglessError and _HookFailedError where it
        failed, ApiError where it could not be run at all.
        """
        run = CodeRun(
            code=hook,
            call_id=call.id,
            event_type=call.type,
            argument=_argument(call, asked),
            chain=call.chain,
            traceparent=call.traceparent,
            modules=self._calls.modules(hook.modules),
        )
        started_ms = time.time_ns() // 1_000_000
        outcome = await self._calls.run(run)
        answer: HookAnswer | Refusal = HookAnswer()
        if outcome.status == "ok":
            try:
                answer = hook_answer(outcome.result)
                outcome = replace(outcome, result=answer.described())
            except MeaninglessError as error:
                message = f"what the hook returned means nothing: {error}"
                outcome = RunOutcome("failed", outcome.duration_ms, message, logs=outcome.logs)
        outcome, records = self._calls.left(run, outcome, started_ms)
        await self._calls.commit(run, outcome, records)
        if outcome.status != "ok":
            raise _HookFailedError(504 if outcome.status == "timeout" else 500)
        if isinstance(answer, Refusal):
            raise RefusedError(
                answer.status,
                answer.code,
                answer.message,
                details=answer.details,
                hint=answer.hint,
            )
        return answer

    def _follow(self) -> None:
        tree: PatternTree[list[CallHook]] = PatternTree(list[CallHook])
        for hook in self._table.of(CallHook).values():
            tree.leaf(EventPattern.parse(hook.before)).append(hook)
        self._tree = tree


def _argument(call: ApiCall, asked: HookedCall) -> bytes:
    body = CodeBody.of(asked.body, asked.headers.get("content-type", ""))
    caller = call.caller
    argument: JsonObject = {
        "id": call.id,
        "type": call.type,
        "method": call.method,
        "path": call.path,
        "operation": call.operation,
        "source": call.source,
        "schema": call.schema,
        "name": call.name,
        "query": query_object(asked.query),
        "headers": visible_headers(asked.headers),
        "body": body.value,
        "base64": body.is_base64,
        "caller": None
        if caller is None
        else {**caller.described(), "claims": decode(caller.claims)},
    }
    return encode_argument(argument)


def _changed(asked: HookedCall, answer: HookAnswer) -> HookedCall:
    if answer.query is not None:
        try:
            asked = replace(asked, query=tuple(query_pairs(answer.query)))
        except ValueError as error:
            raise MeaninglessError(str(error)) from error
    if answer.has_body:
        headers = {**asked.headers, "content-type": _JSON}
        asked = replace(asked, body=encode(answer.body), headers=headers)
    return asked


def _failed(hook: CallHook, call: ApiCall, status: int) -> RefusedError:
    """What the client is told of a hook that failed: nothing of its inside."""
    return RefusedError(
        status,
        f"RC{status}",
        f"The hook {hook.name} failed, so the call was refused",
        details=f"`rowcast runs --listener {hook.name}` tells more about the call {call.id}",
        hint="Nothing was changed",
    )
