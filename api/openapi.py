"""The OpenAPI description of the data API, made from the catalogue. Pure.

https://spec.openapis.org/oas/v3.1.0
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from api.catalogue import (
    Catalogue,
    CatalogueColumn,
    CatalogueFunction,
    CatalogueTable,
    Collections,
)
from events.json_codec import JsonObject, JsonValue
from events.names import encode_segment
from events.token import Role

_TYPES: Final[dict[str, JsonObject]] = {
    **{key: {"type": "integer", "format": "int32"} for key in ("int2", "int4")},
    "int8": {"type": "integer", "format": "int64"},
    **{key: {"type": "number"} for key in ("float4", "float8", "numeric")},
    "bool": {"type": "boolean"},
    **{key: {} for key in ("json", "jsonb")},
    "uuid": {"type": "string", "format": "uuid"},
    "date": {"type": "string", "format": "date"},
    "timestamptz": {"type": "string", "format": "date-time"},
}
_PARAMETERS: Final[tuple[tuple[str, str], ...]] = (
    ("select", "Columns and embedded relations, e.g. id,label:name,users(name)"),
    ("order", "Order, e.g. id.desc.nullslast"),
    ("limit", "At most so many rows"),
    ("offset", "Rows to leave out first"),
    ("on_conflict", "Columns by which an upsert finds a row"),
    ("columns", "Columns that are taken from the body"),
)
ERROR_SCHEMA: Final[JsonObject] = {
    "type": "object",
    "required": ["code", "message", "details", "hint"],
    "properties": {
        "code": {"type": "string"},
        "message": {"type": "string"},
        "details": {"type": ["string", "null"]},
        "hint": {"type": ["string", "null"]},
    },
}


_ERROR: Final = "rowcast.error"
"""No table's name is written with a dot among the schemas."""
_NAMED: Final = frozenset(name for name, _ in _PARAMETERS)


def describe_api(catalogues: Sequence[Catalogue | Collections], role: Role, url: str) -> JsonObject:
    """What a role may use of `public` schemas and of collections, the first source's first."""
    paths: JsonObject = {}
    schemas: JsonObject = {_ERROR: ERROR_SCHEMA}
    for catalogue in catalogues:
        if isinstance(catalogue, Collections):
            for name in catalogue.names:
                if _path(name) not in paths and "/" not in name:
                    paths[_path(name)] = _collection_path(catalogue, name, role)
            continue
        for (schema, name), table in catalogue.tables.items():
            path = _path(name)
            if schema == "public" and path not in paths and "/" not in name:
                schemas[encode_segment(name)] = _schema(table)
                paths[path] = _table_path(table, table.privileges.get(role, frozenset()))
        for (schema, name), functions in catalogue.functions.items():
            path = f"/rpc{_path(name)}"
            if schema == "public" and path not in paths and "/" not in name:
                paths[path] = _function_path(functions[0])
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Rowcast data API",
            "description": "Every captured table and collection, in PostgREST's query language",
            "version": "1",
        },
        "servers": [{"url": url}],
        "security": [{"bearer": []}, {"apikey": []}, {}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "parameters": {
                name: _parameter(name, description) for name, description in _PARAMETERS
            },
            "responses": {
                "error": {
                    "description": "Refused or failed, in PostgREST's form",
                    "content": _json({"$ref": f"#/components/schemas/{_ERROR}"}),
                }
            },
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                "apikey": {"type": "apiKey", "in": "header", "name": "apikey"},
            },
        },
    }


def _table_path(table: CatalogueTable, privileges: frozenset[str]) -> JsonObject:
    return _resource_path(
        _Resource(
            (table.schema, table.name),
            {"$ref": f"#/components/schemas/{encode_segment(table.name)}"},
            privileges,
            [_filter(column) for column in table.columns.values() if column.name not in _NAMED],
            table.description,
        )
    )


def _collection_path(collections: Collections, name: str, role: Role) -> JsonObject:
    may: set[str] = set()
    if collections.access.allows(role, name, writing=False):
        may.add("select")
    if collections.access.allows(role, name, writing=True):
        may.update(("insert", "update", "delete"))
    by_id = _parameter("_id", "A filter on the key, e.g. eq.1; every other field has such filters")
    return _resource_path(
        _Resource(
            (collections.source, name),
            {"type": "object"},
            frozenset(may),
            [by_id],
            f"Documents of the collection {name}, in relaxed Extended JSON",
        )
    )


@dataclass(frozen=True, slots=True)
class _Resource:
    """A table or a collection: where it is, one row of it, what the caller may."""

    place: tuple[str, str]
    row: JsonObject
    privileges: frozenset[str]
    filters: list[JsonObject]
    description: str | None


def _resource_path(resource: _Resource) -> JsonObject:
    row = resource.row
    rows: JsonObject = {"type": "array", "items": {"type": "object"}}
    written: JsonValue = {"oneOf": [row, {"type": "array", "items": row}]}
    prefer = _header("Prefer", "return=representation, count=exact, resolution=merge-duplicates")
    path: JsonObject = {}
    for method, needed, parameters, body in (
        ("get", "select", ("select", "order", "limit", "offset"), None),
        ("post", "insert", ("select", "columns", "on_conflict"), written),
        ("patch", "update", ("select", "columns"), row),
        ("delete", "delete", ("select",), None),
    ):
        if needed not in resource.privileges:
            continue
        named: list[JsonValue] = [{"$ref": f"#/components/parameters/{one}"} for one in parameters]
        operation: JsonObject = {
            "tags": [resource.place[1]],
            "operationId": "_".join((method, *resource.place)),
            "parameters": [*named, prefer, *(resource.filters if method != "post" else [])],
            "responses": {
                "200": {"description": "Rows", "content": _json(rows)},
                "201": {"description": "Written", "content": _json(rows)},
                "204": {"description": "Done"},
                "206": {"description": "A part of the rows", "content": _json(rows)},
                "default": {"$ref": "#/components/responses/error"},
            },
        }
        if resource.description:
            operation["description"] = resource.description
        if body is not None:
            operation["requestBody"] = {"required": True, "content": _json(body)}
        path[method] = operation
    return path


def _function_path(function: CatalogueFunction) -> JsonObject:
    arguments: JsonObject = {
        "type": "object",
        "required": [one.name for one in function.arguments if one.required],
        "properties": {one.name: {"description": one.type_sql} for one in function.arguments},
        "additionalProperties": False,
    }
    operation: JsonObject = {
        "tags": [f"rpc {function.name}"],
        "operationId": f"call_{function.schema}_{function.name}",
        "requestBody": {"required": True, "content": _json(arguments)},
        "responses": {
            "200": {"description": "What the function gives", "content": _json({})},
            "204": {"description": "Nothing"},
            "206": {"description": "A part of the rows", "content": _json({})},
            "default": {"$ref": "#/components/responses/error"},
        },
    }
    if function.description:
        operation["description"] = function.description
    return {"post": operation}


def _schema(table: CatalogueTable) -> JsonObject:
    schema: JsonObject = {
        "type": "object",
        "required": [one.name for one in table.columns.values() if one.required],
        "properties": {one.name: _column(one, table) for one in table.columns.values()},
    }
    if table.description:
        schema["description"] = table.description
    return schema


def _column(column: CatalogueColumn, table: CatalogueTable) -> JsonObject:
    found: JsonObject = {"description": _described(column, table)}
    if column.labels:
        return {**found, "type": "string", "enum": list(column.labels)}
    if column.is_array:
        return {**found, "type": "array"}
    return {**found, **_TYPES.get(column.type_name, {"type": "string"})}


def _described(column: CatalogueColumn, table: CatalogueTable) -> str:
    key = ", primary key" if column.name in table.key else ""
    told = f": {column.description}" if column.description else ""
    return f"{column.type_sql}{key}{told}"


def _filter(column: CatalogueColumn) -> JsonObject:
    return _parameter(column.name, f"A filter on {column.type_sql}, e.g. eq.1 or not.is.null")


def _parameter(name: str, description: str) -> JsonObject:
    return {
        "name": name,
        "in": "query",
        "description": description,
        "schema": {"type": "string"},
    }


def _header(name: str, description: str) -> JsonObject:
    return {"name": name, "in": "header", "description": description, "schema": {"type": "string"}}


def _json(schema: JsonValue) -> JsonObject:
    return {"application/json": {"schema": schema}}


def _path(name: str) -> str:
    """A path that is no template and no more than a path, whatever the name is."""
    return "/" + re.sub("[%{}?#]", lambda found: f"%{ord(found[0]):02X}", name)
