"""`rowcast test`: one listener, run against a sample event, and everything that it did.

Nothing is sent to Kafka: what the run would emit and push is shown. Databases and HTTP are asked
for real, unless it is a rehearsal (`--dry-run`).
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import msgspec

from events.chain import Chain
from events.errors import EventFormatError
from events.event import Event, decode_event
from events.json_codec import JsonObject, JsonValue, decode, encode
from events.run import Emission, RunOutcome, RunRequest
from listener_runtime.call_trace import TracedCall, TracedHost
from listener_runtime.host_calls import HostCalls
from listener_runtime.pool import SandboxPool
from router.definition import Definition, ListenerCode
from router.listener import ListenerIndex
from router.module import missing_modules
from rowcast.definition_files import parse_file, read_definitions, read_modules
from rowcast.definition_kinds import kind_of
from rowcast.errors import ConfigurationError
from rowcast.installation import Installation
from rowcast.service import pool_settings

_SHOWN_CHARS = 300


async def run_test(
    installation: Installation, listener: str, event_file: Path, *, dry_run: bool, as_json: bool
) -> tuple[str, bool]:
    """What to print, and whether the run ended well.

    `listener` is a file or the name of one that is applied. Raises ConfigurationError or
    DefinitionError for what cannot be run.
    """
    definition = await _definition(installation, listener)
    if not isinstance(definition.action, ListenerCode):
        raise ConfigurationError(
            f"found the built-in action of {definition.name!r}, expected a listener with code"
        )
    event = _read_event(event_file)
    request = _request(definition, definition.action.code, event)
    modules = await _modules(installation, definition)
    host = TracedHost(HostCalls(installation.host_settings()), rehearse=dry_run)
    pool = SandboxPool(pool_settings(installation, processes=1), installation.host_settings(), host)
    await pool.start()
    try:
        outcome = await pool.run(replace(request, modules=modules))
    finally:
        await pool.close()
    matches = bool(ListenerIndex([definition]).match(event, definition.since_ms))
    if as_json:
        return _as_json(outcome, host.calls, matches=matches), outcome.status == "ok"
    return "\n".join(_lines(outcome, host.calls, matches=matches)), outcome.status == "ok"


async def _definition(installation: Installation, listener: str) -> Definition:
    file = Path(listener)
    if file.suffix == ".py" or file.exists():
        parsed = await parse_file(installation, file)
        if not isinstance(parsed, Definition):
            raise ConfigurationError(f"{file} is a {kind_of(parsed).title}, expected a listener")
        return parsed
    present = await read_definitions(installation)
    if listener not in present:
        known = ", ".join(sorted(present)) or "none"
        raise ConfigurationError(
            f"found no listener {listener!r}, expected a file or one of those applied: {known}"
        )
    return present[listener]


async def _modules(
    installation: Installation, definition: Definition
) -> tuple[tuple[str, str], ...]:
    if not definition.modules:
        return ()
    present = await read_modules(installation)
    missing = missing_modules(definition.modules, present)
    if missing is not None:
        raise ConfigurationError(missing)
    return tuple((name, present[name].code) for name in definition.modules)


def _read_event(file: Path) -> Event:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}") from error
    try:
        return decode_event(data.strip())
    except EventFormatError as error:
        raise ConfigurationError(
            f"{file} holds no event: {error}. `rowcast tail PATTERN --dump --count 1` prints one"
        ) from error


def _request(definition: Definition, code: str, event: Event) -> RunRequest:
    return RunRequest(
        run_id="test",
        listener=definition.name,
        code=code,
        event=event.raw,
        # Each test is an event of its own: a second one does not find its effects recorded.
        event_id=f"test/{secrets.token_hex(8)}",
        chain=Chain(event.id),
        tenant=definition.tenant,
        timeout_s=definition.timeout_s,
        cpu_s=definition.cpu_s,
        memory_mb=definition.memory_mb,
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
