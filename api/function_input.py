"""What a custom API is given of a request, and whether that keeps its schema. Pure.

The input of a method with a body is the body; of GET, HEAD and DELETE it is the query's
parameters, which are read as the types that the schema names for them.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast
from urllib.parse import parse_qsl

from api.custom_api import READING, CustomApi
from api.errors import ApiError
from events.errors import InvalidDataError
from events.event_schema import JsonSchema
from events.json_codec import JsonObject, JsonValue, decode, encode

PARAMETERS_MAX: Final = 1_000
_WITHHELD: Final = frozenset(
    ("authorization", "proxy-authorization", "apikey", "cookie", "rowcast-chain")
)
"""Headers that code does not see: what they hold is the caller's, or ours."""
_WORDS: Final = {"true": True, "false": False}

Query = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class CodeBody:
    """A body as code sees it: JSON, text, or base64 of other bytes; None where there is none."""

    value: JsonValue
    is_base64: bool = False

    @classmethod
    def of(cls, data: bytes, content_type: str) -> CodeBody:
        """From a request; raises ApiError (400) for JSON that is none."""
        kind = content_type.partition(";")[0].strip().lower()
        if not data:
            return cls(None)
        if kind in ("", "application/json") or kind.endswith("+json"):
            try:
                return cls(decode(data))
            except ValueError as error:
                if not kind:
                    return cls.of(data, "text/plain")
                raise ApiError(
                    400, "PGRST102", "Empty or invalid json", details=str(error)
                ) from error
        try:
            text = data.decode()
        except UnicodeDecodeError:
            return cls(base64.b64encode(data).decode(), is_base64=True)
        return cls(text)


def visible_headers(headers: Mapping[str, str]) -> JsonObject:
    """The headers that code may see."""
    return {name: value for name, value in headers.items() if name not in _WITHHELD}


def encode_argument(argument: JsonObject) -> bytes:
    """What code is given; raises ApiError (400) for a body that JSON's writers do not go into."""
    try:
        return encode(argument)
    except TypeError as error:
        raise ApiError(
            400, "PGRST102", "The body is nested too deep", details=str(error)[:500]
        ) from error


def read_query(text: str) -> list[tuple[str, str]]:
    """The parameters of a query string; raises ApiError (400) for what is none."""
    try:
        return parse_qsl(text, keep_blank_values=True, max_num_fields=PARAMETERS_MAX)
    except ValueError as error:
        raise ApiError(400, "RC400", "The query cannot be read", details=str(error)) from error


def query_object(query: Query) -> JsonObject:
    """Parameters by name; a list where one is there several times."""
    found: JsonObject = {}
    for name, value in query:
        present = found.get(name)
        if name not in found:
            found[name] = value
        elif isinstance(present, list):
            present.append(value)
        else:
            found[name] = [present, value]
    return found


def query_pairs(query: Mapping[str, JsonValue]) -> list[tuple[str, str]]:
    """The other way round; raises ValueError for what is no text, number or word."""
    pairs: list[tuple[str, str]] = []
    for name, value in query.items():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, str):
                pairs.append((name, one))
            elif isinstance(one, (dict, list)) or one is None:
                raise ValueError(f"found {type(one).__name__} as the parameter {name!r}")
            else:
                pairs.append((name, encode(one).decode()))
    return pairs


def checked_query(
    api: CustomApi, schema: JsonSchema | None, method: str, query: Query
) -> JsonObject:
    """The parameters, read as the schema's types; raises ApiError (422) where they break it."""
    found = query_object(query)
    if schema is None or method not in READING:
        return found
    input_schema = cast("JsonValue", api.schema)
    properties = input_schema.get("properties") if isinstance(input_schema, dict) else None
    if isinstance(properties, dict):
        for name, value in found.items():
            found[name] = _typed(value, properties.get(name))
    check_input(schema, found)
    return found


def check_input(schema: JsonSchema, value: JsonValue) -> None:
    """Raise ApiError (422) where an input does not keep its schema; its details say where."""
    try:
        schema.check(value)
    except InvalidDataError as error:
        details: JsonObject = {"path": error.path, "problem": error.problem}
        raise ApiError(
            422,
            "RC422",
            f"The input does not keep its schema: {error.problem}, at {error.path}",
            details=encode(details).decode(),
            hint="GET /functions/v1/ describes the input",
        ) from error


def _typed(value: JsonValue, schema: JsonValue) -> JsonValue:
    """A parameter as its schema's type; as it is where it is none of those."""
    wanted = schema.get("type") if isinstance(schema, dict) else None
    kinds = wanted if isinstance(wanted, list) else [wanted]
    if "array" in kinds:
        items = schema.get("items") if isinstance(schema, dict) else None
        return [_typed(one, items) for one in (value if isinstance(value, list) else [value])]
    if not isinstance(value, str) or "string" in kinds:
        return value
    if "boolean" in kinds and value in _WORDS:
        return _WORDS[value]
    return _number(value) if "integer" in kinds or "number" in kinds else value


def _number(text: str) -> JsonValue:
    try:
        number = decode(text)
    except ValueError:
        return text
    return text if isinstance(number, bool) or not isinstance(number, (int, float)) else number
