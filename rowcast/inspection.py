"""What the commands that only look print: status, findings, definitions, events, runs, dead."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import cast

import msgspec
from aiokafka import ConsumerRecord

from cdc.finding import Finding
from events.chain import CHAIN_HEADER
from events.connect_json import plain_key
from events.errors import EventFormatError
from events.event import decode_event
from events.event_type import EventPattern
from events.json_codec import JsonObject, decode_object, encode
from push.subscription import Subscription
from rowcast.installation import Installation
from rowcast.kafka_access import follow
from rowcast.slot_status import slot_line
from rowcast.snapshot_command import snapshot_lines
from rowcast.system.definitions import DefinitionState
from rowcast.system.installation import WholeStatus
from rowcast.system.sources import SourceState

_MARKS = {"ok": "ok     ", "warning": "warning", "error": "ERROR  "}


def status_text(status: WholeStatus, *, as_json: bool) -> tuple[str, bool]:
    """The status to print, and whether everything runs."""
    runs = bool(status.services) and all(
        service.state == "running" for service in status.services.values()
    )
    if as_json:
        return msgspec.json.encode(status).decode(), runs
    lines = [f"http   {status.http}", f"kafka  {status.kafka}"]
    lines += [f"{name:<6} {source.dsn}" for name, source in status.sources.items()]
    for name, service in status.services.items():
        pid = f"pid {service.pid}" if service.pid else ""
        again = f"restarted {service.restarts} times" if service.restarts else ""
        last = f"last end: {service.last_exit}" if service.last_exit else ""
        parts = ", ".join(part for part in (pid, again, last) if part)
        lines.append(f"{name:<16} {service.state:<11} {parts}".rstrip())
    lines += [slot_line(source, slot) for source, slot in status.slots.items()]
    for source, tables in status.snapshots.items():
        lines += snapshot_lines(source, tables)
    return "\n".join(lines), runs


def findings_text(findings: Sequence[Finding], *, as_json: bool) -> str:
    """The doctor's findings, what must be mended last, where it is seen."""
    if as_json:
        return msgspec.json.encode(findings).decode()
    order = {"ok": 0, "warning": 1, "error": 2}
    lines: list[str] = []
    for finding in sorted(findings, key=lambda finding: order[finding.severity]):
        lines.append(f"{_MARKS[finding.severity]} {finding.subject}: {finding.found}")
        if finding.severity != "ok":
            lines.append(f"        expected {finding.expected}")
            lines.append(f"        mend: {finding.mend}")
    return "\n".join(lines)


def sources_text(sources: Sequence[SourceState], *, as_json: bool) -> str:
    """The sources, with what is being loaded of each."""
    if as_json:
        return "\n".join(msgspec.json.encode(one).decode() for one in sources)
    lines: list[str] = []
    for one in sources:
        capture = f"capture {one.service}" if one.service else "capture never started here"
        lines.append(f"{one.name:<16} {one.kind:<11} {capture}, {one.address}")
        if one.slot is not None:
            lines.append(slot_line(one.name, one.slot))
        if one.snapshots:
            lines += snapshot_lines(one.name, one.snapshots)
    return "\n".join(lines)


def subscriptions_text(subscriptions: Sequence[Subscription]) -> str:
    """A line a registration: id, since when, who, for what."""
    lines: list[str] = []
    for one in subscriptions:
        wanted = f"  {encode(one.conditions).decode()}" if one.conditions else ""
        who = f"{one.subject} ({one.role})"
        lines.append(f"{one.id:<8} {_clock(one.since_ms)}  {who:<32}  {one.pattern}{wanted}")
    return "\n".join(lines) or "no subscriptions"


def definitions_text(definitions: Sequence[DefinitionState], *, as_json: bool) -> str:
    """All definitions in a table."""
    if as_json:
        return "\n".join(definition_text(one, as_json=True) for one in definitions)
    return "\n".join(f"{one.name:<24} v{one.version:<4} {_what(one)}" for one in definitions)


def definition_text(one: DefinitionState, *, as_json: bool) -> str:
    """One of them, whole."""
    definition = cast("JsonObject", one.definition)
    return encode(definition).decode() if as_json else _definition_text(definition)


async def event_lines(
    installation: Installation, pattern: str, *, from_beginning: bool, to_end: bool, full: bool
) -> AsyncGenerator[str]:
    """The events that a pattern selects, a JSON line each, as they are committed."""
    wanted = EventPattern.parse(pattern)
    cluster = installation.cluster
    topics = cluster.topics.pushed_pattern(cluster.sources)
    records = follow(cluster, topic_filter=topics, from_beginning=from_beginning, to_end=to_end)
    async with aclosing(records):
        async for record in records:
            line = _event_line(record, wanted, full=full)
            if line is not None:
                yield line


def runs_text(runs: Sequence[JsonObject], *, as_json: bool) -> str:
    """Runs, newest last."""
    if as_json:
        return "\n".join(encode(run).decode() for run in runs)
    return "\n".join(_run_line(run) for run in runs) or "no runs yet"


def dead_text(letters: Sequence[JsonObject], *, as_json: bool) -> str:
    """Dead letters, newest last."""
    if as_json:
        return "\n".join(encode(letter).decode() for letter in letters)
    return "\n".join(_dead_line(letter) for letter in letters) or "no dead letters"


def _event_line(record: ConsumerRecord, wanted: EventPattern, *, full: bool) -> str | None:
    if record.value is None:
        return None
    try:
        event = decode_event(record.value, record.headers)
    except EventFormatError:
        return None
    if not wanted.matches(event.type):
        return None
    if not full:
        return event.raw.decode()
    place: JsonObject = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "key": _key_text(record.key),
        "event": event.body,
    }
    for name, header in record.headers:
        if header is not None:
            is_chain = name == CHAIN_HEADER
            place[name] = decode_object(header) if is_chain else header.decode("utf-8", "replace")
    return encode(place).decode()


def _key_text(key: bytes | None) -> str | None:
    return plain_key(key).decode("utf-8", "replace") if key else None


def _what(definition: DefinitionState) -> str:
    # Listeners have always been listed by their pattern alone.
    summary = definition.summary.removeprefix("on ")
    return summary if definition.enabled else f"off {summary}"


def _definition_text(definition: JsonObject) -> str:
    action = definition.get("action")
    if "module" in definition:
        lines = [f"{key}: {definition[key]}" for key in ("module", "version")]
        return "\n".join([*lines, "", str(definition["code"])])
    code = action.get("code") if isinstance(action, dict) else definition.pop("code", None)
    shown = {key: value for key, value in definition.items() if value is not None}
    if isinstance(action, dict) and isinstance(code, str):
        shown["action"] = {**action, "code": "below"}
    lines = [f"{key}: {encode(value).decode()}" for key, value in shown.items()]
    return "\n".join(lines + (["", code] if isinstance(code, str) else []))


def _run_line(run: JsonObject) -> str:
    event = run.get("event")
    event_type = event.get("type") if isinstance(event, dict) else ""
    started = run.get("started_ms")
    duration = run.get("duration_ms")
    error = _last_line(run.get("error"))
    parts = [
        _clock(started),
        f"{run.get('listener', ''):<20}",
        f"{run.get('status', ''):<13}",
        f"{duration:>9.1f} ms" if isinstance(duration, (int, float)) else " " * 12,
        f"try {run.get('attempt', 1)}",
        str(event_type),
        error,
    ]
    return "  ".join(part for part in parts if part)


def _dead_line(letter: JsonObject) -> str:
    data = letter.get("data")
    if isinstance(data, dict):
        key = encode(data.get("key")).decode()
        sizes = f"{data.get('size_bytes')} bytes, Kafka takes {data.get('limit_bytes')}"
        place = f"{letter.get('type')}  {data.get('id')}  {data.get('topic')} {key}"
        return f"{letter.get('id', '')}  {data.get('source', ''):<20}  {place}: {sizes}"
    event = letter.get("event")
    event_type = event.get("type") if isinstance(event, dict) else ""
    event_id = event.get("id") if isinstance(event, dict) else ""
    return (
        f"{letter.get('id', '')}  {letter.get('listener', ''):<20}  {event_type}  {event_id}  "
        f"after {letter.get('attempts')} tries: {_last_line(letter.get('error'))}"
    )


def _last_line(text: object) -> str:
    lines = text.strip().splitlines() if isinstance(text, str) else []
    return re.sub(r"\s+", " ", lines[-1])[:160] if lines else ""


def _clock(milliseconds: object) -> str:
    seconds = milliseconds / 1_000 if isinstance(milliseconds, (int, float)) else time.time()
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
