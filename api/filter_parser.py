"""Conditions: `age=gte.18`, `or=(a.eq.1,not.and(b.in.(1,2),c.is.null))` as values. Pure."""

from __future__ import annotations

import re
from typing import Literal

from api.errors import QuerySyntaxError
from api.query_tree import Condition, Field, Junction, Logic, OrderTerm
from api.scanner import Scanner
from api.select_parser import DEPTH_MAX, parse_field

OPERATORS = (
    *("eq", "neq", "lt", "lte", "gt", "gte", "like", "ilike", "match", "imatch", "in", "is"),
    *("isdistinct", "cs", "cd", "ov", "sl", "sr", "nxl", "nxr", "adj"),
    *("fts", "plfts", "phfts", "wfts"),
)
QUANTIFIED = frozenset(("eq", "like", "ilike", "gt", "gte", "lt", "lte", "match", "imatch"))
FULL_TEXT = frozenset(("fts", "plfts", "phfts", "wfts"))
IS_VALUES = ("null", "not_null", "true", "false", "unknown")

_OPERATION = re.compile(r"(?P<not>not\.)?(?P<name>[a-z]+)(?:\((?P<modifier>[^)]*)\))?\.")
_DIRECTIONS = ("asc", "desc", "nullsfirst", "nullslast")


def parse_condition(field: Field, text: str) -> Condition:
    """A parameter's value such as `not.eq.5`: everything after the operator is the value."""
    scanner = Scanner(text, "filter")
    head = _operation(scanner, field)
    if head.operator == "in":
        items = _list(scanner)
        scanner.end()
        return _with(head, "", items)
    return _finished(scanner, head, scanner.text[scanner.place :])


def is_operation(text: str) -> bool:
    """Whether a text begins as a condition's value does, with an operator and a dot."""
    match = _OPERATION.match(text)
    return match is not None and match["name"] in OPERATORS


def parse_logic(kind: Literal["and", "or"], text: str, *, negated: bool) -> Junction:
    """The value of a parameter `and`, `or`, `not.and` or `not.or`."""
    scanner = Scanner(text, "logic tree")
    junction = _junction(scanner, kind, negated=negated, depth=0)
    scanner.end()
    return junction


def parse_order(text: str) -> tuple[OrderTerm, ...]:
    """`name.desc.nullslast,users(name)`."""
    scanner = Scanner(text, "order")
    terms: list[OrderTerm] = []
    while True:
        terms.append(_order_term(scanner))
        if not scanner.take(","):
            scanner.end()
            return tuple(terms)


def _order_term(scanner: Scanner) -> OrderTerm:
    relation: str | None = None
    field = parse_field(scanner)
    if not field.path and scanner.take("("):
        relation, field = field.name, parse_field(scanner)
        scanner.expect(")")
    descending = False
    nulls: Literal["first", "last"] | None = None
    while scanner.take("."):
        word = scanner.name("a direction")
        if word not in _DIRECTIONS:
            scanner.place -= len(word)
            scanner.fail(f"one of {', '.join(_DIRECTIONS)}")
        if word.startswith("nulls"):
            nulls = "first" if word == "nullsfirst" else "last"
        else:
            descending = word == "desc"
    return OrderTerm(field, descending, nulls, relation)


def _operation(scanner: Scanner, field: Field) -> Condition:
    """The operator, its modifiers and the dot behind it; a condition without a value yet."""
    match = _OPERATION.match(scanner.text, scanner.place)
    name = match["name"] if match else ""
    if match is None or name not in OPERATORS:
        scanner.fail(f"an operator ({', '.join(OPERATORS)}), perhaps after not, and a dot")
    modifier = match["modifier"]
    quantifier: Literal["any", "all"] | None = None
    language: str | None = None
    if modifier is not None:
        if name in FULL_TEXT and re.fullmatch(r"\w+", modifier):
            language = modifier
        elif name in QUANTIFIED and modifier in ("any", "all"):
            quantifier = modifier
        else:
            scanner.place = match.start("modifier")
            scanner.fail("any or all for a comparison, a language for full text search")
    scanner.place = match.end()
    negated = match["not"] is not None
    return Condition(field, name, "", negated=negated, quantifier=quantifier, language=language)


def _finished(scanner: Scanner, head: Condition, value: str) -> Condition:
    if head.operator == "is":
        value = value.lower()
        if value not in IS_VALUES:
            raise QuerySyntaxError(
                scanner.what,
                scanner.text,
                scanner.place,
                f"unexpected {value[:40]!r} expecting one of {', '.join(IS_VALUES)}",
            )
    return _with(head, value, ())


def _with(head: Condition, value: str, items: tuple[str, ...]) -> Condition:
    return Condition(
        head.field,
        head.operator,
        value,
        items,
        negated=head.negated,
        quantifier=head.quantifier,
        language=head.language,
    )


def _list(scanner: Scanner) -> tuple[str, ...]:
    scanner.expect("(")
    items: list[str] = []
    if scanner.take(")"):
        return ()
    while True:
        items.append(_list_item(scanner))
        if scanner.take(")"):
            return tuple(items)
        scanner.expect(",")


def _list_item(scanner: Scanner) -> str:
    start = scanner.place
    if scanner.next_is('"'):
        item = scanner.quoted()
        if scanner.at_end or scanner.text[scanner.place] in ",)":
            return item
        scanner.place = start  # a quote in the midst of a value is a quote
    return scanner.until(",)")


def _junction(
    scanner: Scanner, kind: Literal["and", "or"], *, negated: bool, depth: int
) -> Junction:
    if depth >= DEPTH_MAX:
        scanner.fail(f"at most {DEPTH_MAX} levels of conditions")
    scanner.expect("(")
    parts: list[Logic] = []
    while True:
        parts.append(_part(scanner, depth))
        if scanner.take(")"):
            return Junction(kind, tuple(parts), negated)
        scanner.expect(",")


def _part(scanner: Scanner, depth: int) -> Logic:
    for negation in ("", "not."):
        for kind in ("and", "or"):
            if scanner.take(f"{negation}{kind}("):
                scanner.place -= 1
                return _junction(
                    scanner,
                    kind,
                    negated=bool(negation),
                    depth=depth + 1,
                )
    field = parse_field(scanner)
    scanner.expect(".")
    head = _operation(scanner, field)
    if head.operator == "in":
        return _with(head, "", _list(scanner))
    return _finished(scanner, head, _value(scanner))


def _value(scanner: Scanner) -> str:
    """A value inside of a tree, which ends at a comma or a bracket unless it is quoted."""
    if scanner.next_is('"'):
        return scanner.quoted()
    if not scanner.next_is("{"):
        return scanner.until(",)")
    start = scanner.place
    depth = 0
    while not scanner.at_end:
        char = scanner.text[scanner.place]
        if char == '"':
            scanner.quoted()
            continue
        depth += {"{": 1, "}": -1}.get(char, 0)
        scanner.place += 1
        if depth == 0:
            return scanner.text[start : scanner.place]
    return scanner.fail("'}'")
