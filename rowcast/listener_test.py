"""`rowcast test`: one listener, custom API or hook, run against a sample, and all that it did.

Nothing is sent to Kafka: what the run would emit and push is shown. Databases and HTTP are asked
for real, unless it is a rehearsal (`--dry-run`).
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias, cast

import msgspec

from api.call_hook import CallHook
from api.custom_api import CustomApi
from events.chain import Chain
from events.errors import EventFormatError
from events.event import decode_event
from events.json_codec import JsonObject, JsonValue, decode, decode_object, encode
from events.kept_definition import KeptDefinition
from events.run import Emission, RunOutcome, RunRequest
from listener_runtime.call_trace import TracedCall, TracedHost
from listener_runtime.host_calls import HostCalls
from listener_runtime.pool import SandboxPool
from router.definition import Definition, ListenerCode
from router.listener import ListenerIndex
from router.module import Module, missing_modules
from rowcast.definition_files import parse_file, read_applied
from rowcast.definition_kinds import kind_of
from rowcast.errors import ConfigurationError
from rowcast.installation import Installation
from rowcast.sandbox_settings import pool_settings

_SHOWN_CHARS = 300
_SAMPLE_REQUEST: JsonObject = {
    "id": "test",
    "method": "POST",
    "path": "/",
    "query": {},
    "headers": {},
    "body": None,
    "base64": False,
    "caller": {"role": "service_role", "subject": None, "address": "127.0.0.1", "claims": {}},
}

Tested: TypeAlias = Definition | CustomApi | CallHook


async def run_test(
    installation: Installation, listener: str, event_file: Path, *, dry_run: bool, as_json: bool
) -> tuple[str, bool]:
    """What to print, and whether the run ended well.

    `listener` is a file or the name of one that is applied; `event_file` holds an event, for a
    custom API or a hook its request or call. Raises ConfigurationError or
    DefinitionError for what cannot be run.
    """
    present = await read_applied(installation)
    tested = await _tested(installation, present, listener)
    argument = _argument(tested, event_file)
    request = _request(tested, argument)
    modules = _modules(present, tested)
    host = TracedHost(HostCalls(installation.host_settings()), rehearse=dry_run)
    pool = SandboxPool(pool_settings(installation, processes=1), installation.host_settings(), host)
    await pool.start()
    try:
        outcome = await pool.run(replace(request, modules=modules))
    finally:
        await pool.close()
    matches = True
    if isinstance(tested, Definition):
        event = decode_event(argument)
        matches = bool(ListenerIndex([tested]).match(event, tested.since_ms))
    if as_json:
        return _as_json(outcome, host.calls, matches=matches), outcome.status == "ok"
    return "\n".join(_lines(outcome, host.calls, matches=matches)), outcome.status == "ok"


async def _tested(
    installation: Installation, present: Mapping[str, KeptDefinition], name: str
) -> Tested:
    """The code to run, of a file or of what is applied."""
    file = Path(name)
    if file.suffix == ".py" or file.exists():
        found = await parse_file(installation, file)
    elif name in present:
        found = present[name]
    else:
        known = ", ".join(sorted(present)) or "none"
        raise ConfigurationError(
            f"found no listener {name!r}, expected a file or one of those applied: {known}"
        )
    if isinstance(found, Definition) and not isinstance(found.action, ListenerCode):
        raise ConfigurationError(
            f"found the built-in action of {found.name!r}, expected a listener with code"
        )
    if not isinstance(found, Definition | CustomApi | CallHook):
        raise ConfigurationError(
            f"{name} is a {kind_of(found).title}, expected a listener, a custom API or a hook"
        )
    return found


def _modules(present: Mapping[str, KeptDefinition], tested: Tested) -> tuple[tuple[str, str], ...]:
    modules = {name: one for name, one in present.items() if isinstance(one, Module)}
    missing = missing_modules(tested.modules, modules)
    if missing is not None:
        raise ConfigurationError(missing)
    return tuple((name, modules[name].code) for name in tested.modules)


def _argument(tested: Tested, file: Path) -> bytes:
    """What `main` is given first: an event, or a request or call with what the file leaves out."""
    try:
        data = file.read_bytes().strip()
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}") from error
    if not isinstance(tested, Definition):
        try:
            return encode({**_SAMPLE_REQUEST, **decode_object(data)})
        except ValueError as error:
            raise ConfigurationError(
                f'{file} holds no request: {error}; expected JSON such as {{"body": {{"n": 1}}}}'
            ) from error
    try:
        return decode_event(data).raw
    except EventFormatError as error:
        raise ConfigurationError(
            f"{file} holds no event: {error}. `rowcast tail PATTERN --dump --count 1` prints one"
        ) from error


def _request(tested: Tested, argument: bytes) -> RunRequest:
    action = tested.action if isinstance(tested, Definition) else tested
    return RunRequest(
        run_id="test",
        listener=tested.name,
        code=action.code if isinstance(action, ListenerCode | CustomApi | CallHook) else "",
        event=argument,
        # Each test is an event of its own: a second one does not find its effects recorded.
        event_id=f"test/{secrets.token_hex(8)}",
        chain=Chain(str(decode_object(argument)["id"])),
        tenant=tested.tenant,
        timeout_s=tested.timeout_s,
        cpu_s=tested.cpu_s,
        memory_mb=tested.memory_mb,
    )


def _as_json(outcome: RunOutcome, calls: list[TracedCall], *, matches: bool) -> str:
    whole = cast("JsonObject", msgspec.to_builtins(outcome))
    whole["state"] = {
        write.key: None if write.value is None else decode(write.value) for write in outcome.state
    }
    whole["calls"] = cast("JsonValue", msgspec.to_builtins(calls))
    whole["matches"] = matches
    return encode(whole).decode()


def _lines(outcome: RunOutcome, calls: list[TracedCall], *, matches: bool) -> list[str]:
    lines = [f"{outcome.status} in {outcome.duration_ms:.1f} ms"]
    if not matches:
        lines.append("note: `on` and `where` of this listener do not select this event")
    if outcome.status == "ok":
        lines.append(f"result   {_shown(outcome.result)}")
    else:
        lines.append((outcome.error or "").rstrip())
    for call in calls:
        end = f"failed: {call.error}" if call.error else _shown(call.answer)
        mark = " (rehearsed)" if call.rehearsed else ""
        lines.append(f"call     {call.name} {_shown(call.args)} {call.duration_ms:.1f} ms{mark}")
        lines.append(f"         -> {end}")
    for emission in outcome.emissions:
        key = f" key {emission.key}" if emission.key else ""
        lines.append(f"emits    {emission.type}{key} {_shown(emission.data)}{_when(emission)}")
    lines += [f"cancels  {name}" for name in outcome.cancelled]
    lines += [f"pushes   {push.channel} {_shown(push.data)}" for push in outcome.pushes]
    for write in outcome.state:
        shown = "deleted" if write.value is None else _shown(decode(write.value))
        lines.append(f"state    {write.key} {shown}")
    for line in outcome.logs:
        fields = f" {_shown(line.fields)}" if line.fields else ""
        lines.append(f"log      {line.level}: {line.message}{fields}")
    return lines


def _when(emission: Emission) -> str:
    if not emission.is_delayed:
        return ""
    name = f" as {emission.name}" if emission.name else ""
    if emission.recurrence is not None:
        return f" {emission.recurrence}{name}"
    if emission.due_ms is None:
        return f" after {emission.delay_s:g} s{name}"
    return f" at {datetime.fromtimestamp(emission.due_ms / 1_000, UTC).isoformat()}{name}"


def _shown(value: JsonValue | JsonObject) -> str:
    text = encode(value).decode()
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}... ({len(text)} bytes)"
