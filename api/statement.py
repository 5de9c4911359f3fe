"""SQL and its parameters, in the making. Pure.

Text goes to PostgreSQL in parameters whose type is left open, as PostgREST does it: so each value
is read as the type of what it is compared with, and a value that is none is PostgreSQL's error.
"""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from api.errors import ApiError

_NAME_BYTES_MAX = 63


@dataclass(frozen=True, slots=True)
class ReadColumns:
    """Where a statement's result tells of the rows of one table that it gives.

    `keys` is the column that holds their keys; in the column `told` stands `t` where the table's
    row policy tells of them itself.
    """

    schema: str
    table: str
    keys: int
    told: int | None


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL with `$1` and so on, the values that belong there, and the tables that it reads."""

    text: str
    parameters: tuple[bytes, ...] = ()
    reads: tuple[ReadColumns, ...] = ()


class Parameters:
    """The values of a statement, in the order in which they were bound."""

    def __init__(self) -> None:
        self._values: list[bytes] = []
        self._places: dict[bytes, str] = {}

    def bind(self, value: str) -> str:
        """The place `$n` that stands for a value."""
        return self.bind_bytes(value.encode())

    def bind_bytes(self, value: bytes) -> str:
        """Likewise, for text that is encoded already."""
        if b"\0" in value:
            raise ApiError(400, "22021", "invalid byte sequence for encoding UTF8: 0x00")
        self._values.append(value)
        return f"${len(self._values)}"

    def bind_array(self, values: tuple[str, ...]) -> str:
        """The place of an array of values, as PostgreSQL writes arrays."""
        quoted = (value.replace("\\", "\\\\").replace('"', '\\"') for value in values)
        return self.bind("{" + ",".join(f'"{value}"' for value in quoted) + "}")

    def bind_text(self, value: str) -> str:
        """The place of a value that is text whatever stands beside it; one for equal values."""
        data = value.encode()
        place = self._places.get(data)
        if place is None:
            place = self._places[data] = f"{self.bind_bytes(data)}::text"
        return place

    def statement(self, text: str, reads: tuple[ReadColumns, ...] = ()) -> Statement:
        """The text with all that was bound."""
        return Statement(text, tuple(self._values), reads)


def quote_label(label: str) -> str:
    """A key of the answer as an SQL identifier, which it must be in rows made into JSON."""
    if len(label.encode()) > _NAME_BYTES_MAX:
        raise ApiError(
            400, "PGRST100", f"The label {label[:80]!r} is longer than {_NAME_BYTES_MAX} bytes"
        )
    return sql.Identifier(label).as_string()
