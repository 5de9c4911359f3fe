"""What a client accepts, of what there is. Pure."""

from __future__ import annotations

from typing import Literal, TypeAlias

from api.errors import ApiError

Media: TypeAlias = Literal["json", "single", "csv"]

_KNOWN: dict[str, Media] = {
    "*/*": "json",
    "application/*": "json",
    "application/json": "json",
    "application/vnd.pgrst.array+json": "json",
    "application/vnd.pgrst.array": "json",
    "application/openapi+json": "json",
    "application/vnd.pgrst.object+json": "single",
    "application/vnd.pgrst.object": "single",
    "text/csv": "csv",
    "text/*": "csv",
}


def choose_media(accept: str) -> Media:
    """The first of the accepted kinds that there is, the heaviest first.

    Raises ApiError (406, PGRST107) where there is none.
    """
    if not accept:
        return "json"
    wanted: list[tuple[float, int, str]] = []
    for place, part in enumerate(accept.split(",")):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        wanted.append((-_weight(parameters), place, name.lower()))
    for weight, _, name in sorted(wanted):
        if weight < 0 and name in _KNOWN:
            return _KNOWN[name]
    raise ApiError(
        406,
        "PGRST107",
        f"None of these media types are available: {accept[:200]}",
        hint="There are application/json, application/vnd.pgrst.object+json and text/csv",
    )


def strips_nulls(accept: str) -> bool:
    """Whether keys that are null are to be left out: `...+json;nulls=stripped`."""
    return "nulls=stripped" in accept


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return float(parameter[2:])
            except ValueError:
                return 0.0
    return 1.0
