"""A JSON Schema in the form that `rowcast.emit` checks in SQL, and what of it SQL cannot check.

References are resolved into a table, patterns are translated, what means nothing to our validator
is left out: so cdc/emit_functions.py stays small, and what it does not know it never sees. All
keywords of draft 2020-12 are there but the few that `SqlSchema.unchecked` names. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote

from cdc.sql_pattern import PatternDifferenceError, postgres_pattern
from events.json_codec import JsonObject, JsonValue

_DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
_AS_THEY_ARE: Final = frozenset(
    (
        "const",
        "enum",
        "required",
        "dependentRequired",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
        "uniqueItems",
        "minContains",
        "maxContains",
    )
)
_ONE: Final = frozenset(
    ("additionalProperties", "items", "not", "if", "then", "else", "contains", "propertyNames")
)
_LISTS: Final = frozenset(("allOf", "anyOf", "oneOf", "prefixItems"))
_NAMED: Final = frozenset(("properties", "dependentSchemas"))
_UNKNOWN_TO_SQL: Final = frozenset(
    ("$dynamicRef", "unevaluatedItems", "unevaluatedProperties", "$recursiveRef")
)
_NOT_MONOTONE: Final = frozenset(("not", "oneOf", "if", "contains"))
"""To check less inside of them may refuse more."""

_FORMATS: Final = frozenset(("date", "email", "idn-email", "ipv4", "uuid"))
_FORMATS_OF_PYTHON: Final = frozenset(("ipv6", "idn-hostname", "regex"))


@dataclass(frozen=True, slots=True)
class SqlSchema:
    """What is installed, and what of the schema is not in it, each as `$.path: what`.

    `form` is None where nothing of it can be checked.
    """

    form: JsonObject | None
    unchecked: tuple[str, ...]
    patterns: tuple[str, ...] = ()


def sql_schema(schema: JsonValue) -> SqlSchema:
    """The SQL form of a schema that our own validator has taken."""
    return _Translation(schema).whole()


@dataclass(slots=True)
class _Translation:
    root: JsonValue
    refs: JsonObject = field(default_factory=dict[str, JsonValue])
    unchecked: list[str] = field(default_factory=list[str])
    patterns: list[str] = field(default_factory=list[str])
    monotone: bool = True

    def whole(self) -> SqlSchema:
        root = self.root
        if isinstance(root, dict) and root.get("$schema", _DRAFT) not in (_DRAFT, f"{_DRAFT}#"):
            return SqlSchema(None, (f"$: the draft {root['$schema']}",))
        form: JsonObject = {"schema": self.translated(root, "$"), "refs": self.refs}
        if self.unchecked and not self.monotone:
            return SqlSchema(None, tuple(self.unchecked))
        return SqlSchema(form, tuple(self.unchecked), tuple(self.patterns))

    def translated(self, schema: JsonValue, path: str) -> JsonValue:
        if not isinstance(schema, dict):
            return schema
        if "$id" in schema and schema is not self.root:
            self.unchecked.append(f"{path}: $id inside of a schema")
            return True
        made: JsonObject = {}
        for word, value in schema.items():
            self._keyword(schema, word, value, f"{path}.{word}", made)
        return made

    def _keyword(
        self, schema: JsonObject, word: str, value: JsonValue, path: str, made: JsonObject
    ) -> None:
        if word in _NOT_MONOTONE:
            self.monotone = False
        if word in _AS_THEY_ARE:
            made[word] = value
        elif word == "type":
            made[word] = value if isinstance(value, list) else [value]
        elif word in _ONE:
            if word not in ("then", "else") or "if" in schema:
                made[word] = self.translated(value, path)
        elif word in _LISTS and isinstance(value, list):
            made[word] = [self.translated(one, f"{path}[{at}]") for at, one in enumerate(value)]
        elif word in _NAMED and isinstance(value, dict):
            made[word] = {
                name: self.translated(one, f"{path}.{name}") for name, one in value.items()
            }
        elif word in _UNKNOWN_TO_SQL:
            self.unchecked.append(f"{path}: {word}")
        else:
            self._special(word, value, path, made)

    def _special(self, word: str, value: JsonValue, path: str, made: JsonObject) -> None:
        special: dict[str, Callable[[JsonValue, str, JsonObject], None]] = {
            "pattern": self._pattern,
            "patternProperties": self._pattern_properties,
            "multipleOf": self._multiple_of,
            "format": self._format,
            "$ref": self._reference,
        }
        translate = special.get(word)
        if translate is not None:
            translate(value, path, made)

    def _pattern(self, value: JsonValue, path: str, made: JsonObject) -> None:
        try:
            pattern = postgres_pattern(str(value))
        except PatternDifferenceError as error:
            self.unchecked.append(f"{path}: {error}")
            return
        self.patterns.append(pattern)
        made["pattern"] = pattern

    def _pattern_properties(self, value: JsonValue, path: str, made: JsonObject) -> None:
        if not isinstance(value, dict):
            return
        found: list[JsonValue] = []
        for name, one in value.items():
            translated: JsonObject = {}
            self._pattern(name, f"{path}.{name}", translated)
            if not translated:
                # What it matches is no longer known, and so not what is additional.
                self.monotone = False
                return
            found.append([translated["pattern"], self.translated(one, f"{path}.{name}")])
        made["patternProperties"] = found

    def _multiple_of(self, value: JsonValue, path: str, made: JsonObject) -> None:
        del path
        # Our validator divides as floats where the schema has one.
        made["multipleOf"] = {"float" if isinstance(value, float) else "exact": value}

    def _format(self, value: JsonValue, path: str, made: JsonObject) -> None:
        if value in _FORMATS:
            made["format"] = value
        elif value in _FORMATS_OF_PYTHON:
            self.unchecked.append(f"{path}: the format {value}")

    def _reference(self, value: JsonValue, path: str, made: JsonObject) -> None:
        reference = str(value)
        try:
            target = self._target(reference)
        except (LookupError, ValueError):
            self.unchecked.append(f"{path}: the reference {reference}")
            return
        made["$ref"] = reference
        if reference not in self.refs:
            self.refs[reference] = True  # it may refer to itself
            self.refs[reference] = self.translated(target, reference)

    def _target(self, reference: str) -> JsonValue:
        if not reference.startswith("#"):
            raise LookupError(reference)
        found = self.root
        pointer = unquote(reference[1:])
        if pointer and not pointer.startswith("/"):
            raise LookupError(reference)
        for raw in pointer.split("/")[1:]:
            step = raw.replace("~1", "/").replace("~0", "~")
            if isinstance(found, dict):
                found = found[step]
            elif isinstance(found, list):
                found = found[int(step)]
            else:
                raise LookupError(reference)
        return found
