"""`where`: a filter on any field of an event, in the style of EventBridge's patterns.

    { after = { status = ["paid", "shipped"], total = [{ numeric = [">=", 100] }] } }

An object is fields that must all match. A list is alternatives of one field: a literal (a scalar
alone stands for a list of one), or one of

    {prefix: "a"} {suffix: "z"} {wildcard: "a*z"} {"equals-ignore-case": "Paid"}
    {numeric: [">", 0, "<=", 5]}   also of numbers that stand as text, as `numeric` columns do
    {"anything-but": [...]} or {"anything-but": {prefix: "a"}}
    {null: true | false}           as TOML has no null
    {exists: true | false}

`"$or": [{...}, {...}]` among the fields matches if one of its objects does. A field that holds a
list matches if one of its elements does (`changed = ["status"]`, `keys = { id = [7] }`). A field
that is not there matches only `exists: false`; null is a literal.
Source: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-event-patterns.html
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Final, TypeAlias, cast

from events.json_codec import JsonObject, JsonValue
from router.errors import WhereError

Predicate: TypeAlias = Callable[[JsonObject], bool]
_Test: TypeAlias = "Callable[[JsonValue | _Missing], bool]"

_COMPARE: dict[str, Callable[[Decimal, Decimal], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    "=": operator.eq,
    ">=": operator.ge,
    ">": operator.gt,
}
_DEPTH_LIMIT = 32
_OPERATORS = (
    "prefix",
    "suffix",
    "wildcard",
    "equals-ignore-case",
    "numeric",
    "anything-but",
    "null",
    "exists",
)


def operators() -> tuple[str, ...]:
    """The names of all operators."""
    return _OPERATORS


class _Missing:
    """The value of a field that is not there."""


_MISSING: Final = _Missing()


def compile_where(where: object) -> Predicate:
    """The filter as a function of an event's JSON.

    Raises WhereError that names the path of what means nothing.
    """
    return _fields(where, "where", _DEPTH_LIMIT)


def _fields(where: object, path: str, depth: int) -> Predicate:
    if not isinstance(where, dict):
        raise WhereError(f"found {where!r} at {path}, expected a table of fields")
    if depth == 0:
        raise WhereError(f"found a table in more than {_DEPTH_LIMIT} others, at {path[:200]}")
    tests: list[Predicate] = []
    for name, wanted in cast("dict[str, object]", where).items():
        place = f"{path}.{name}"
        if name == "$or":
            tests.append(_any_of(wanted, place, depth - 1))
        elif isinstance(wanted, dict):
            tests.append(_within(name, _fields(cast("object", wanted), place, depth - 1)))
        else:
            tests.append(_field(name, _alternatives(wanted, place)))
    return lambda event: all(test(event) for test in tests)


def _any_of(wanted: object, path: str, depth: int) -> Predicate:
    if not isinstance(wanted, list) or not wanted:
        raise WhereError(f"found {wanted!r} at {path}, expected a list of tables")
    parts = [
        _fields(part, f"{path}[{index}]", depth)
        for index, part in enumerate(cast("list[object]", wanted))
    ]
    return lambda event: any(part(event) for part in parts)


def _within(name: str, inner: Predicate) -> Predicate:
    def test(event: JsonObject) -> bool:
        value = event.get(name)
        if isinstance(value, list):
            return any(inner(item) for item in value if isinstance(item, dict))
        # `exists: false` below a row that is not there holds, as for any field that is missing.
        return inner(value if isinstance(value, dict) else {})

    return test


def _field(name: str, tests: list[_Test]) -> Predicate:
    def test(event: JsonObject) -> bool:
        value = event.get(name, _MISSING)
        if isinstance(value, list):
            return any(one(item) for item in value for one in tests) or any(
                one(value) for one in tests
            )
        return any(one(value) for one in tests)

    return test


def _alternatives(wanted: object, path: str) -> list[_Test]:
    choices = cast("list[object]", wanted) if isinstance(wanted, list) else [wanted]
    if not choices:
        raise WhereError(f"found an empty list at {path}, expected at least one alternative")
    return [_alternative(choice, path) for choice in choices]


def _alternative(choice: object, path: str) -> _Test:
    if not isinstance(choice, dict):
        return _literal(choice, path)
    table = cast("dict[str, object]", choice)
    if len(table) != 1 or next(iter(table)) not in _OPERATORS:
        raise WhereError(
            f"found {table!r} at {path}, expected a literal or one of {', '.join(_OPERATORS)}"
        )
    ((name, argument),) = table.items()
    return _operator(name, argument, f"{path}.{name}")


def _operator(name: str, argument: object, path: str) -> _Test:
    match name:
        case "exists" | "null":
            if not isinstance(argument, bool):
                raise WhereError(f"found {argument!r} at {path}, expected true or false")
            if name == "exists":
                return lambda value: (value is not _MISSING) == argument
            return lambda value: value is not _MISSING and (value is None) == argument
        case "numeric":
            return _numeric(argument, path)
        case "anything-but":
            return _anything_but(argument, path)
        case _:
            if not isinstance(argument, str):
                raise WhereError(f"found {argument!r} at {path}, expected a text")
            return _of_text(name, argument)


def _of_text(name: str, argument: str) -> _Test:
    match name:
        case "prefix":
            return lambda value: isinstance(value, str) and value.startswith(argument)
        case "suffix":
            return lambda value: isinstance(value, str) and value.endswith(argument)
        case "equals-ignore-case":
            folded = argument.casefold()
            return lambda value: isinstance(value, str) and value.casefold() == folded
        case _:
            first, *others = argument.split("*")
            return lambda value: isinstance(value, str) and _fits(value, first, others)


def _fits(text: str, first: str, others: list[str]) -> bool:
    """Whether the parts of a wildcard stand in a text, the first and the last at its ends.

    Each is looked for once, leftmost; a regular expression would go back for ever.
    """
    if not others:
        return text == first
    *middle, last = others
    if len(text) < len(first) + len(last) or not (text.startswith(first) and text.endswith(last)):
        return False
    position, end = len(first), len(text) - len(last)
    for part in middle:
        found = text.find(part, position, end)
        if found < 0:
            return False
        position = found + len(part)
    return True


def _literal(wanted: object, path: str) -> _Test:
    if not (wanted is None or isinstance(wanted, (str, int, float, bool))):
        raise WhereError(f"found {wanted!r} at {path}, expected a text, number, boolean or null")
    # JSON's true is not its 1, though Python's is.
    kind = bool if isinstance(wanted, bool) else (int, float) if _is_number(wanted) else None
    if kind is None:
        return lambda value: value == wanted
    if kind is bool:
        return lambda value: value is wanted
    return lambda value: _is_number(value) and value == wanted


def _anything_but(argument: object, path: str) -> _Test:
    choices = cast("list[object]", argument) if isinstance(argument, list) else [argument]
    if any(isinstance(choice, dict) and "anything-but" in choice for choice in choices):
        raise WhereError(f"found anything-but inside of itself at {path}, expected it once")
    inner = _alternatives(choices, path)
    # Of a list each element is asked; that the list is none of the alternatives says nothing.
    return lambda value: (
        value is not _MISSING
        and not isinstance(value, list)
        and not any(test(value) for test in inner)
    )


def _numeric(argument: object, path: str) -> _Test:
    parts = cast("list[object]", argument) if isinstance(argument, list) else []
    tests: list[tuple[Callable[[Decimal, Decimal], bool], Decimal]] = []
    for sign, bound in zip(parts[::2], parts[1::2], strict=False):
        number = _number(bound)
        if not isinstance(sign, str) or sign not in _COMPARE or number is None:
            break
        tests.append((_COMPARE[sign], number))
    if not tests or len(tests) * 2 != len(parts):
        raise WhereError(f'found {argument!r} at {path}, expected a list such as [">", 0, "<=", 5]')

    def test(value: JsonValue | _Missing) -> bool:
        number = _number(value)
        return number is not None and all(compare(number, bound) for compare, bound in tests)

    return test


def _number(value: object) -> Decimal | None:
    if not isinstance(value, str) and not _is_number(value):
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return None if number.is_nan() else number


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
