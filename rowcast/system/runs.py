"""Operations on runs, on those given up (dead letters), and on events to be run again."""

from __future__ import annotations

import time
from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from api.system_operation import SystemOperation
from events.event_type import EventPattern
from events.json_codec import JsonObject, JsonValue, decode_object
from rowcast.dead_letters import (
    DeadLetter,
    State,
    drop,
    find,
    read_dead_letters,
    replay_letters,
)
from rowcast.definition_files import read_listeners
from rowcast.errors import ConfigurationError
from rowcast.installation import Installation
from rowcast.kafka_access import read_topic
from rowcast.replay import Range, enabled_listener, replay, time_ms

_Count: TypeAlias = Annotated[
    int, msgspec.Meta(ge=1, le=100_000, description="so many at most, the newest")
]
_Listener: TypeAlias = Annotated[str, msgspec.Meta(description="name of a listener")]
_Time: TypeAlias = Annotated[
    str, msgspec.Meta(description="how long ago (90s, 15m, 24h, 30d) or a time in ISO 8601")
]
_EventType: TypeAlias = Annotated[str, msgspec.Meta(description="pattern of event types")]
Body: TypeAlias = dict[str, object]
_EVENTS_MAX: Final = 100_000


class RunsArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which runs; all conditions hold."""

    listener: _Listener | None = None
    status: Annotated[str, msgspec.Meta(description="ok, failed, timeout, ...")] | None = None
    event: Annotated[str, msgspec.Meta(description="id of an event")] | None = None
    type: _EventType | None = None
    since: _Time | None = None
    count: _Count = 20


class DeadArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which dead letters."""

    listener: _Listener | None = None
    state: Literal["open", "replayed", "dropped", "any"] = "open"
    count: _Count = 20


class LetterArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One dead letter by its id."""

    id: Annotated[str, msgspec.Meta(description="id of a dead letter")]


class ReplayDeadArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Dead letters by id, or all open ones of a listener."""

    ids: Annotated[list[str], msgspec.Meta(max_length=1_000)] = []
    listener: _Listener | None = None


class ReplayArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Events for one listener: one by its id, or those of a time that it asks for."""

    listener: _Listener
    event: Annotated[str, msgspec.Meta(description="id of one event")] | None = None
    since: _Time | None = None
    until: _Time | None = None
    type: _EventType | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=_EVENTS_MAX)] = 10_000
    dry_run: bool = False


class LetterState(msgspec.Struct, frozen=True):
    """A dead letter and what was done with it."""

    id: str
    listener: str | None
    state: State


class Letter(msgspec.Struct, frozen=True):
    """A dead letter, whole."""

    id: str
    state: State
    letter: dict[str, object]


class ReplayResult(msgspec.Struct, frozen=True):
    """How many events were given to the listener; `complete` unless the limit cut it short."""

    listener: str
    events: int
    complete: bool
    dry_run: bool


LIST_RUNS: Final = SystemOperation(
    "list_runs",
    "GET",
    "/runs",
    "What listeners' runs did, the newest last",
    RunsArguments,
    list[Body],
)
LIST_DEAD: Final = SystemOperation(
    "list_dead_letters",
    "GET",
    "/dead-letters",
    "Runs given up, the newest last",
    DeadArguments,
    list[Letter],
)
GET_DEAD: Final = SystemOperation(
    "get_dead_letter",
    "GET",
    "/dead-letters/{id}",
    "One of them, with all that is needed to run it again",
    LetterArguments,
    Letter,
)
REPLAY_DEAD: Final = SystemOperation(
    "replay_dead_letters",
    "POST",
    "/dead-letters/replay",
    "Give dead letters' events to their listeners again",
    ReplayDeadArguments,
    list[LetterState],
    told=("ids", "listener"),
)
DROP_DEAD: Final = SystemOperation(
    "drop_dead_letter",
    "DELETE",
    "/dead-letters/{id}",
    "Take a dead letter off the list",
    LetterArguments,
    LetterState,
)
REPLAY: Final = SystemOperation(
    "replay",
    "POST",
    "/replay",
    "Give events of the past to one listener again",
    ReplayArguments,
    ReplayResult,
    told=("listener", "event", "since", "until", "type", "limit", "dry_run"),
)


async def list_runs(installation: Installation, arguments: RunsArguments) -> list[Body]:
    """The runs that are asked for."""
    since_ms = None if arguments.since is None else time_ms(arguments.since, "since")
    pattern = None if arguments.type is None else EventPattern.parse(arguments.type)
    records = await read_topic(installation.cluster, installation.cluster.topics.runs)
    found = [decode_object(record.value) for record in records if record.value]
    chosen = [run for run in found if _is_wanted(run, arguments, pattern, since_ms)]
    return [dict(run) for run in chosen[-arguments.count :]]


async def list_dead(installation: Installation, arguments: DeadArguments) -> list[Letter]:
    """The letters that are asked for."""
    letters = await read_dead_letters(installation)
    chosen = [
        letter
        for letter in letters.values()
        if arguments.state in (letter.state, "any")
        and arguments.listener in (None, letter.listener)
    ]
    return [_letter(letter) for letter in chosen[-arguments.count :]]


async def get_dead(installation: Installation, arguments: LetterArguments) -> Letter:
    """One; raises NotFoundError."""
    return _letter(find(await read_dead_letters(installation), arguments.id))


async def replay_dead(
    installation: Installation, arguments: ReplayDeadArguments
) -> list[LetterState]:
    """Replay letters, all or none; raises NotFoundError or ConfigurationError."""
    letters = await read_dead_letters(installation)
    chosen = [find(letters, one) for one in dict.fromkeys(arguments.ids)]
    if arguments.listener is not None:
        chosen += [
            letter
            for letter in letters.values()
            if letter.listener == arguments.listener
            and letter.state == "open"
            and letter.id not in arguments.ids
        ]
    definitions = await read_listeners(installation)
    enabled = {name for name, one in definitions.items() if one.enabled}
    await replay_letters(installation, chosen, enabled)
    return [LetterState(one.id, one.listener, "replayed") for one in chosen]


async def drop_dead(installation: Installation, arguments: LetterArguments) -> LetterState:
    """Drop one; raises NotFoundError."""
    letter = await drop(installation, arguments.id)
    return LetterState(letter.id, letter.listener, "dropped")


async def replay_events(installation: Installation, arguments: ReplayArguments) -> ReplayResult:
    """Replay events; raises NotFoundError or ConfigurationError."""
    listener = await enabled_listener(installation, arguments.listener)
    if arguments.event is None and arguments.since is None:
        raise ConfigurationError(
            "found neither `event` nor `since`, expected the id of one event, or since when "
            "(24h, 2026-11-25T06:00:00Z)"
        )
    now_ms = time.time_ns() // 1_000_000
    wanted = Range(
        pattern=EventPattern.parse(arguments.type or listener.on),
        since_ms=0 if arguments.since is None else time_ms(arguments.since, "since"),
        until_ms=now_ms if arguments.until is None else time_ms(arguments.until, "until"),
        event_id=arguments.event,
        limit=arguments.limit,
    )
    found = await replay(installation, listener.name, wanted, dry_run=arguments.dry_run)
    return ReplayResult(listener.name, found.events, found.complete, arguments.dry_run)


def _is_wanted(
    run: JsonObject, arguments: RunsArguments, pattern: EventPattern | None, since_ms: int | None
) -> bool:
    event = run.get("event")
    event_id, event_type = (
        (event.get("id"), event.get("type")) if isinstance(event, dict) else (None, None)
    )
    started_ms = run.get("started_ms")
    return (
        arguments.listener in (None, run.get("listener"))
        and arguments.status in (None, run.get("status"))
        and arguments.event in (None, event_id)
        and (pattern is None or pattern.matches(_text(event_type)))
        and (since_ms is None or (isinstance(started_ms, int) and started_ms >= since_ms))
    )


def _text(value: JsonValue) -> str:
    return value if isinstance(value, str) else ""


def _letter(letter: DeadLetter) -> Letter:
    return Letter(letter.id, letter.state, dict(letter.body))
