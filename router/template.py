"""Templates of the built-in action `emit`: JSON in which `"$.path"` takes a field of the event.

`$.after.id` is the field `id` of `after`, with its type; a field that is not there is null. `$$.`
writes a text that begins with `$.`.
"""

from __future__ import annotations

from typing import cast

from events.json_codec import JsonObject, JsonValue
from router.errors import DefinitionError


def fill_template(template: JsonValue, event: JsonObject) -> JsonValue:
    """The template with the event's fields in place."""
    if isinstance(template, str):
        if template.startswith("$$."):
            return template[1:]
        return _field(template[2:], event) if template.startswith("$.") else template
    if isinstance(template, list):
        return [fill_template(item, event) for item in template]
    if isinstance(template, dict):
        return {key: fill_template(item, event) for key, item in template.items()}
    return template


def check_template(template: object) -> None:
    """Raise DefinitionError for a path that means nothing."""
    if isinstance(template, str) and template.startswith("$."):
        if not all(template[2:].split(".")):
            raise DefinitionError(f"found the path {template!r}, expected $.field or $.field.field")
    elif isinstance(template, list):
        for item in cast("list[object]", template):
            check_template(item)
    elif isinstance(template, dict):
        for item in cast("dict[str, object]", template).values():
            check_template(item)


def _field(path: str, event: JsonObject) -> JsonValue:
    value: JsonValue = event
    for name in path.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value
