"""The OpenAPI description of the system API, made from its operations. Pure.

https://spec.openapis.org/oas/v3.1.0
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

import msgspec

from api.openapi import ERROR_SCHEMA
from api.system_operation import SystemOperation
from events.json_codec import JsonObject, JsonValue

_REFERENCE: Final = "#/components/schemas/{name}"
_EMISSION: Final[JsonObject] = {
    "type": "object",
    "required": ["type"],
    "additionalProperties": False,
    "properties": {
        "type": {"type": "string", "description": "custom.<name>"},
        "data": {"description": "any JSON, kept by the schema of the type where it has one"},
        "key": {"type": ["string", "null"], "description": "events of one key stay in order"},
    },
}
_EMITTED: Final[JsonObject] = {
    "type": "object",
    "required": ["ids"],
    "properties": {"ids": {"type": "array", "items": {"type": "string"}}},
}


def describe_system(
    operations: Sequence[SystemOperation[msgspec.Struct, object]], url: str
) -> JsonObject:
    """All operations, and the emission of events beside them."""
    types = [one.arguments for one in operations] + [one.result for one in operations]
    (shapes, components) = _schemas(types)
    paths: dict[str, JsonObject] = {"/events": {"post": _emission()}}
    for place, operation in enumerate(operations):
        arguments = _properties(shapes[place], components)
        result = shapes[len(operations) + place]
        path = paths.setdefault(operation.path, {})
        path[operation.method.lower()] = _operation(operation, arguments, result)
    used = {name: shape for name, shape in components.items() if not name.endswith("Arguments")}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Rowcast system API",
            "description": "All that the command `rowcast` does, for service_role",
            "version": "1",
        },
        "servers": [{"url": url}],
        "security": [{"bearer": []}, {"apikey": []}],
        "paths": cast("JsonObject", paths),
        "components": {
            "schemas": {"Error": ERROR_SCHEMA, **used},
            "responses": {
                "error": {
                    "description": "Refused or failed",
                    "content": _json({"$ref": _REFERENCE.format(name="Error")}),
                }
            },
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                "apikey": {"type": "apiKey", "in": "header", "name": "apikey"},
            },
        },
    }


def _operation(
    operation: SystemOperation[msgspec.Struct, object], arguments: JsonObject, result: JsonValue
) -> JsonObject:
    properties = cast("JsonObject", arguments.get("properties", {}))
    required = cast("list[JsonValue]", arguments.get("required", []))
    in_path = operation.path_names
    in_query = [] if operation.has_body else [name for name in properties if name not in in_path]
    parameters: list[JsonValue] = [
        *(_parameter(name, "path", properties[name], required=True) for name in in_path),
        *(
            _parameter(name, "query", properties[name], required=name in required)
            for name in in_query
        ),
    ]
    described: JsonObject = {
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": [operation.segments[0]],
        "parameters": parameters,
        "responses": {
            str(operation.status): {"description": "Done", "content": _json(result)},
            "default": {"$ref": "#/components/responses/error"},
        },
    }
    body = {name: shape for name, shape in properties.items() if name not in in_path}
    if operation.has_body and body:
        needed: list[JsonValue] = [name for name in required if name in body]
        shape: JsonObject = {"type": "object", "properties": body, "additionalProperties": False}
        if needed:
            shape["required"] = needed
        described["requestBody"] = {"required": bool(needed), "content": _json(shape)}
    return described


def _emission() -> JsonObject:
    array: JsonObject = {"type": "array", "items": _EMISSION, "maxItems": 1_000}
    return {
        "operationId": "emit",
        "summary": "Emit a custom event, or an array of them",
        "tags": ["events"],
        "requestBody": {"required": True, "content": _json({"oneOf": [_EMISSION, array]})},
        "responses": {
            "201": {"description": "They are on Kafka", "content": _json(_EMITTED)},
            "default": {"$ref": "#/components/responses/error"},
        },
    }


def _schemas(types: Sequence[type[object]]) -> tuple[list[JsonValue], JsonObject]:
    shapes, components = msgspec.json.schema_components(
        types, ref_template=_REFERENCE, schema_hook=lambda _: {"description": "any JSON"}
    )
    return cast("list[JsonValue]", list(shapes)), cast("JsonObject", components)


def _properties(shape: JsonValue, components: JsonObject) -> JsonObject:
    """The schema of a struct of arguments, which stands among the components."""
    reference = cast("str", cast("JsonObject", shape)["$ref"])
    return cast("JsonObject", components[reference.rpartition("/")[2]])


def _parameter(name: str, place: str, shape: JsonValue, *, required: bool) -> JsonObject:
    whole = dict(cast("JsonObject", shape))
    description = whole.pop("description", None)
    parameter: JsonObject = {"name": name, "in": place, "required": required, "schema": whole}
    if description is not None:
        parameter["description"] = description
    return parameter


def _json(schema: JsonValue) -> JsonObject:
    return {"application/json": {"schema": schema}}
