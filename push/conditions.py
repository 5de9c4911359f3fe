"""Conditions of a registration: fields of the record key and of the row that equal a value.

`{"status": ["paid", "sent"], "address": {"city": "Oslo"}}` and `{"address.city": "Oslo"}` are
conjunctions of fields, each with the values it may have. Values are compared as JSON values: 7
equals 7.0, `true` is not 1, and null is a field that is there and null, not one that is missing.
Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Literal, TypeAlias

from events.json_codec import JsonObject, JsonValue

Path: TypeAlias = tuple[str, ...]
Scalar: TypeAlias = "tuple[str, object]"
Field: TypeAlias = tuple[Literal["key", "row"], Path]
Shape: TypeAlias = tuple[Field, ...]
Values: TypeAlias = tuple[Scalar, ...]

MAX_FIELDS = 8
MAX_DEPTH = 8
MAX_COMBINATIONS = 100


class ConditionError(ValueError):
    """Conditions that mean nothing."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """What `key` and `filter` ask for; `shape` are the fields, sorted, with their alternatives."""

    shape: Shape = ()
    alternatives: tuple[tuple[Scalar, ...], ...] = ()

    @classmethod
    def parse(cls, key: JsonObject | None, row: JsonObject | None) -> Conditions:
        """From `key` and `filter` of a message.

        Raises ConditionError with what was found and what was expected.
        """
        fields: dict[Field, tuple[Scalar, ...]] = {}
        for place, given in (("key", key), ("row", row)):
            for path, values in _fields(given or {}):
                field: Field = ("key", path) if place == "key" else ("row", path)
                if field in fields:
                    raise ConditionError(f"found {'.'.join(path)!r} twice, expected it once")
                fields[field] = values
        if len(fields) > MAX_FIELDS:
            raise ConditionError(f"found {len(fields)} fields, expected {MAX_FIELDS} at most")
        shape = tuple(sorted(fields))
        conditions = cls(shape, tuple(fields[field] for field in shape))
        combinations = 1
        for values in conditions.alternatives:
            combinations *= len(values)
        if combinations > MAX_COMBINATIONS:
            raise ConditionError(
                f"found {combinations:,} combinations of values, expected {MAX_COMBINATIONS} at "
                "most; make several registrations of it"
            )
        return conditions

    def combinations(self) -> Iterator[Values]:
        """Every combination of values that fulfils the conditions, in the order of the shape."""
        return product(*self.alternatives)

    def hold(self, key: JsonObject, row: JsonObject) -> bool:
        """Whether a record key and a row fulfil the conditions."""
        values = values_of(self.shape, key, row)
        return values is not None and all(
            value in allowed for value, allowed in zip(values, self.alternatives, strict=True)
        )


def values_of(shape: Shape, key: JsonObject, row: JsonObject) -> Values | None:
    """The values that a record has for the fields of a shape.

    None where one is missing, or is no scalar and so equals none.
    """
    values: list[Scalar] = []
    for place, path in shape:
        found: JsonValue = key if place == "key" else row
        for name in path:
            if not isinstance(found, dict) or name not in found:
                return None
            found = found[name]
        value = scalar(found)
        if value is None:
            return None
        values.append(value)
    return tuple(values)


def scalar(value: JsonValue) -> Scalar | None:
    """A value that is equal, and hashes so, exactly where the JSON values are equal."""
    match value:
        case None:
            return ("null", None)
        case bool():
            return ("bool", value)
        case int() | float():
            return ("number", value)
        case str():
            return ("string", value)
        case _:
            return None


def _fields(given: JsonObject) -> Iterator[tuple[Path, tuple[Scalar, ...]]]:
    waiting: list[tuple[Path, JsonValue]] = [((), given)]
    while waiting:
        path, value = waiting.pop()
        if len(path) > MAX_DEPTH:
            raise ConditionError(f"found fields {len(path)} deep, expected {MAX_DEPTH} at most")
        if isinstance(value, dict):
            if path and not value:
                raise ConditionError(f"found {{}} for {'.'.join(path)!r}, expected fields in it")
            waiting += [((*path, *name.split(".")), inner) for name, inner in value.items()]
        else:
            yield path, _alternatives(path, value)


def _alternatives(path: Path, value: JsonValue) -> tuple[Scalar, ...]:
    listed = value if isinstance(value, list) else [value]
    found = [scalar(one) for one in listed]
    scalars = tuple(dict.fromkeys(one for one in found if one is not None))
    if not scalars or None in found:
        raise ConditionError(
            f"found {'an empty list' if not listed else 'a list or object in the list'} for "
            f"{'.'.join(path)!r}, expected a value or a list of values: strings, numbers, true, "
            "false, null"
        )
    return scalars
