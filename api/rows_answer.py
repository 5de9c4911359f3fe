"""Rows as answers: status, headers, and the body in the form asked for. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, cast
from urllib.parse import quote

from psycopg.pq.abc import PGresult

from api.answer import CSV, JSON, SINGLE_JSON, Answer
from api.answer_form import as_csv, without_nulls
from api.catalogue import CatalogueFunction
from api.content_range import content_range, range_status
from api.data_request import DataRequest
from api.errors import ApiError
from events.json_codec import decode, encode

KEYS_COLUMN: Final = 2
"""Where statements of this room give the keys of their rows."""


@dataclass(frozen=True, slots=True)
class Rows:
    """What a statement of this room gives: the number of rows, their JSON and their keys.

    `keys` is JSON objects joined by commas, None where they are not known.
    """

    count: int
    body: bytes
    keys: bytes | None
    total: int | None

    @classmethod
    def of(cls, result: PGresult) -> Rows:
        """From a statement's only row."""
        total = result.get_value(0, 3)
        count = int(result.get_value(0, 0) or b"0")
        return cls(
            count,
            result.get_value(0, 1) or b"",
            result.get_value(0, KEYS_COLUMN) if count else b"",
            None if total is None else int(total),
        )


def read_answer(request: DataRequest, rows: Rows, offset: int) -> Answer:
    """Of rows that were read."""
    status = range_status(offset, rows.count, rows.total)
    shown_range = content_range(offset, rows.count, rows.total)
    headers = (("content-range", shown_range), *_applied(request))
    shown, content_type = _shown(request, rows)
    return Answer(status, shown, content_type, headers)


def write_answer(name: str, request: DataRequest, rows: Rows) -> Answer:
    """Of rows that were written; raises ApiError where they are more than the client allows."""
    preferences = request.preferences
    bound = preferences.max_affected
    if bound is not None and rows.count > bound:
        raise ApiError(
            400,
            "PGRST124",
            "Query result exceeds max-affected preference constraint",
            details=f"The query affects {rows.count} rows",
        )
    headers: list[tuple[str, str]] = [*_applied(request)]
    total = rows.count if preferences.count is not None else None
    if request.method == "PATCH":
        headers.append(("content-range", content_range(0, rows.count, total)))
    else:
        headers.append(("content-range", content_range(0, 0, total)))
    created = request.method == "POST"
    if preferences.returned == "representation":
        shown, content_type = _shown(request, rows)
        return Answer(201 if created else 200, shown, content_type, tuple(headers))
    if request.media == "single" and rows.count != 1:
        raise _not_single(rows.count)
    if created and preferences.returned == "headers-only" and rows.keys and rows.count == 1:
        key = cast("dict[str, object]", decode(rows.keys))
        asked = "&".join(
            f"{quote(column)}=eq.{quote(_text(value))}" for column, value in key.items()
        )
        headers.append(("location", f"/{quote(name)}?{asked}"))
    return Answer(201 if created else 204, headers=tuple(headers))


def call_answer(
    function: CatalogueFunction, request: DataRequest, result: PGresult, offset: int
) -> Answer:
    """Of what a function gave."""
    if function.returns_void:
        return Answer(204)
    rows = Rows.of(result)
    if function.returns_set:
        return read_answer(request, rows, offset)
    body = rows.body
    if function.rows is not None:
        body = body[1:-1] if rows.count else b"null"
    return Answer(200, _stripped(request, body), JSON, _applied(request))


def _shown(request: DataRequest, rows: Rows) -> tuple[bytes, str]:
    match request.media:
        case "single":
            if rows.count != 1:
                raise _not_single(rows.count)
            return _stripped(request, rows.body[1:-1]), SINGLE_JSON
        case "csv":
            return as_csv(rows.body, request.name), CSV
        case "json":
            return _stripped(request, rows.body), JSON


def _text(value: object) -> str:
    """A key's value as a filter takes it."""
    match value:
        case str():
            return value
        case {"$oid": str(digits)}:
            return digits
        case _:
            return encode(value).decode()


def _stripped(request: DataRequest, body: bytes) -> bytes:
    return without_nulls(body) if request.strips_nulls else body


def _not_single(rows: int) -> ApiError:
    return ApiError(
        406,
        "PGRST116",
        "Cannot coerce the result to a single JSON object",
        details=f"The result contains {rows} rows",
    )


def _applied(request: DataRequest) -> tuple[tuple[str, str], ...]:
    applied = request.preferences.applied
    return (("preference-applied", ", ".join(applied)),) if applied else ()
