"""Event types (`db.shop.public.orders.updated`) and the patterns that select them.

A type is dotted segments. In a pattern `*` stands for one segment and `**`, at the end, for one
or more. Segments carry database names as `events.names` writes them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from events.errors import InvalidNameError, PatternError
from events.names import encode_segment

_TYPE = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")
_SEGMENT = re.compile(r"[A-Za-z0-9_-]+")

FAMILIES = ("db", "api", "custom", "schedule", "system", "push")
"""First segments there are; docs/design.md, section 2."""


class RowOperation(Enum):
    """What happened to a row: the last segment of a `db` type, and `op` of the envelope."""

    CREATED = ("created", "c")
    UPDATED = ("updated", "u")
    DELETED = ("deleted", "d")
    TRUNCATED = ("truncated", "t")
    SNAPSHOT = ("snapshot", "r")

    @property
    def segment(self) -> str:
        """The word in an event type."""
        return self.value[0]

    @property
    def op(self) -> str:
        """The letter in the envelope."""
        return self.value[1]


def row_type(source: str, schema: str, table: str, operation: RowOperation) -> str:
    """Event type of a row's change."""
    return ".".join(
        (
            "db",
            encode_segment(source),
            encode_segment(schema),
            encode_segment(table),
            operation.segment,
        )
    )


def read_type(source: str, schema: str, table: str) -> str:
    """Event type of a read of a table's rows, or of a collection's documents."""
    return ".".join(("db", *map(encode_segment, (source, schema, table)), "read"))


def check_event_type(text: str) -> str:
    """The type itself where it is one.

    Raises InvalidNameError with what is wrong otherwise.
    """
    if not _TYPE.fullmatch(text):
        raise InvalidNameError(
            f"found the event type {text!r}, expected segments of [A-Za-z0-9_-] joined by dots"
        )
    if text.split(".", 1)[0] not in FAMILIES or "." not in text:
        raise InvalidNameError(
            f"found the event type {text!r}, expected it to begin with one of "
            + ", ".join(f"{family}." for family in FAMILIES)
        )
    return text


def check_custom_type(text: str) -> str:
    """The type itself where a listener or a client may emit it (`custom.<name>`).

    Raises InvalidNameError otherwise.
    """
    check_event_type(text)
    if not text.startswith("custom."):
        raise InvalidNameError(
            f"found the event type {text!r}, expected custom.<name>: "
            "the other families are emitted by Rowcast itself"
        )
    return text


def schedule_type(name: str) -> str:
    """The type of the events of what recurs under a name."""
    return f"schedule.{encode_segment(name)}"


@dataclass(frozen=True, slots=True)
class EventPattern:
    """A parsed pattern. Equal text gives equal patterns."""

    segments: tuple[str, ...]
    open_ended: bool

    @classmethod
    def parse(cls, text: str) -> EventPattern:
        """The pattern that a text writes.

        Raises PatternError with the segment that is wrong.
        """
        parts = text.split(".")
        open_ended = parts[-1] == "**"
        fixed = parts[:-1] if open_ended else parts
        for part in fixed:
            if part == "**":
                raise PatternError(f"found {text!r}, expected ** only as the last segment")
            if part != "*" and not _SEGMENT.fullmatch(part):
                raise PatternError(
                    f"found the segment {part!r} in {text!r}, expected a name "
                    "([A-Za-z0-9_-], other characters as -xHH), * for any one or ** for the rest"
                )
        first = fixed[0] if fixed else "*"
        if first != "*" and first not in FAMILIES:
            raise PatternError(
                f"found {first!r} at the start of {text!r}, expected one of "
                + ", ".join(FAMILIES)
                + " or *"
            )
        return cls(tuple(fixed), open_ended)

    def matches(self, event_type: str) -> bool:
        """Whether the pattern selects an event type."""
        parts = event_type.split(".")
        if self.open_ended:
            if len(parts) <= len(self.segments):
                return False
        elif len(parts) != len(self.segments):
            return False
        return all(
            wanted in ("*", part) for wanted, part in zip(self.segments, parts, strict=False)
        )

    def __str__(self) -> str:
        """The text that parses to this pattern."""
        return ".".join((*self.segments, "**") if self.open_ended else self.segments)
