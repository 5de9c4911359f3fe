"""The native protocol: what a client may say, and how each answer is written (docs/push.md).

Bytes and text in, typed messages out, or a MessageError that says what was found, what was
expected and how it is mended; nothing else is ever raised, whatever a client sends. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from events.errors import EventsError
from events.event_type import EventPattern
from events.json_codec import JsonObject, JsonValue, decode, encode
from events.names import encode_segment
from push.conditions import ConditionError, Conditions
from push.errors import MessageError, Ref
from push.frame import Frame
from push.positions import NOTHING, Positions

_MAX_REF_CHARS = 128
_MAX_TEXT_CHARS = 1_000
_MAX_INTEGER = 2**53
_EXAMPLE = '{"op": "register", "ref": "1", "pattern": "db.shop.public.orders.*"}'


@dataclass(frozen=True, slots=True)
class Auth:
    """A token, at the beginning or before the one in use ends."""

    ref: Ref
    token: str


@dataclass(frozen=True, slots=True)
class Register:
    """Events of a pattern that fulfil conditions, from positions on where they are given."""

    ref: Ref
    pattern: EventPattern
    conditions: Conditions
    positions: Positions | None


@dataclass(frozen=True, slots=True)
class Unregister:
    """The end of a registration."""

    ref: Ref
    id: int


@dataclass(frozen=True, slots=True)
class Ping:
    """Asks whether the server is there and, with `positions`, how far its events are sent."""

    ref: Ref
    positions: bool


Message: TypeAlias = Auth | Register | Unregister | Ping


def parse_message(text: str) -> Message:
    """The message that a client sent; raises MessageError."""
    try:
        value = decode(text)
    except ValueError as error:
        raise MessageError(
            "bad_json", f"found {_shown(text)}, expected a JSON object such as {_EXAMPLE}: {error}"
        ) from error
    except RecursionError as error:
        raise MessageError("bad_json", "found JSON too deep, expected it flat") from error
    if not isinstance(value, dict):
        raise MessageError(
            "bad_message", f"found {_shown(value)}, expected a JSON object such as {_EXAMPLE}"
        )
    fields = _Fields(value)
    operation = fields.take("op")
    parse = _OPERATIONS.get(operation) if isinstance(operation, str) else None
    if parse is None:
        raise fields.error(
            "unknown_op", f"found op {_shown(operation)}, expected {', '.join(_OPERATIONS)}"
        )
    return parse(fields)


class _Fields:
    """Fields of one message, each taken once; what is left over is unknown."""

    def __init__(self, value: JsonObject) -> None:
        self._left = dict(value)
        self.ref: Ref = None
        ref = self._left.pop("ref", None)
        short = isinstance(ref, str) and len(ref) <= _MAX_REF_CHARS
        whole = isinstance(ref, int) and not isinstance(ref, bool) and abs(ref) <= _MAX_INTEGER
        if ref is not None and not short and not whole:
            raise self.wrong("ref", ref, f"a string of {_MAX_REF_CHARS} characters, or a number")
        self.ref = ref if isinstance(ref, (str, int)) else None

    def take(self, name: str) -> JsonValue:
        return self._left.pop(name, None)

    def text(self, name: str) -> str | None:
        value = self.take(name)
        if value is not None and not isinstance(value, str):
            raise self.wrong(name, value, "a string")
        return value

    def object(self, name: str) -> JsonObject | None:
        value = self.take(name)
        if value is not None and (not isinstance(value, dict) or not value):
            raise self.wrong(name, value, 'fields and their values, such as {"id": 7}')
        return value

    def end(self, *known: str) -> None:
        for name in self._left:
            raise self.error(
                "unknown_field",
                f"found the field {_shown(name)}, expected op, ref, {', '.join(known)}",
            )

    def error(self, code: str, message: str) -> MessageError:
        return MessageError(code, message, self.ref)

    def wrong(self, name: str, value: JsonValue, expected: str) -> MessageError:
        return self.error("bad_field", f"found {name} {_shown(value)}, expected {expected}")


def _auth(fields: _Fields) -> Auth:
    token = fields.text("token")
    fields.end("token")
    if token is None:
        raise fields.wrong("token", None, "a token; `rowcast token` makes one")
    return Auth(fields.ref, token)


def _register(fields: _Fields) -> Register:
    pattern = _pattern(fields)
    key, row = fields.object("key"), fields.object("filter")
    positions = _positions(fields)
    fields.end("pattern or channel", "key", "filter", "from")
    try:
        conditions = Conditions.parse(key, row)
    except ConditionError as error:
        raise fields.error("bad_field", f"in key or filter: {error}") from error
    return Register(fields.ref, pattern, conditions, positions)


def _pattern(fields: _Fields) -> EventPattern:
    text, channel = fields.text("pattern"), fields.text("channel")
    if (text is None) == (channel is None):
        both = "both pattern and channel" if text is not None else "neither pattern nor channel"
        raise fields.error("bad_field", f"found {both}, expected one of them, as in {_EXAMPLE}")
    try:
        text = channel_type(channel) if channel is not None else text or ""
        if len(text) > _MAX_TEXT_CHARS:
            raise fields.wrong("pattern", text, f"{_MAX_TEXT_CHARS} characters at most")
        return EventPattern.parse(text)
    except EventsError as error:
        name = "pattern" if channel is None else "channel"
        raise fields.error("bad_field", f"in {name}: {error}") from error


def channel_type(channel: str) -> str:
    """The event type of a channel's messages, as the router writes them."""
    parts = [encode_segment(part) for part in channel.split(".") if part]
    return ".".join(("push", *(parts or [encode_segment("")])))


def _positions(fields: _Fields) -> Positions | None:
    given = fields.take("from")
    if given is None:
        return None
    if not isinstance(given, dict):
        raise fields.wrong("from", given, _POSITIONS)
    found: Positions = {}
    for topic, offsets in given.items():
        if not isinstance(offsets, list):
            raise fields.wrong("from", given, _POSITIONS)
        whole: list[int] = []
        for offset in offsets:
            if isinstance(offset, bool) or not isinstance(offset, int) or offset < NOTHING:
                raise fields.wrong("from", given, _POSITIONS)
            whole.append(offset)
        found[topic] = whole
    return found


_POSITIONS = 'positions as `registered` gave them, such as {"shop.public.orders": [17, -1]}'


def _unregister(fields: _Fields) -> Unregister:
    value = fields.take("id")
    fields.end("id")
    if isinstance(value, bool) or not isinstance(value, int):
        raise fields.wrong("id", value, "the number that `registered` gave")
    return Unregister(fields.ref, value)


def _ping(fields: _Fields) -> Ping:
    value = fields.take("positions")
    fields.end("positions")
    if value is not None and not isinstance(value, bool):
        raise fields.wrong("positions", value, "true or false")
    return Ping(fields.ref, value or False)


_OPERATIONS: Mapping[str, Callable[[_Fields], Message]] = {
    "auth": _auth,
    "register": _register,
    "unregister": _unregister,
    "ping": _ping,
}


def answer(operation: str, **fields: object) -> Frame:
    """A frame of the server's, other than an event."""
    return Frame.of(encode({"op": operation, **fields}))


def error_answer(error: MessageError) -> Frame:
    """The frame that says what is wrong with a message."""
    return answer("error", ref=error.ref, code=error.code, message=str(error))


def _shown(value: JsonValue) -> str:
    text = value if isinstance(value, str) else repr(value)
    return (
        repr(text[:80]) + ("…" if len(text) > 80 else "") if isinstance(value, str) else text[:80]
    )
