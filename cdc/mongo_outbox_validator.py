"""The validator of the outbox's collection: what is no event is refused where it is inserted.

MongoDB's `$jsonSchema` is less than JSON Schema, and sees BSON where we see Extended JSON, so only
what means the same is translated: it refuses nothing that capture would take, and what it lets
through capture still checks. Pure.
https://www.mongodb.com/docs/v6.0/reference/operator/query/jsonSchema/
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from events.errors import InvalidDataError
from events.event_schema import EventSchemas
from events.json_codec import JsonObject, JsonValue

TITLE: Final = "Rowcast outbox"
"""By which a validator is known as ours."""

KEY_CHARS_MAX: Final = 1_000
_INTEGER_MAX: Final = 2**63
# What stands as an object in relaxed Extended JSON; of a double, NaN and the infinities.
_AS_OBJECTS: Final = (
    *("object", "objectId", "date", "binData", "decimal", "timestamp", "regex", "javascript"),
    *("javascriptWithScope", "minKey", "maxKey", "dbPointer", "symbol", "undefined", "double"),
)
_BSON_TYPES: Final[dict[str, tuple[str, ...]]] = {
    "string": ("string",),
    "number": ("int", "long", "double"),
    "integer": ("int", "long", "double"),
    "boolean": ("bool",),
    "null": ("null",),
    "array": ("array",),
    "object": _AS_OBJECTS,
}
_COUNTS: Final = frozenset(("minLength", "maxLength", "minItems", "maxItems"))


def outbox_validator(schemas: EventSchemas) -> JsonObject:
    """What `collMod` takes as a validator."""
    outer: JsonObject = {
        "title": TITLE,
        "bsonType": "object",
        "required": ["type"],
        "properties": {
            "type": {"bsonType": "string", "pattern": r"^custom(\.[A-Za-z0-9_-]+)+$"},
            "key": {"bsonType": ["string", "null"], "maxLength": KEY_CHARS_MAX},
        },
    }
    known = [event_type for event_type, _ in schemas.items()]
    if known:
        others: JsonObject = {"properties": {"type": {"not": {"enum": [*known]}}}}
        forms = [_of_type(name, schema, schemas) for name, schema in schemas.items()]
        outer["anyOf"] = [others, *forms]
    return {"$jsonSchema": outer}


def _of_type(event_type: str, schema: JsonValue, schemas: EventSchemas) -> JsonObject:
    form: JsonObject = {
        "properties": {"type": {"enum": [event_type]}, "data": bson_schema(schema)},
    }
    try:
        schemas.check(event_type, {})  # what a document without data has
    except InvalidDataError:
        form["required"] = ["data"]
    return form


def bson_schema(schema: JsonValue) -> JsonObject:
    """What MongoDB can hold of a schema for a value; each keyword stands for itself in `allOf`."""
    if not isinstance(schema, dict):
        return {} if schema else {"not": {}}
    every: list[JsonValue] = [
        made
        for word, value in schema.items()
        if (made := _of_scalar(word, value) or _of_parts(schema, word, value)) is not None
    ]
    return {"allOf": every} if every else {}


def _of_scalar(word: str, value: JsonValue) -> JsonObject | None:
    match word, value:
        case "type", _:
            names = value if isinstance(value, list) else [value]
            kinds = {kind: None for name in names for kind in _BSON_TYPES[str(name)]}
            return {"bsonType": [*kinds]}
        case ("enum", [_, *_]) if all(map(_is_same_in_bson, value)):
            return {"anyOf": [{"enum": [one]} for one in value]}
        case "const", _ if _is_same_in_bson(value):
            return {"enum": [value]}
        case (("minimum" | "maximum"), int() | float()) if abs(value) < _INTEGER_MAX:
            # A decimal is an object to us, which no bound is for.
            return {"anyOf": [{"bsonType": "decimal"}, {word: value}]}
        case _, int() if word in _COUNTS:
            return {word: value}
        case _:
            return None


def _of_parts(schema: JsonObject, word: str, value: JsonValue) -> JsonObject | None:
    match word, value:
        case ("required", [_, *_]) if _are_plain(value):
            return {"required": value}
        case ("properties", dict()) if _are_plain(value):
            made: JsonObject = {
                "properties": {name: bson_schema(one) for name, one in value.items()}
            }
            # It counts what stands beside it.
            if schema.get("additionalProperties") is False and "patternProperties" not in schema:
                made["additionalProperties"] = False
            return made
        case "items", _ if "prefixItems" not in schema:
            return {"items": bson_schema(value)}
        case (("allOf" | "anyOf"), list()):
            return {word: [bson_schema(one) for one in value]}
        case _:
            return None


def _are_plain(names: Iterable[JsonValue]) -> bool:
    """Whether MongoDB takes names as they are; others might be paths to it."""
    return not any("." in str(name) or "$" in str(name) or "\0" in str(name) for name in names)


def _is_same_in_bson(value: JsonValue) -> bool:
    if isinstance(value, int):
        return abs(value) < _INTEGER_MAX
    return value is None or (isinstance(value, str) and "\0" not in value)
