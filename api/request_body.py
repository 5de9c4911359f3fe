"""The body of a request: JSON as it is, CSV and forms made into JSON. Pure."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from urllib.parse import parse_qsl

from api.errors import ApiError
from events.json_codec import JsonObject, decode, encode


@dataclass(frozen=True, slots=True)
class RequestBody:
    """JSON text, how many objects it holds, and the keys that they have.

    `alike` says whether each object has all of them.
    """

    text: bytes
    count: int
    names: tuple[str, ...]
    is_array: bool
    alike: bool = True


def read_body(data: bytes, content_type: str) -> RequestBody:
    """The body as objects.

    Raises ApiError: 400 (PGRST102) where it is not an object or an array of them, 415 (PGRST107)
    for another kind of content.
    """
    kind = content_type.partition(";")[0].strip().lower()
    match kind:
        case "" | "application/json" | "application/vnd.pgrst.object+json":
            return _read_json(data)
        case "text/csv":
            return _read_csv(data)
        case "application/x-www-form-urlencoded":
            return _read_form(data)
        case _:
            raise ApiError(
                415,
                "PGRST107",
                f"Content-Type not acceptable: {content_type[:200]}",
                hint="Send application/json, text/csv or application/x-www-form-urlencoded",
            )


def _read_json(data: bytes) -> RequestBody:
    try:
        value = decode(data)
    except ValueError as error:
        raise _invalid("Empty or invalid json", str(error)) from error
    if isinstance(value, dict):
        return RequestBody(data, 1, tuple(value), False)
    if not isinstance(value, list):
        raise _invalid("Empty or invalid json", f"found {type(value).__name__}, expected objects")
    objects: list[JsonObject] = []
    for item in value:
        if not isinstance(item, dict):
            raise _invalid(
                "Empty or invalid json", f"found {type(item).__name__} in the array, not an object"
            )
        objects.append(item)
    names = dict.fromkeys(objects[0]) if objects else {}
    for item in objects:
        names |= dict.fromkeys(item)
    same = all(len(item) == len(names) for item in objects)
    return RequestBody(data, len(objects), tuple(names), True, same)


def _read_csv(data: bytes) -> RequestBody:
    try:
        rows = list(csv.reader(io.StringIO(data.decode()), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise _invalid("Empty or invalid CSV", str(error)) from error
    if not rows:
        raise _invalid("Empty or invalid CSV", "expected a line with the names of columns")
    names, *values = rows
    for number, row in enumerate(values, start=2):
        if len(row) != len(names):
            raise _invalid("All lines must have same number of fields", f"line {number} has not")
    objects = [
        {name: None if value == "NULL" else value for name, value in zip(names, row, strict=True)}
        for row in values
    ]
    return RequestBody(encode(objects), len(objects), tuple(names), True)


def _read_form(data: bytes) -> RequestBody:
    try:
        fields = dict(
            parse_qsl(data.decode(), keep_blank_values=True, errors="strict", max_num_fields=1_000)
        )
    except ValueError as error:
        raise _invalid("Empty or invalid form", str(error)) from error
    return RequestBody(encode(fields), 1, tuple(fields), False)


def _invalid(message: str, details: str) -> ApiError:
    return ApiError(400, "PGRST102", message, details=details)
