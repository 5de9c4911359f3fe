"""What a custom API returned, as the answer that it is. Pure.

A dict with an integer `status` and no keys but `headers`, `body` and `base64` is an answer of its
own; whatever else is returned is answered as JSON with 200.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final, TypeGuard

from api.answer import JSON, Answer
from events.json_codec import JsonObject, JsonValue, encode

_KEYS: Final = frozenset(("status", "headers", "body", "base64"))
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_VALUE_CHARS_MAX: Final = 8_000
_HEADERS_MAX: Final = 100
_OURS: Final = frozenset(
    (
        *("connection", "content-length", "keep-alive", "proxy-authenticate", "te", "trailer"),
        *("transfer-encoding", "upgrade", "date", "server", "rowcast-call", "rowcast-chain"),
    )
)
_BODILESS: Final = frozenset((204, 205, 304))


class IllegalAnswerError(Exception):
    """What was returned cannot be sent; the message says why."""


def function_answer(result: JsonValue) -> Answer:
    """The answer; raises IllegalAnswerError where HTTP cannot send it."""
    if not _is_answer(result):
        return Answer(200, encode(result), JSON)
    status, headers = result["status"], result.get("headers")
    if not isinstance(status, int) or not 200 <= status <= 599:
        raise IllegalAnswerError(f"found the status {status}, expected 200 to 599")
    content_type, others = _headers(headers if headers is not None else {})
    body, content_type = _body(result, content_type)
    if status in _BODILESS:
        body, content_type = b"", None
    return Answer(status, body, content_type, tuple(others))


def _is_answer(result: JsonValue) -> TypeGuard[JsonObject]:
    return (
        isinstance(result, dict)
        and set(result) <= _KEYS
        and isinstance(result.get("status"), int)
        and not isinstance(result["status"], bool)
    )


def _body(result: JsonObject, content_type: str | None) -> tuple[bytes, str | None]:
    body = result.get("body")
    if result.get("base64"):
        if not isinstance(body, str):
            raise IllegalAnswerError("found `base64` without a text as the body")
        try:
            data = base64.b64decode(body, validate=True)
        except (binascii.Error, ValueError) as error:
            raise IllegalAnswerError(f"the body is no base64: {error}") from error
        return data, content_type or "application/octet-stream"
    if isinstance(body, str):
        return body.encode(), content_type or "text/plain; charset=utf-8"
    if "body" not in result:
        return b"", content_type
    return encode(body), content_type or JSON


def _headers(headers: JsonValue) -> tuple[str | None, list[tuple[str, str]]]:
    """The content type, and all others."""
    if not isinstance(headers, dict) or len(headers) > _HEADERS_MAX:
        raise IllegalAnswerError(f"expected a dict of {_HEADERS_MAX} headers at most")
    content_type: str | None = None
    others: list[tuple[str, str]] = []
    for given, values in headers.items():
        name = given.lower()
        if not _TOKEN.fullmatch(given):
            raise IllegalAnswerError(f"found the header name {given[:100]!r}")
        if name in _OURS:
            raise IllegalAnswerError(f"found the header {given!r}, which Rowcast sets itself")
        for value in values if isinstance(values, list) else [values]:
            text = _value(given, value)
            if name == "content-type":
                content_type = text
            else:
                others.append((name, text))
    return content_type, others


def _value(name: str, value: JsonValue) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise IllegalAnswerError(f"found {type(value).__name__} as the header {name!r}")
    text = str(value)
    if len(text) > _VALUE_CHARS_MAX or not _VALUE.fullmatch(text) or text != text.strip():
        raise IllegalAnswerError(f"found {text[:100]!r} as the header {name!r}")
    return text
