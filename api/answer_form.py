"""An answer's JSON in another form: CSV, or without what is null.

Numbers are not read but passed on as they stand, since a float would round them. Pure.
"""

from __future__ import annotations

import csv
import io
from typing import Final

import msgspec

from api.errors import ApiError

_NULL: Final = b"null"


def as_csv(body: bytes, name: str) -> bytes:
    """A JSON array as CSV; `name` is the column of values that are no rows.

    Raises ApiError where it is nested too deeply to be read.
    """
    try:
        rows = _rows(body, name)
    except RecursionError as error:
        raise _too_deep() from error
    out = io.StringIO()
    if rows:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(rows[0])
        for row in rows:
            writer.writerow(_cell(bytes(value)) for value in row.values())
    return out.getvalue().encode()


def without_nulls(body: bytes) -> bytes:
    """JSON without the keys of objects, at any depth, whose value is null.

    Raises ApiError where it is nested too deeply to be read.
    """
    try:
        return _without_nulls(body)
    except RecursionError as error:
        raise _too_deep() from error


def _rows(body: bytes, name: str) -> list[dict[str, msgspec.Raw]]:
    return [
        _object(one) if one.startswith(b"{") else {name: msgspec.Raw(one)} for one in _array(body)
    ]


def _without_nulls(body: bytes) -> bytes:
    body = body.strip()
    match body[:1]:
        case b"{":
            kept = [
                msgspec.json.encode(name) + b":" + _without_nulls(bytes(value))
                for name, value in _object(body).items()
                if bytes(value) != _NULL
            ]
            return b"{" + b",".join(kept) + b"}"
        case b"[":
            return b"[" + b",".join([_without_nulls(one) for one in _array(body)]) + b"]"
        case _:
            return body


def _array(body: bytes) -> list[bytes]:
    return [bytes(one) for one in msgspec.json.decode(body, type=list[msgspec.Raw])]


def _object(body: bytes) -> dict[str, msgspec.Raw]:
    return msgspec.json.decode(body, type=dict[str, msgspec.Raw])


def _too_deep() -> ApiError:
    return ApiError(
        406,
        "PGRST107",
        "The rows hold JSON that is nested too deeply for this form",
        hint="Ask for application/json",
    )


def _cell(value: bytes) -> str | None:
    match value[:1]:
        case b'"':
            return msgspec.json.decode(value, type=str)
        case b"t" | b"f":
            return value[:1].decode()
        case b"n":
            return None
        case _:
            return value.decode()
