"""The query string as a query: which parameter says what, and of which level. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Literal
from urllib.parse import parse_qsl

from api.errors import ApiError, QuerySyntaxError
from api.filter_parser import is_operation, parse_condition, parse_logic, parse_order
from api.query_tree import Column, Embed, Logic, OrderTerm, Query, Selection
from api.scanner import Scanner
from api.select_parser import parse_field, parse_select

_WHOLE = re.compile(r"[0-9]{1,18}")
PARAMETERS_MAX = 200
_RESERVED = frozenset(("select", "columns", "on_conflict", "order", "limit", "offset", "and", "or"))
NOT_PARAMETERS = frozenset(("apikey",))
"""Keys, which some clients put into the address: neither a filter nor for any log."""


def read_parameters(query_string: str) -> list[tuple[str, str]]:
    """Names and values as they stand in the address.

    Raises QuerySyntaxError where it is not UTF-8 or there are too many.
    """
    try:
        found = parse_qsl(
            query_string,
            keep_blank_values=True,
            errors="strict",
            max_num_fields=PARAMETERS_MAX,
        )
    except (UnicodeDecodeError, ValueError) as error:
        raise QuerySyntaxError("the query string", query_string, 0, str(error)) from error
    for name, value in found:
        if "\0" in name or "\0" in value:
            raise QuerySyntaxError("the query string", name, 0, "unexpected NUL character")
    return [(name, value) for name, value in found if name not in NOT_PARAMETERS]


def parse_query(parameters: Iterable[tuple[str, str]], arguments: Collection[str] = ()) -> Query:
    """The query that parameters write; `arguments` names those that a function takes.

    Raises QuerySyntaxError, or ApiError for a level that is not selected.
    """
    levels: dict[tuple[str, ...], _Level] = {}
    select = "*"
    columns: tuple[str, ...] | None = None
    on_conflict: tuple[str, ...] | None = None
    given: list[tuple[str, str]] = []
    for name, value in parameters:
        if name in arguments:
            given.append((name, value))
        elif name == "select":
            select = value
        elif name == "columns":
            columns = _names(value, "columns parameter")
        elif name == "on_conflict":
            on_conflict = _names(value, "on_conflict parameter")
        else:
            *path, last = _split(name)
            levels.setdefault(tuple(path), _Level()).take(last, value)
    left = set(levels) - {()}

    def level(path: tuple[str, ...], relation: str, items: tuple[Column | Embed, ...]) -> Selection:
        # An embedded relation with a label may be filtered by its own name too.
        place = path if not path or path in levels else (*path[:-1], relation)
        left.discard(place)
        found = levels.get(place)
        return found.selection(items) if found else Selection(items)

    selection = parse_select(select, level)
    for path in left:
        raise ApiError(
            400,
            "PGRST108",
            f"'{'.'.join(path)}' is not an embedded resource in this request",
            hint=f"Verify that '{path[-1]}' is included in the 'select' query parameter.",
        )
    return Query(selection, columns, on_conflict, tuple(given))


def is_filter(name: str, value: str) -> bool:
    """Whether a parameter of a function's call says which rows, and not what an argument is."""
    return name in _RESERVED or "." in name or is_operation(value)


class _Level:
    """What the parameters say of one level."""

    def __init__(self) -> None:
        self._where: list[Logic] = []
        self._order: tuple[OrderTerm, ...] = ()
        self._limit: int | None = None
        self._offset = 0

    def take(self, name: str, value: str) -> None:
        match name:
            case "order":
                self._order = parse_order(value) if value else ()
            case "limit":
                self._limit = _whole(value, "limit")
            case "offset":
                self._offset = _whole(value, "offset")
            case "and" | "or":
                self._where.append(parse_logic(name, value, negated=False))
            case "not.and" | "not.or":
                kind: Literal["and", "or"] = "and" if name == "not.and" else "or"
                self._where.append(parse_logic(kind, value, negated=True))
            case _:
                scanner = Scanner(name, "filter")
                field = parse_field(scanner)
                scanner.end()
                self._where.append(parse_condition(field, value))

    def selection(self, items: tuple[Column | Embed, ...]) -> Selection:
        return Selection(items, tuple(self._where), self._order, self._limit, self._offset)


def _split(name: str) -> list[str]:
    """`a.b.or` as its levels; dots in double quotes, or in a path into JSON, are no separators."""
    head, arrow, rest = name.partition("->")
    scanner = Scanner(head, "filter")
    parts: list[str] = []
    start = 0
    while not scanner.at_end:
        if scanner.next_is('"'):
            scanner.quoted()
        elif scanner.take("."):
            parts.append(head[start : scanner.place - 1].strip('"'))
            start = scanner.place
        else:
            scanner.place += 1
    last = head[start:] + arrow + rest
    if last in ("and", "or") and parts and parts[-1] == "not":
        parts.pop()
        last = f"not.{last}"
    return [*parts, last]


def _names(text: str, what: str) -> tuple[str, ...]:
    scanner = Scanner(text, what)
    found = [scanner.name("a column")]
    while scanner.take(","):
        found.append(scanner.name("a column"))
    scanner.end()
    return tuple(found)


def _whole(text: str, name: str) -> int:
    if not _WHOLE.fullmatch(text):
        raise QuerySyntaxError(
            f"{name} parameter", text, 0, f"unexpected {text[:40]!r} expecting a whole number"
        )
    return int(text)
