r"""JSON values as parameters of a statement: PostgreSQL's text for the type that it wants.

PostgreSQL is asked which type each parameter has (as it would infer for an untyped literal), and
the value is written in that type's input form. So every value that an event or a fetch gave can
be given back: a list becomes an array's literal for an array and JSON for json, bytea is base64.
A list for any other type is written as JSON, which is what vectors and such take. Pure.
https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Iterable
from typing import Final, cast

from events.json_codec import encode
from events.values.types import TypeCatalogue, TypeRow
from listener_runtime.errors import HostCallError

_BYTEA: Final = 17
_JSON: Final = frozenset((114, 3802))
_DEPTH_LIMIT: Final = 16


class Types:
    """The types of one database that were asked for so far, for both directions."""

    def __init__(self) -> None:
        self._rows: dict[int, TypeRow] = {}
        self.catalogue = TypeCatalogue()

    def unknown(self, oids: Iterable[int]) -> set[int]:
        """Which of the types have no row yet."""
        return {oid for oid in oids if oid and oid not in self._rows}

    def add(self, rows: Iterable[TypeRow]) -> None:
        """Know these types as well."""
        found = list(rows)
        self._rows.update((row.oid, row) for row in found)
        self.catalogue.add(found)

    def parameter(self, number: int, value: object, oid: int) -> bytes | None:
        """The text of the number-th parameter (from 1), None for NULL.

        Raises HostCallError where the value has no text in that type.
        """
        try:
            text = self._text(value, oid, _DEPTH_LIMIT)
            data = None if text is None else text.encode()
        except (TypeError, ValueError) as error:
            raise HostCallError(f"parameter ${number}: {error}") from error
        if data is not None and b"\0" in data:
            raise HostCallError(
                f"parameter ${number} holds the character \\u0000, which PostgreSQL does not store"
            )
        return data

    def _text(self, value: object, oid: int, depth: int) -> str | None:
        if value is None:
            return None
        row = self._base(oid)
        if row is not None and row.oid in _JSON:
            return encode(value).decode()
        if row is not None and row.oid == _BYTEA and isinstance(value, str):
            return _bytea(value)
        items = _list(value)
        if row is not None and row.category == "A" and row.element and items is not None:
            return self._array(items, row.element, depth)
        return _plain(value)

    def _base(self, oid: int) -> TypeRow | None:
        row = self._rows.get(oid)
        for _ in range(_DEPTH_LIMIT):
            if row is None or row.kind != "d":
                break
            row = self._rows.get(row.base)
        return row

    def _array(self, items: list[object], element: int, depth: int) -> str:
        if depth == 0:
            raise ValueError(f"found lists nested deeper than {_DEPTH_LIMIT}")
        row, base = self._rows.get(element), self._base(element)
        delimiter = row.delimiter if row is not None else ","
        nests = base is None or (base.oid not in _JSON and base.category != "A")
        parts: list[str] = []
        for item in items:
            inner = _list(item) if nests else None
            if inner is not None:
                parts.append(self._array(inner, element, depth - 1))
            else:
                text = self._text(item, element, depth - 1)
                parts.append("NULL" if text is None else _quoted(text))
        return "{" + delimiter.join(parts) + "}"


def _list(value: object) -> list[object] | None:
    return cast("list[object]", value) if isinstance(value, list) else None


def _plain(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case int():
            return str(value)
        case float():
            if math.isfinite(value):
                return repr(value)
            return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
        case _:
            return encode(value).decode()


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _bytea(value: str) -> str:
    r"""The hex form, from base64 as events have it; `\x...` is hex already."""
    if value.startswith("\\x"):
        return value
    try:
        return "\\x" + base64.b64decode(value, validate=True).hex()
    except (binascii.Error, ValueError):
        raise ValueError("expected base64 for bytea, as events have it, or \\x and hex") from None
