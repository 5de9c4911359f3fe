"""The header `Prefer` (RFC 7240) as values. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, cast

from api.errors import ApiError

_VALUES = {
    "return": ("representation", "headers-only", "minimal"),
    "count": ("exact", "planned", "estimated"),
    "resolution": ("merge-duplicates", "ignore-duplicates"),
    "missing": ("default", "null"),
    "handling": ("strict", "lenient"),
    "tx": ("commit", "rollback"),
}


@dataclass(frozen=True, slots=True)
class Preferences:
    """What a client prefers; `applied` is said back to it."""

    returned: Literal["representation", "headers-only", "minimal"] = "minimal"
    count: Literal["exact", "planned", "estimated"] | None = None
    resolution: Literal["merge-duplicates", "ignore-duplicates"] | None = None
    missing_default: bool = False
    max_affected: int | None = None
    rollback: bool = False
    applied: tuple[str, ...] = field(default=())


NO_PREFERENCES = Preferences()


def parse_preferences(header: str) -> Preferences:
    """The preferences of a header; what is unknown is left out.

    Raises ApiError for an unknown one where `handling=strict` is asked.
    """
    if not header:
        return NO_PREFERENCES
    found: dict[str, str] = {}
    unknown: list[str] = []
    for part in header.split(","):
        name, _, value = (piece.strip() for piece in part.partition("="))
        known = value in _VALUES.get(name, ())
        known = known or (name == "max-affected" and value.isascii() and value.isdigit())
        if known:
            found.setdefault(name, value[:18])
        elif name:
            unknown.append(part.strip())
    if not found and not unknown:
        return NO_PREFERENCES
    strict = found.get("handling") == "strict"
    if strict and unknown:
        raise ApiError(
            400,
            "PGRST122",
            "Invalid preferences given with handling=strict",
            details=f"Invalid preferences: {', '.join(unknown)[:500]}",
        )
    if not strict:
        found.pop("max-affected", None)
    return Preferences(
        returned=cast(
            'Literal["representation", "headers-only", "minimal"]', found.get("return", "minimal")
        ),
        count=cast('Literal["exact", "planned", "estimated"] | None', found.get("count")),
        resolution=cast(
            'Literal["merge-duplicates", "ignore-duplicates"] | None', found.get("resolution")
        ),
        missing_default=found.get("missing") == "default",
        max_affected=int(found["max-affected"]) if "max-affected" in found else None,
        rollback=found.get("tx") == "rollback",
        applied=tuple(f"{name}={value}" for name, value in found.items()),
    )
