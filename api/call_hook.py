"""A hook as it is defined: code that sees a call before it is carried out.

Stands on `rowcast.definitions` as kind `hook`; what a file may say is in docs/custom-apis.md. Pure.
"""

from __future__ import annotations

import re
from typing import Final, Literal

import msgspec

from api.code_definition import CodeDefinition
from api.errors import ApiDefinitionError
from events.errors import PatternError
from events.event_type import EventPattern

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


class CallHook(CodeDefinition, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One hook: `before` is a pattern of API event types, `order` its place among several.

    `on_error` says what becomes of the call where the hook itself fails.
    """

    before: str
    order: int = 0
    on_error: Literal["refuse", "allow"] = "refuse"
    timeout_s: float = 5.0

    @property
    def kind(self) -> str:
        """What stands in the record's key."""
        return "hook"

    @property
    def summary(self) -> str:
        """For a list of definitions."""
        return f"before {self.before}"


def decode_call_hook(value: bytes) -> CallHook:
    """From a record's value; raises ApiDefinitionError where it is none."""
    try:
        return check_call_hook(msgspec.json.decode(value, type=CallHook))
    except (msgspec.DecodeError, RecursionError) as error:
        raise ApiDefinitionError(f"not a hook: {error}") from error


def check_call_hook(hook: CallHook) -> CallHook:
    """The definition itself where every field means something; raises ApiDefinitionError."""
    if not _NAME.fullmatch(hook.name):
        raise ApiDefinitionError(
            f"found the name {hook.name[:80]!r}, expected letters, digits, '_', '-' and '.', 128 "
            "at most, a letter or digit first"
        )
    try:
        pattern = EventPattern.parse(hook.before)
    except PatternError as error:
        raise ApiDefinitionError(f"`before`: {error}") from error
    if not pattern.segments or pattern.segments[0] != "api":
        raise ApiDefinitionError(
            f"found before = {hook.before!r}, expected the type of calls, such as "
            "api.data.shop.orders.created; only calls can be seen before they are carried out"
        )
    hook.check_limits()
    return hook
