"""Frames between us and a sandbox process (guest/main.mjs draws the other side).

A frame is a little-endian u32 with the length, then a letter and a body; in a message `r` says
which run of its frame it is of. Pure: bytes in, values out. All that comes out of a process may be
forged by the guest, so every message is checked, and what is none is a FrameError, which ends the
process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import msgspec

from events.json_codec import JsonObject, JsonValue, encode
from events.recurrence import Recurrence
from listener_runtime.errors import FrameError

LENGTH_BYTES: Final = 4
MAX_FRAME_BYTES: Final = 32 * 1024 * 1024
"""More than any run needs: what a run may answer with is bounded well below."""

_MAX_DEPTH_SLACK: Final = 8


class Call(msgspec.Struct, frozen=True, tag_field="t", tag="call"):
    """A host call that waits for its answer."""

    id: int
    name: str
    args: dict[str, Any]
    r: int = 0


class Emit(msgspec.Struct, frozen=True, tag_field="t", tag="emit"):
    """An event to emit if the run ends well, at once, after `delay_s`, at `due_ms` or again and
    again.
    """

    type: str
    data: Any = None
    key: str | None = None
    delay_s: float | None = None
    due_ms: int | None = None
    name: str | None = None
    recurrence: Recurrence | None = None
    r: int = 0


class Cancel(msgspec.Struct, frozen=True, tag_field="t", tag="cancel"):
    """A schedule, by its name, to end if the run ends well."""

    name: str
    r: int = 0


class Push(msgspec.Struct, frozen=True, tag_field="t", tag="push"):
    """A message to push if the run ends well."""

    channel: str
    data: Any = None
    r: int = 0


class Log(msgspec.Struct, frozen=True, tag_field="t", tag="log"):
    """A line of the run's log."""

    level: Literal["debug", "info", "warning", "error"]
    message: str
    fields: dict[str, Any] = {}
    r: int = 0


class Done(msgspec.Struct, frozen=True, tag_field="t", tag="done"):
    """How the code ended."""

    ok: bool
    result: Any = None
    error: str | None = None
    r: int = 0


GuestMessage: TypeAlias = Call | Emit | Cancel | Push | Log | Done


class Ending(msgspec.Struct, frozen=True):
    """What the process itself says of a run that is done."""

    output: str
    output_lost_bytes: int
    heap_bytes: int


@dataclass(frozen=True, slots=True)
class Started:
    """A process is ready; `heap_bytes` is the size of its pristine memory.

    `not_imported` says which modules of its packages could not be imported, and why.
    """

    heap_bytes: int
    not_imported: dict[str, str]


@dataclass(frozen=True, slots=True)
class Said:
    """What a guest said during a run or, with `ending`, at its end."""

    messages: list[GuestMessage]
    size_bytes: int
    ending: Ending | None = None


class _StartedBody(msgspec.Struct, frozen=True):
    heap_bytes: int
    not_imported: dict[str, str] = {}


_messages = msgspec.json.Decoder(GuestMessage)
_endings = msgspec.json.Decoder(Ending)
_starts = msgspec.json.Decoder(_StartedBody)


class RunHead(msgspec.Struct, frozen=True):
    """What a guest is told of one run beside its event."""

    attempt: int
    root: str
    path: tuple[str, ...]


class BatchHead(msgspec.Struct, frozen=True):
    """What a process is told of a frame of runs; `keep` leaves memory as the runs leave it;
    `modules` are the code of those that the listener may import.
    """

    listener: str
    events_bytes: int
    memory_mb: int
    secrets: dict[str, str]
    runs: tuple[RunHead, ...]
    keep: bool = False
    modules: dict[str, str] = {}


def run_frame(
    listener: str,
    code: str,
    runs: Sequence[tuple[RunHead, bytes]],
    *,
    memory_mb: int,
    secrets: dict[str, str],
    keep: bool,
    modules: dict[str, str] | None = None,
) -> bytes:
    """Start runs of one listener, each with its event's JSON."""
    events = b"[" + b",".join(event for _, event in runs) + b"]"
    heads = tuple(head for head, _ in runs)
    head = BatchHead(listener, len(events), memory_mb, secrets, heads, keep, modules or {})
    return _frame(b"R" + msgspec.json.encode(head) + b"\n" + events + code.encode())


RESET_FRAME: Final = (1).to_bytes(LENGTH_BYTES, "little") + b"Z"
"""Puts everything back, after frames that kept memory."""


def answer_frame(call: int, value: JsonValue) -> bytes:
    """Answer a host call."""
    return _frame(b"V" + encode({"id": call, "value": value}))


def refusal_frame(call: int, error: str) -> bytes:
    """Answer a host call with an error."""
    return _frame(b"V" + encode({"id": call, "error": error}))


def decode_length(prefix: bytes) -> int:
    """The length that a frame begins with; raises FrameError where it is out of bounds."""
    length = int.from_bytes(prefix, "little")
    if not 0 < length <= MAX_FRAME_BYTES:
        raise FrameError(f"found a frame of {length:,} bytes, expected {MAX_FRAME_BYTES:,} at most")
    return length


def decode_frame(payload: bytes) -> Started | Said:
    """What a process sent; raises FrameError where it is nothing of the protocol."""
    kind, body = payload[:1], payload[1:]
    try:
        match kind:
            case b"G":
                return Said(_lines(body), len(body))
            case b"D":
                head, _, rest = body.partition(b"\n")
                return Said(_lines(rest), len(body), _endings.decode(head))
            case b"S":
                started = _starts.decode(body)
                return Started(started.heap_bytes, started.not_imported)
            case _:
                raise FrameError(f"found a frame of kind {kind!r}, expected S, G or D")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FrameError(f"found a frame that is not of the protocol: {error}") from error


def checked_size(value: JsonValue | JsonObject) -> int:
    """Bytes of a value as JSON, leaving room for what it will stand in.

    Raises ValueError where it is nested too deep or holds a number that JSON cannot.
    """
    wrapped: JsonValue = value
    for _ in range(_MAX_DEPTH_SLACK):
        wrapped = [wrapped]
    try:
        return len(encode(wrapped)) - 2 * _MAX_DEPTH_SLACK
    except TypeError as error:
        raise ValueError(str(error)) from error


def _lines(body: bytes) -> list[GuestMessage]:
    return [_messages.decode(line) for line in body.splitlines()]


def _frame(body: bytes) -> bytes:
    return len(body).to_bytes(LENGTH_BYTES, "little") + body
