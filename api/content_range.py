"""Which rows of how many: the headers `Range` and `Content-Range`, counted in rows. Pure."""

from __future__ import annotations

import re
from dataclasses import replace

from api.errors import ApiError
from api.query_tree import Selection

_RANGE = re.compile(r"(\d{1,18})-(\d{0,18})")


def with_range(selection: Selection, header: str) -> Selection:
    """The selection bounded by a header `Range: 0-9`, unless the query has bounds itself."""
    match = _RANGE.fullmatch(header.strip().removeprefix("items="))
    if match is None or selection.limit is not None or selection.offset:
        return selection
    first = int(match[1])
    if not match[2]:
        return replace(selection, offset=first)
    last = int(match[2])
    if last < first:
        raise ApiError(
            416,
            "PGRST103",
            "Requested range not satisfiable",
            details="The lower boundary must be lower than or equal to the upper boundary in the "
            "Range header.",
        )
    return replace(selection, offset=first, limit=last - first + 1)


def content_range(offset: int, rows: int, total: int | None) -> str:
    """`0-9/100`, `*/0`, `0-9/*`."""
    part = f"{offset}-{offset + rows - 1}" if rows else "*"
    return f"{part}/{'*' if total is None else total}"


def range_status(offset: int, rows: int, total: int | None) -> int:
    """200 for all rows, 206 for a part of them.

    Raises ApiError (416) for a part that is not there.
    """
    if total is None:
        return 200
    if offset > total:
        raise ApiError(
            416,
            "PGRST103",
            "Requested range not satisfiable",
            details=f"An offset of {offset} was requested, but there are only {total} rows.",
            headers=(("content-range", f"*/{total}"),),
        )
    return 206 if rows < total else 200
