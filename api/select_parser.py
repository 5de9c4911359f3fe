"""`select=id,label:name,address->>city,total::text,customer:users!inner(name)` as values. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from api.query_tree import Aggregate, Column, Embed, Field, JsonStep, Selection
from api.scanner import Scanner

DEPTH_MAX = 10
"""How deep rows may be embedded in rows, and conditions in conditions."""

_CAST = re.compile(r"[A-Za-z_][A-Za-z0-9_ ]*(\[\])*")
_AGGREGATES: Final[Mapping[str, Aggregate]] = {
    name: name for name in ("avg", "count", "max", "min", "sum")
}

Level = Callable[[tuple[str, ...], str, "tuple[Column | Embed, ...]"], Selection]
"""Makes the selection of one level from its path, its relation and its items."""


def parse_select(text: str, level: Level) -> Selection:
    """The selection that a text writes; `level` adds conditions, order and bounds to each level.

    Raises QuerySyntaxError with the place that is wrong.
    """
    scanner = Scanner(text, "select parameter")
    items = _items(scanner, level, ()) if text.strip() else ()
    scanner.end()
    return level((), "", items)


def parse_field(scanner: Scanner) -> Field:
    """A column's name and the path into its JSON."""
    return Field(scanner.name("a column"), _path(scanner))


def _items(scanner: Scanner, level: Level, path: tuple[str, ...]) -> tuple[Column | Embed, ...]:
    found: list[Column | Embed] = []
    if scanner.next_is(")"):
        return ()
    while True:
        found.append(_item(scanner, level, path))
        if not scanner.take(","):
            return tuple(found)


def _item(scanner: Scanner, level: Level, path: tuple[str, ...]) -> Column | Embed:
    if scanner.take("*"):
        return Column(Field("*"))
    spread = scanner.take("...")
    name = scanner.name("a column, an embedded relation or '*'")
    alias: str | None = None
    if not spread and scanner.next_is(":") and not scanner.next_is("::"):
        scanner.expect(":")
        alias, name = name, scanner.name("a column or an embedded relation")
    if name == "count" and not spread and scanner.take("()"):
        return Column(Field("*"), alias, None, "count", _cast(scanner))
    if scanner.next_is("!") or scanner.next_is("(") or spread:
        return _embed(scanner, level, path, Embed(name, Selection(), alias, spread=spread))
    field, cast = Field(name, _path(scanner)), _cast(scanner)
    if not scanner.take("."):
        return Column(field, alias, cast)
    aggregate = _AGGREGATES.get(word := scanner.name("an aggregate"))
    if aggregate is None:
        scanner.place -= len(word)
        scanner.fail(f"one of {', '.join(_AGGREGATES)}")
    scanner.expect("()")
    return Column(field, alias, cast, aggregate, _cast(scanner))


def _embed(scanner: Scanner, level: Level, path: tuple[str, ...], head: Embed) -> Embed:
    inner = False
    hints: list[str] = []
    while scanner.take("!"):
        word = scanner.name("a hint, inner or left")
        if word == "inner":
            inner = True
        elif word != "left":
            hints.append(word)
    if len(path) >= DEPTH_MAX:
        scanner.fail(f"at most {DEPTH_MAX} levels of embedded rows")
    scanner.expect("(")
    below = (*path, head.label)
    items = _items(scanner, level, below)
    scanner.expect(")")
    selection = level(below, head.relation, items)
    return Embed(head.relation, selection, head.alias, tuple(hints), inner, head.spread)


def _path(scanner: Scanner) -> tuple[JsonStep, ...]:
    steps: list[JsonStep] = []
    while scanner.next_is("->"):
        as_text = scanner.take("->>") or not scanner.take("->")
        steps.append(JsonStep(scanner.name("a key or an index"), as_text))
        if as_text and scanner.next_is("->"):
            scanner.fail("no arrow after ->>, which gives text")
    return tuple(steps)


def _cast(scanner: Scanner) -> str | None:
    if not scanner.take("::"):
        return None
    cast = scanner.until(",().:!").strip()
    if not _CAST.fullmatch(cast):
        scanner.fail("the name of a type")
    return cast
