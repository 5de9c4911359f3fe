"""One event on its way to one listener, and the records that its runs leave on Kafka.

Pure. All records of one attempt are written in one transaction with the offsets, so that what a
run emitted, that it ran, and that its event is finished are one fact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import orjson

from events.chain import Chain
from events.event import Event, OutgoingEvent, make_event
from events.event_id import emitted_id, run_id
from events.json_codec import JsonObject, JsonValue, encode
from events.names import encode_segment
from events.outgoing_record import RECORD_BYTES_MAX, OutgoingRecord
from events.run import Emission, RunOutcome, RunRequest, StateWrite
from events.topic import Topics
from router.definition import Definition
from router.schedule import Cancellation, ScheduledEvent
from router.state_table import StateKey

_MAX_ERROR_CHARS = 16_000
_CYCLE_STOPPED = "system.cycle_stopped"
_LISTENER_DEAD = "system.listener_dead"


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event for a listener, and where the event stands."""

    definition: Definition
    event: Event
    key: bytes | None
    topic: str
    partition: int
    offset: int

    @property
    def chain(self) -> Chain:
        """The chain of what this listener causes."""
        return self.event.own_chain.extended(self.definition.name)

    @property
    def is_cycle(self) -> bool:
        """Whether the listener stands in the event's chain more often than it allows."""
        return self.event.own_chain.visits(self.definition.name) > self.definition.recursion


def outcome_records(
    delivery: Delivery,
    outcome: RunOutcome,
    attempt: int,
    started_ms: int,
    topics: Topics,
    span: Callable[[str | None], str],
) -> list[OutgoingRecord]:
    """What an attempt leaves: its run record and, where it ended well, what it emitted.

    `span` makes the traceparent of an emission from the cause's.
    """
    emitted: list[OutgoingEvent] = []
    scheduled: list[ScheduledEvent] = []
    listed: list[JsonValue] = []
    cancelled: tuple[str, ...] = ()
    written: tuple[StateWrite, ...] = ()
    if outcome.status == "ok":
        emitted = _emitted(delivery, outcome, started_ms, span)
        scheduled = _scheduled(delivery, outcome, started_ms, span)
        cancelled = outcome.cancelled
        written = outcome.state
        listed.extend({"id": event.id, "type": event.type} for event in emitted)
        listed.extend({"id": e.id, "type": e.type, "due_ms": e.due_ms} for e in scheduled)
    record = _run_record(delivery, outcome, outcome.status, attempt, started_ms, listed, topics)
    pushed = topics.push
    return [
        *(
            OutgoingRecord.of(e, pushed if e.type.startswith("push.") else topics.events)
            for e in emitted
        ),
        *(
            OutgoingRecord(topics.kv, state_key(delivery, write).encode(), write.value)
            for write in written
        ),
        # Cancellations first: they are for what stands before them.
        *(
            OutgoingRecord(topics.schedules, one.record_key, one.encode())
            for one in [_cancellation(delivery, name) for name in cancelled] + scheduled
        ),
        record,
    ]


def state_key(delivery: Delivery, write: StateWrite) -> StateKey:
    """Whose state a run's write is."""
    return StateKey(delivery.definition.tenant, delivery.definition.name, write.key)


def run_request(
    delivery: Delivery,
    code: str,
    attempt: int,
    state: Mapping[str, bytes],
    modules: tuple[tuple[str, str], ...],
) -> RunRequest:
    """What the sandbox is asked for an attempt; `modules` are names and code."""
    event, definition = delivery.event, delivery.definition
    return RunRequest(
        run_id=run_id(event.id, definition.name, attempt),
        listener=definition.name,
        code=code,
        event=event.raw,
        event_id=event.id,
        chain=event.own_chain,
        attempt=attempt,
        tenant=definition.tenant,
        timeout_s=definition.timeout_s,
        cpu_s=definition.cpu_s,
        memory_mb=definition.memory_mb,
        reuse=definition.reuse,
        state=state,
        modules=modules,
    )


def refuse_too_large(records: list[OutgoingRecord]) -> str | None:
    """Why the records of an attempt cannot be written, None where they can."""
    for record in records:
        size = record.size_bytes
        if size > RECORD_BYTES_MAX:
            return (
                f"a record of {size:,} bytes for {record.topic}, expected {RECORD_BYTES_MAX:,} at "
                "most; emit a reference to the data instead of the data"
            )
    return None


def dead_records(
    delivery: Delivery,
    error: str,
    attempts: int,
    first_failed_ms: int,
    now_ms: int,
    topics: Topics,
) -> list[OutgoingRecord]:
    """A run given up: the dead letter, and the event that says so."""
    event, name = delivery.event, delivery.definition.name
    letter: dict[str, object] = {
        "id": run_id(event.id, name, 0),
        "listener": name,
        "version": delivery.definition.version,
        "attempts": attempts,
        "error": error[:_MAX_ERROR_CHARS],
        "first_failed_ms": first_failed_ms,
        "dead_ms": now_ms,
        "topic": delivery.topic,
        "partition": delivery.partition,
        "offset": delivery.offset,
        "key": delivery.key.decode("utf-8", "replace") if delivery.key is not None else None,
        "chain": {"root": event.own_chain.root, "path": list(event.own_chain.path)},
        "traceparent": event.traceparent,
        # The event's own bytes: a number keeps its digits, and readers go deeper than writers.
        "event": orjson.Fragment(event.raw),
    }
    value = encode(letter)
    if len(value) > RECORD_BYTES_MAX:
        # The event itself stays where topic, partition and offset point to.
        letter["event"] = {"id": event.id, "type": event.type}
        value = encode(letter)
    said = _system_event(
        delivery,
        _LISTENER_DEAD,
        {"listener": name, "attempts": attempts, "error": error[-1_000:], "event": _named(event)},
        now_ms,
    )
    dead = OutgoingRecord(topics.dead, encode({"listener": name}), value)
    return [dead, OutgoingRecord.of(said, topics.events)]


def cycle_records(delivery: Delivery, now_ms: int, topics: Topics) -> list[OutgoingRecord]:
    """A run that is not run: its record and, unless that would be a cycle itself, an event."""
    path: list[JsonValue] = list(delivery.chain.path)
    error = f"not run: {' -> '.join(delivery.chain.path[-20:])} would be a cycle"
    outcome = RunOutcome(status="ok", duration_ms=0.0, error=error)
    records = [_run_record(delivery, outcome, "cycle_stopped", 1, now_ms, [], topics)]
    if delivery.event.type != _CYCLE_STOPPED:
        data: JsonObject = {
            "listener": delivery.definition.name,
            "path": path,
            "event": _named(delivery.event),
        }
        stopped = _system_event(delivery, _CYCLE_STOPPED, data, now_ms)
        records.append(OutgoingRecord.of(stopped, topics.events))
    return records


def _emitted(
    delivery: Delivery,
    outcome: RunOutcome,
    now_ms: int,
    span: Callable[[str | None], str],
) -> list[OutgoingEvent]:
    event, name = delivery.event, delivery.definition.name
    wanted = [
        (step, one.type, one.data, one.key)
        for step, one in enumerate(outcome.emissions, 1)
        if not one.is_delayed
    ]
    wanted += [
        (step, push_type(one.channel), one.data, one.channel)
        for step, one in enumerate(outcome.pushes, len(outcome.emissions) + 1)
    ]
    return [
        make_event(
            event_id=emitted_id(event.id, name, step),
            event_type=event_type,
            data=data,
            ts_ms=now_ms,
            key=key,
            chain=delivery.chain,
            traceparent=span(event.traceparent),
            cause={"event": event.id, "listener": name},
        )
        for step, event_type, data, key in wanted
    ]


def _scheduled(
    delivery: Delivery,
    outcome: RunOutcome,
    started_ms: int,
    span: Callable[[str | None], str],
) -> list[ScheduledEvent]:
    event, definition, chain = delivery.event, delivery.definition, delivery.chain
    ended_ms = started_ms + outcome.duration_ms
    return [
        ScheduledEvent(
            id=emitted_id(event.id, definition.name, step),
            type=one.type,
            due_ms=_due_ms(one, ended_ms),
            tenant=definition.tenant,
            cause=event.id,
            listener=definition.name,
            root=chain.root,
            path=chain.path,
            data=one.data,
            key=one.key,
            name=one.name,
            traceparent=span(event.traceparent),
            recurrence=one.recurrence,
        )
        for step, one in enumerate(outcome.emissions, 1)
        if one.is_delayed
    ]


def _due_ms(emission: Emission, ended_ms: float) -> int:
    if emission.due_ms is not None:
        return emission.due_ms
    after_ms = math.ceil(ended_ms + (emission.delay_s or 0.0) * 1_000)
    if emission.recurrence is None:
        return after_ms
    # One that is checked is due some time.
    return emission.recurrence.next_ms(after_ms) or after_ms


def _cancellation(delivery: Delivery, name: str) -> Cancellation | ScheduledEvent:
    return Cancellation(tenant=delivery.definition.tenant, cancelled=name)


def push_type(channel: str) -> str:
    """The event type of a channel's messages."""
    return ".".join(("push", *(encode_segment(part) for part in channel.split(".") if part)))


def _run_record(
    delivery: Delivery,
    outcome: RunOutcome,
    status: str,
    attempt: int,
    started_ms: int,
    emitted: list[JsonValue],
    topics: Topics,
) -> OutgoingRecord:
    event, definition = delivery.event, delivery.definition
    run: JsonObject = {
        "id": run_id(event.id, definition.name, attempt),
        "listener": definition.name,
        "version": definition.version,
        "status": status,
        "attempt": attempt,
        "started_ms": started_ms,
        "duration_ms": round(outcome.duration_ms, 3),
        "error": outcome.error[-_MAX_ERROR_CHARS:] if outcome.error else None,
        "event": {
            **_named(event),
            "topic": delivery.topic,
            "partition": delivery.partition,
            "offset": delivery.offset,
        },
        "result": outcome.result if status == "ok" else None,
        "emitted": emitted,
        "logs": [
            {"level": line.level, "message": line.message, "fields": line.fields}
            for line in outcome.logs
        ],
        "root": event.own_chain.root,
        "path": list(delivery.chain.path),
    }
    return OutgoingRecord(topics.runs, encode({"listener": definition.name}), encode(run))


def _system_event(
    delivery: Delivery, event_type: str, data: JsonObject, now_ms: int
) -> OutgoingEvent:
    name = delivery.definition.name
    return make_event(
        event_id=emitted_id(delivery.event.id, f"{name}#{event_type}", 1),
        event_type=event_type,
        data=data,
        ts_ms=now_ms,
        key=name,
        chain=delivery.chain,
        cause={"event": delivery.event.id, "listener": name},
    )


def _named(event: Event) -> JsonObject:
    return {"id": event.id, "type": event.type}
