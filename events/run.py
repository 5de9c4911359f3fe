"""What the router asks of the sandbox and what it gets back; both know only this module."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from events.chain import Chain
from events.json_codec import JsonObject, JsonValue
from events.recurrence import Recurrence

RunStatus = Literal["ok", "failed", "timeout", "killed"]
LogLevel = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class RunRequest:
    """One attempt to run a listener's code for an event.

    `event` is the event's JSON as it stands on Kafka; `event_id` and `chain` are for host calls
    that carry them on (Idempotency-Key, logical message); `timeout_s` bounds how long it takes,
    `cpu_s` the CPU time that it uses; `memory_mb` caps the guest's heap; `state` is what g.kv
    reads, JSON by key; `modules` are names and code that the listener imports.
    """

    run_id: str
    listener: str
    code: str
    event: bytes
    event_id: str
    chain: Chain
    attempt: int = 1
    tenant: str = "default"
    timeout_s: float = 10.0
    cpu_s: float = 5.0
    memory_mb: int = 256
    reuse: bool = False
    state: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    modules: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Emission:
    """An event that a run asks to emit; `type` has been checked to be `custom.<name>`.

    At once unless `delay_s` (from the run's end) or `due_ms` (since 1970) says when; `name`, of an
    event that is emitted later, lets it be replaced and cancelled. With `recurrence` it is emitted
    again and again, as `schedule.<name>`.
    """

    type: str
    data: JsonValue
    key: str | None = None
    delay_s: float | None = None
    due_ms: int | None = None
    name: str | None = None
    recurrence: Recurrence | None = None

    @property
    def is_delayed(self) -> bool:
        """Whether it is emitted later, or may have to be."""
        return any(one is not None for one in (self.delay_s, self.due_ms, self.recurrence))


@dataclass(frozen=True, slots=True)
class StateWrite:
    """A change of a listener's state: JSON of the value, None where the key is deleted."""

    key: str
    value: bytes | None


@dataclass(frozen=True, slots=True)
class PushMessage:
    """A message that a run sends to a WebSocket channel."""

    channel: str
    data: JsonValue


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line that a run wrote, by g.log or by printing."""

    level: LogLevel
    message: str
    fields: JsonObject = field(default_factory=dict[str, JsonValue])


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """How an attempt ended.

    `failed`: the code raised, `error` holds its traceback. `timeout`: it was killed at a limit of
    its time. `killed`: its process died (memory, exit, garbage on the pipe). Emissions and pushes
    of any but `ok` must not be sent. `cancelled` names schedules that end; what the run schedules
    under such a name it scheduled after that.
    """

    status: RunStatus
    duration_ms: float
    error: str | None = None
    result: JsonValue = None
    emissions: tuple[Emission, ...] = ()
    pushes: tuple[PushMessage, ...] = ()
    cancelled: tuple[str, ...] = ()
    state: tuple[StateWrite, ...] = ()
    logs: tuple[LogLine, ...] = ()


class Sandbox(Protocol):
    """What runs listener code: listener_runtime's pool."""

    def run(self, request: RunRequest) -> Awaitable[RunOutcome]:
        """Run to its end; raises nothing for what the guest does."""
        ...
