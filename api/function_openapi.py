"""The OpenAPI description of the custom APIs that a role may call. Pure.

https://spec.openapis.org/oas/v3.1.0
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

from api.custom_api import READING, CustomApi
from api.openapi import ERROR_SCHEMA
from events.json_codec import JsonObject, JsonValue

_FAILURES: Final = {
    "401": "No token, or one that is not accepted",
    "403": "The role may not call it, or a hook refused",
    "422": "The input does not keep its schema; details say where",
    "500": "The code failed",
    "503": "Kafka takes no events, or too many calls are under way",
    "504": "The code took too long",
}


def describe_functions(apis: Sequence[CustomApi], url: str) -> JsonObject:
    """What is there to call."""
    paths: JsonObject = {
        f"/{api.name}": {method.lower(): _operation(api, method) for method in api.methods}
        for api in sorted(apis, key=lambda api: api.name)
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Rowcast custom APIs", "version": "1"},
        "servers": [{"url": url or "/functions/v1"}],
        "paths": paths,
        "components": {
            "schemas": {"error": ERROR_SCHEMA},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}, {}],
    }


def _operation(api: CustomApi, method: str) -> JsonObject:
    failures: JsonObject = {
        status: {
            "description": text,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/error"}}},
        }
        for status, text in _FAILURES.items()
    }
    operation: JsonObject = {
        "operationId": f"{method.lower()}_{api.name}",
        "description": api.description,
        "responses": {"200": {"description": "What the code answers"}, **failures},
    }
    if api.schema is None:
        return operation
    schema = cast("JsonValue", api.schema)
    if method not in READING:
        content: JsonObject = {"application/json": {"schema": schema}}
        return {**operation, "requestBody": {"required": True, "content": content}}
    parameters: list[JsonValue] = []
    if isinstance(schema, dict):
        required, properties = schema.get("required"), schema.get("properties")
        if isinstance(properties, dict):
            parameters += [
                {
                    "name": name,
                    "in": "query",
                    "required": isinstance(required, list) and name in required,
                    "schema": one,
                }
                for name, one in properties.items()
            ]
    return {**operation, "parameters": parameters}
