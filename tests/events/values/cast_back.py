"""From a value's JSON back to what PostgreSQL reads, digit for digit."""

from __future__ import annotations

import json
from typing import cast

import orjson

from events.json_codec import JsonValue


def exact(encoded: bytes) -> JsonValue:
    """The JSON value with numbers as their text, so that no digit is lost here."""
    orjson.loads(encoded)  # takes no NaN, which json does
    return cast("JsonValue", json.loads(encoded, parse_int=str, parse_float=str))


def cast_text(value: JsonValue, *, delimiter: str = ",") -> str | None:
    """What is given to PostgreSQL to read the value again."""
    match value:
        case None:
            return None
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case list():
            return "{" + delimiter.join(array_item(item, delimiter) for item in value) + "}"
        case _:
            return json.dumps(value)


def array_item(value: JsonValue, delimiter: str) -> str:
    if isinstance(value, list):
        return cast_text(value, delimiter=delimiter) or ""
    text = cast_text(value)
    if text is None:
        return "NULL"
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
