"""What a run has said so far, within bounds, and the outcome that it makes in the end.

Pure. A run that passes a bound on what has effects (emissions, pushes, result) fails with a
message; what is only for reading (logs, output) is cut, and says that it was.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from events.errors import EventsError
from events.event_schema import EventSchemas
from events.event_type import check_custom_type, schedule_type
from events.json_codec import JsonValue
from events.redaction import Redaction
from events.run import Emission, LogLine, PushMessage, RunOutcome
from listener_runtime.frames import Cancel, Done, Emit, Ending, Log, Push, checked_size

FailureStatus: TypeAlias = Literal["failed", "timeout", "killed"]

MAX_EFFECTS: Final = 10_000
MAX_EFFECT_BYTES: Final = 8 * 1024 * 1024
MAX_RESULT_BYTES: Final = 1024 * 1024
MAX_LOG_LINES: Final = 1_000
MAX_LOG_BYTES: Final = 256 * 1024
MAX_ERROR_CHARS: Final = 16_000
_MAX_KEY_CHARS: Final = 1_000
_MAX_CHANNEL_CHARS: Final = 200
MAX_DELAYED_BYTES: Final = 256 * 1024
"""What is pending stands in the scheduler's memory."""
MAX_DELAY_S: Final = 10 * 366 * 86_400
MAX_DUE_MS: Final = 253_402_300_799_000
"""The end of the year 9999."""
_MAX_NAME_CHARS: Final = 200


class RunRecord:
    """Collects one run's messages."""

    def __init__(self, redaction: Redaction, schemas: EventSchemas | None = None) -> None:
        self._redaction = redaction
        self._schemas = schemas
        self._emissions: list[Emission | None] = []
        self._named: dict[str, list[int]] = {}
        self._pushes: list[PushMessage] = []
        self._cancelled: dict[str, None] = {}
        self._logs: list[LogLine] = []
        self._effects = 0
        self._effect_bytes = 0
        self._log_bytes = 0
        self._lost_lines = 0
        self._refusal: str | None = None

    def emit(self, message: Emit) -> None:
        """Take an emission in."""
        if self._refusal is not None:
            return
        try:
            event_type = _event_type(message)
            if self._schemas is not None:
                self._schemas.check(event_type, message.data)
        except EventsError as error:
            self._refuse(f"{'g.schedule' if message.recurrence else 'g.emit'}: {error}")
            return
        data = self._effect("g.emit", message.data)
        key = message.key
        if key is not None and len(key) > _MAX_KEY_CHARS:
            self._refuse(f"g.emit: found a key of {len(key):,} characters, expected at most 1,000")
            return
        name = message.name
        emission = Emission(
            event_type,
            data,
            key and self._redaction.text(key),
            message.delay_s,
            message.due_ms,
            name and self._redaction.text(name),
            message.recurrence,
        )
        if not self._is_schedule(emission):
            return
        if emission.name is not None:
            self._named.setdefault(emission.name, []).append(len(self._emissions))
        self._emissions.append(emission)

    def cancel(self, message: Cancel) -> None:
        """Take the end of a schedule in; one that this run asked for is not asked for."""
        if self._refusal is not None or not self._is_schedule_name(message.name):
            return
        name = self._redaction.text(message.name)
        self._effect("g.schedule.cancel", None)
        self._cancelled[name] = None
        for index in self._named.pop(name, ()):
            self._emissions[index] = None

    def push(self, message: Push) -> None:
        """Take a message for a channel in."""
        if self._refusal is not None:
            return
        if not message.channel.strip(".") or len(message.channel) > _MAX_CHANNEL_CHARS:
            self._refuse(
                f"g.push: found the channel {message.channel[:50]!r}, expected a name of at most "
                f"{_MAX_CHANNEL_CHARS} characters"
            )
            return
        data = self._effect("g.push", message.data)
        self._pushes.append(PushMessage(message.channel, data))

    def log(self, message: Log) -> None:
        """Take a line in."""
        try:
            size = checked_size(message.fields) + len(message.message)
        except ValueError:
            self._lost_lines += 1
            return
        fields = self._redaction.object(message.fields)
        self._append(LogLine(message.level, self._redaction.text(message.message), fields), size)

    def outcome(self, done: Done, ending: Ending, duration_ms: float) -> RunOutcome:
        """How the run ended."""
        for line in ending.output.splitlines():
            self._append(LogLine("info", self._redaction.text(line)), len(line))
        if ending.output_lost_bytes > 0:
            note = f"{ending.output_lost_bytes:,} bytes more were printed and are lost"
            self._logs.append(LogLine("warning", note))
        if not done.ok:
            return self.failure("failed", done.error or "the code failed", duration_ms)
        result: JsonValue = self._redaction.value(done.result)
        try:
            size = checked_size(result)
        except ValueError as error:
            self._refuse(f"main returned a value that JSON cannot hold: {error}")
        else:
            if size > MAX_RESULT_BYTES:
                self._refuse(
                    f"main returned {size:,} bytes, expected {MAX_RESULT_BYTES:,} at most; emit "
                    "or store what is larger"
                )
        if self._refusal is not None:
            return self.failure("failed", self._refusal, duration_ms)
        return RunOutcome(
            "ok",
            duration_ms,
            result=result,
            emissions=tuple(one for one in self._emissions if one is not None),
            pushes=tuple(self._pushes),
            cancelled=tuple(self._cancelled),
            logs=self._all_logs(),
        )

    def failure(self, status: FailureStatus, error: str, duration_ms: float) -> RunOutcome:
        """A run that did not end well; what it asked for is not done."""
        text = self._redaction.text(error)[-MAX_ERROR_CHARS:]
        return RunOutcome(status, duration_ms, text, logs=self._all_logs())

    def _effect(self, what: str, data: JsonValue) -> JsonValue:
        self._effects += 1
        if self._effects > MAX_EFFECTS:
            self._refuse(f"{what}: more than {MAX_EFFECTS:,} events and messages in one run")
            return None
        try:
            self._effect_bytes += checked_size(data)
        except ValueError as error:
            self._refuse(f"{what}: found data that JSON cannot hold: {error}")
            return None
        if self._effect_bytes > MAX_EFFECT_BYTES:
            self._refuse(
                f"{what}: found {self._effect_bytes:,} bytes of data, expected at most "
                f"{MAX_EFFECT_BYTES:,} in one run; emit a reference to the data instead"
            )
            return None
        return self._redaction.value(data)

    def _is_schedule(self, emission: Emission) -> bool:
        """Whether when it is to be emitted means something; refuses it otherwise."""
        delay_s, due_ms, name = emission.delay_s, emission.due_ms, emission.name
        if not emission.is_delayed:
            if name is not None:
                self._refuse(f"g.emit: found the name {name[:50]!r} of an event without a delay")
            return self._refusal is None
        if delay_s is not None and (due_ms is not None or not 0 <= delay_s <= MAX_DELAY_S):
            self._refuse(
                f"g.emit: found delay = {delay_s} s, expected 0 to {MAX_DELAY_S:,}, ten years"
            )
        elif due_ms is not None and not 0 <= due_ms <= MAX_DUE_MS:
            self._refuse(
                f"g.schedule: found {due_ms} ms as a time, expected the years 1970 to 9999"
            )
        elif name is not None and not self._is_schedule_name(name):
            return False
        elif (size := checked_size(emission.data)) > MAX_DELAYED_BYTES:
            self._refuse(
                f"g.schedule: found {size:,} bytes of data, expected {MAX_DELAYED_BYTES:,} at most "
                "for an event that is emitted later; schedule a reference to the data instead"
            )
        return self._refusal is None

    def _is_schedule_name(self, name: str) -> bool:
        if not name.strip() or len(name) > _MAX_NAME_CHARS:
            self._refuse(
                f"g.schedule: found the name {name[:50]!r}, expected at most {_MAX_NAME_CHARS} "
                "characters, one of them no space"
            )
        return self._refusal is None

    def _append(self, line: LogLine, size_bytes: int) -> None:
        full = len(self._logs) >= MAX_LOG_LINES or self._log_bytes + size_bytes > MAX_LOG_BYTES
        if full:
            self._lost_lines += 1
            return
        self._log_bytes += size_bytes
        self._logs.append(line)

    def _all_logs(self) -> tuple[LogLine, ...]:
        if self._lost_lines == 0:
            return tuple(self._logs)
        note = f"{self._lost_lines:,} lines more were written and are lost"
        return (*self._logs, LogLine("warning", note))

    def _refuse(self, reason: str) -> None:
        self._refusal = self._refusal or reason


def _event_type(message: Emit) -> str:
    """The type of what is emitted; raises EventsError where it means nothing."""
    if message.recurrence is None:
        return check_custom_type(message.type)
    message.recurrence.check()
    return schedule_type(message.name or "")
