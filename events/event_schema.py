"""JSON Schemas of custom events' data: what is emitted against them is refused, with the path.

Draft 2020-12 unless a schema names another (https://json-schema.org/draft/2020-12). References stay
inside of the schema: nothing is fetched. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError, best_match
from jsonschema.validators import validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable

from events.errors import InvalidDataError, InvalidSchemaError
from events.event_type import check_custom_type
from events.json_codec import JsonValue

_SHOWN_MAX = 200


class EventSchemas:
    """The schemas of an installation by event type."""

    def __init__(self, schemas: Mapping[str, JsonValue] | None = None) -> None:
        """Take schemas in.

        Raises InvalidNameError for a type that is not `custom.<name>`, InvalidSchemaError for
        what is no schema.
        """
        self._validators: dict[str, Draft202012Validator] = {}
        for event_type, schema in (schemas or {}).items():
            check_custom_type(event_type)
            self._validators[event_type] = _validator(event_type, schema)

    def check(self, event_type: str, data: JsonValue) -> None:
        """Raise InvalidDataError where a type has a schema that the data does not keep."""
        validator = self._validators.get(event_type)
        if validator is None:
            return
        try:
            error = best_match(validator.iter_errors(data))
        except (Unresolvable, RecursionError) as failure:
            problem = f"its schema cannot be used: {failure}"
            raise InvalidDataError(event_type, "$", problem) from failure
        if error is not None:
            raise InvalidDataError(event_type, _path(error), _message(error))


def _validator(event_type: str, schema: JsonValue) -> Draft202012Validator:
    if not isinstance(schema, (dict, bool)):
        raise InvalidSchemaError(
            f"found {type(schema).__name__} as the schema of {event_type}, expected an object"
        )
    kind = validator_for(schema, default=Draft202012Validator)
    try:
        kind.check_schema(schema)
    except SchemaError as error:
        raise InvalidSchemaError(
            f"the schema of {event_type} is none: {_message(error)} at {_path(error)}"
        ) from error
    return kind(schema, registry=Registry[object](), format_checker=kind.FORMAT_CHECKER)


def _path(error: ValidationError | SchemaError) -> str:
    """`$.items[0].price`."""
    return error.json_path[:_SHOWN_MAX]


def _message(error: ValidationError | SchemaError) -> str:
    message = error.message
    return message if len(message) <= _SHOWN_MAX else f"{message[:_SHOWN_MAX]}…"
