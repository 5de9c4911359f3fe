"""JSON Schemas of custom events' data, and of what else is checked: refused with the path.

Draft 2020-12 unless a schema names another (https://json-schema.org/draft/2020-12). References stay
inside of the schema: nothing is fetched. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError, best_match
from jsonschema.validators import validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable

from events.errors import InvalidDataError, InvalidSchemaError
from events.event_type import check_custom_type
from events.json_codec import JsonValue

_SHOWN_MAX = 200


class JsonSchema:
    """One schema; `subject` says in errors what it is the schema of."""

    def __init__(self, subject: str, schema: JsonValue) -> None:
        """Take a schema in; raises InvalidSchemaError for what is none."""
        self._subject = subject
        self.schema = schema
        if not isinstance(schema, (dict, bool)):
            raise InvalidSchemaError(
                f"found {type(schema).__name__} as the schema of {subject}, expected an object"
            )
        kind = validator_for(schema, default=Draft202012Validator)
        try:
            # With the formats, so that a pattern that is none is found here.
            kind.check_schema(schema, format_checker=kind.FORMAT_CHECKER)  # pyright: ignore[reportCallIssue] - the stubs lack it
        except SchemaError as error:
            raise InvalidSchemaError(
                f"the schema of {subject} is none: {_message(error)} at {_path(error)}"
            ) from error
        self._validator: Draft202012Validator = kind(
            schema, registry=Registry[object](), format_checker=kind.FORMAT_CHECKER
        )

    def check(self, data: JsonValue) -> None:
        """Raise InvalidDataError where data does not keep it."""
        try:
            error = best_match(self._validator.iter_errors(data))
        except (Unresolvable, RecursionError) as failure:
            problem = f"its schema cannot be used: {failure}"
            raise InvalidDataError(self._subject, "$", problem) from failure
        if error is not None:
            raise InvalidDataError(self._subject, _path(error), _message(error))


class EventSchemas:
    """The schemas of an installation by event type."""

    def __init__(self, schemas: Mapping[str, JsonValue] | None = None) -> None:
        """Take schemas in.

        Raises InvalidNameError for a type that is not `custom.<name>`, InvalidSchemaError for
        what is no schema.
        """
        self._schemas: dict[str, JsonSchema] = {}
        for event_type, schema in (schemas or {}).items():
            check_custom_type(event_type)
            self._schemas[event_type] = JsonSchema(event_type, schema)

    def items(self) -> Iterable[tuple[str, JsonValue]]:
        """Types and their schemas as they were given, for whoever checks them elsewhere."""
        return ((event_type, one.schema) for event_type, one in self._schemas.items())

    def has(self, event_type: str) -> bool:
        """Whether a type has a schema."""
        return event_type in self._schemas

    def check(self, event_type: str, data: JsonValue) -> None:
        """Raise InvalidDataError where a type has a schema that the data does not keep."""
        schema = self._schemas.get(event_type)
        if schema is not None:
            schema.check(data)


def _path(error: ValidationError | SchemaError) -> str:
    """`$.items[0].price`."""
    return error.json_path[:_SHOWN_MAX]


def _message(error: ValidationError | SchemaError) -> str:
    message = error.message
    return message if len(message) <= _SHOWN_MAX else f"{message[:_SHOWN_MAX]}…"
