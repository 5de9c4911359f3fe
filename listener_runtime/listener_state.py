"""`g.kv`: a listener's small state as one run sees it, and what the run has changed of it.

Pure. A run reads what was committed when it began, and its own writes over that. They leave it in
its outcome only, so a run that fails has changed nothing. Keys and values are whatever the guest
has written: they are checked here, and nothing but HostCallError comes out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from events.json_codec import JsonObject, JsonValue, decode, encode
from events.redaction import Redaction
from events.run import StateWrite
from listener_runtime.errors import HostCallError
from listener_runtime.guest_key import checked_key

MAX_KEYS: Final = 1_000
MAX_VALUE_BYTES: Final = 64 * 1024
MAX_WRITTEN_BYTES: Final = 8 * 1024 * 1024
_MAX_KEY_CHARS: Final = 200
CALL_NAMES: Final = ("kv.get", "kv.set", "kv.delete", "kv.list")


class _Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    key: str


class _Set(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    key: str
    value: object


class _List(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    prefix: str = ""


class ListenerState:
    """The state of one run; `committed` holds JSON by key and is never changed."""

    def __init__(self, committed: Mapping[str, bytes], redaction: Redaction) -> None:
        self._committed = committed
        self._redaction = redaction
        self._written: dict[str, bytes | None] = {}
        self._count = len(committed)
        self._written_bytes = 0
        self._handlers: dict[str, Callable[[JsonObject], JsonObject]] = {
            "kv.get": self._get,
            "kv.set": self._set,
            "kv.delete": self._delete,
            "kv.list": self._list,
        }

    @property
    def writes(self) -> tuple[StateWrite, ...]:
        """What the run changed, each key once."""
        return tuple(StateWrite(key, value) for key, value in self._written.items())

    def call(self, name: str, args: JsonObject) -> JsonObject:
        """Carry out what the guest asks for; raises HostCallError with what it is told."""
        handler = self._handlers.get(name)
        if handler is None:
            raise HostCallError(
                f"found the call {name[:80]!r}, expected one of {', '.join(CALL_NAMES)}"
            )
        try:
            return handler(args)
        except msgspec.ValidationError as error:
            raise HostCallError(f"{name}: {error}") from error

    def _get(self, args: JsonObject) -> JsonObject:
        value = self._value(_checked(msgspec.convert(args, _Key).key))
        return {} if value is None else {"value": decode(value)}

    def _set(self, args: JsonObject) -> JsonObject:
        key = self._redaction.text(_checked(msgspec.convert(args, _Set).key))
        value = self._encoded(args["value"])
        if self._value(key) is None:
            if self._count >= MAX_KEYS:
                raise HostCallError(
                    f"kv.set: found {MAX_KEYS:,} keys, which is the most for one listener; delete "
                    "some, or keep more in a database"
                )
            self._count += 1
        self._write(key, value)
        return {}

    def _delete(self, args: JsonObject) -> JsonObject:
        key = _checked(msgspec.convert(args, _Key).key)
        was_there = self._value(key) is not None
        if was_there:
            self._count -= 1
            self._write(key, None)
        return {"deleted": was_there}

    def _list(self, args: JsonObject) -> JsonObject:
        prefix = msgspec.convert(args, _List).prefix
        known = {key for key in self._committed if key not in self._written}
        known |= {key for key, value in self._written.items() if value is not None}
        keys: list[JsonValue] = [key for key in sorted(known) if key.startswith(prefix)]
        return {"keys": keys}

    def _value(self, key: str) -> bytes | None:
        return self._written[key] if key in self._written else self._committed.get(key)

    def _write(self, key: str, value: bytes | None) -> None:
        size_bytes = self._written_bytes - len(self._written.get(key) or b"") + len(value or b"")
        if size_bytes > MAX_WRITTEN_BYTES:
            raise HostCallError(
                f"kv.set: found {size_bytes:,} bytes, expected {MAX_WRITTEN_BYTES:,} at most in "
                "one run"
            )
        self._written_bytes = size_bytes
        if value is None and key not in self._committed:
            self._written.pop(key, None)
        else:
            self._written[key] = value

    def _encoded(self, given: JsonValue) -> bytes:
        try:
            value = encode(self._redaction.value(given))
        except (TypeError, RecursionError) as error:
            raise HostCallError(f"kv.set: found a value that JSON cannot hold: {error}") from error
        if len(value) > MAX_VALUE_BYTES:
            raise HostCallError(
                f"kv.set: found a value of {len(value):,} bytes, expected {MAX_VALUE_BYTES:,} at "
                "most; keep what is larger in a database"
            )
        return value


def _checked(key: str) -> str:
    return checked_key("g.kv", key, _MAX_KEY_CHARS)
