"""What a hook returned: go on, go on with something else, or refuse. Pure.

None and `{}` go on; `{"query": {...}, "body": ...}` goes on with these in the place of what was
asked; `{"refuse": {"status": 403, "message": ...}}` or `{"refuse": "message"}` refuses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from events.json_codec import JsonObject, JsonValue

_CHANGES: Final = frozenset(("query", "body"))
_REFUSAL: Final = frozenset(("status", "code", "message", "details", "hint"))
_CHARS_MAX: Final = 2_000


class MeaninglessError(Exception):
    """What a hook returned means nothing; the message says why."""


@dataclass(frozen=True, slots=True)
class HookAnswer:
    """Go on, with another query or body where they are given."""

    query: JsonObject | None = None
    body: JsonValue = None
    has_body: bool = False

    def described(self) -> JsonObject:
        """For the run's record: what was changed, not to what."""
        changed = ["query"] if self.query is not None else []
        return {"changed": [*changed, *(["body"] if self.has_body else [])]}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Refuse the call with an error in PostgREST's form."""

    message: str
    status: int = 403
    code: str = "RC403"
    details: str | None = None
    hint: str | None = None

    def described(self) -> JsonObject:
        """For the run's record."""
        return {"refused": self.status, "message": self.message}


def hook_answer(result: JsonValue) -> HookAnswer | Refusal:
    """Read what a hook returned; raises MeaninglessError."""
    if result is None:
        return HookAnswer()
    if not isinstance(result, dict):
        raise MeaninglessError(f"found {type(result).__name__}, expected None or a dict")
    if "refuse" in result:
        if len(result) > 1:
            raise MeaninglessError("found `refuse` beside other keys")
        return _refusal(result["refuse"])
    if not set(result) <= _CHANGES:
        raise MeaninglessError(f"found {sorted(result)}, expected `refuse`, or `query` and `body`")
    query = result.get("query")
    if query is not None and not isinstance(query, dict):
        raise MeaninglessError(f"found {type(query).__name__} as the query, expected a dict")
    return HookAnswer(query, result.get("body"), "body" in result)


def _refusal(value: JsonValue) -> Refusal:
    if isinstance(value, str):
        return Refusal(value[:_CHARS_MAX])
    if not isinstance(value, dict) or not set(value) <= _REFUSAL:
        raise MeaninglessError(f"expected `refuse` to be a message or of {sorted(_REFUSAL)}")
    status = value.get("status", 403)
    if isinstance(status, bool) or not isinstance(status, int) or not 400 <= status <= 599:
        raise MeaninglessError(f"found the status {status!r} of a refusal, expected 400 to 599")
    message = _text(value, "message") or "The call was refused"
    code = _text(value, "code") or f"RC{status}"
    return Refusal(message, status, code, _text(value, "details"), _text(value, "hint"))


def _text(value: JsonObject, key: str) -> str | None:
    found = value.get(key)
    if found is not None and not isinstance(found, str):
        raise MeaninglessError(f"found {type(found).__name__} as {key!r}, expected a text")
    return found[:_CHARS_MAX] if found is not None else None
