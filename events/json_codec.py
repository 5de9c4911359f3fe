"""JSON in and out, and the types that say what JSON is.

One encoder for the whole product, so that the same value has the same bytes wherever it is
written. Numbers that JSON cannot hold are refused rather than turned into null, which is what
orjson does unasked (https://github.com/ijl/orjson#float).
"""

from __future__ import annotations

import math
from typing import TypeAlias, cast

import orjson

JsonValue: TypeAlias = "None | bool | int | float | str | list[JsonValue] | dict[str, JsonValue]"
JsonObject: TypeAlias = "dict[str, JsonValue]"


def encode(value: object) -> bytes:
    """Compact UTF-8 JSON of a value.

    Raises TypeError for a value that JSON cannot hold, NaN and infinities included.
    """
    try:
        encoded = orjson.dumps(value)
    except orjson.JSONEncodeError as error:
        raise TypeError(str(error)) from error
    if b"null" in encoded:
        _refuse_non_finite(value)
    return encoded


def encode_key(key: JsonObject) -> bytes:
    """A record key: the object's fields in the order given, since that is the key's order."""
    return encode(key)


def decode(data: bytes | str) -> JsonValue:
    """The JSON value; raises ValueError where the bytes are not JSON."""
    return cast("JsonValue", orjson.loads(data))


def decode_object(data: bytes | str) -> JsonObject:
    """The JSON object; raises ValueError where the bytes are not JSON or not an object."""
    value = decode(data)
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object, found {type(value).__name__}")
    return value


def _refuse_non_finite(value: object) -> None:
    if isinstance(value, float):
        if not math.isfinite(value):
            raise TypeError(f"JSON cannot hold the number {value}")
    elif isinstance(value, dict):
        for item in cast("dict[object, object]", value).values():
            _refuse_non_finite(item)
    elif isinstance(value, (list, tuple)):
        for item in cast("list[object]", value):
            _refuse_non_finite(item)
