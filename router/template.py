"""Templates of built-in actions: JSON and text into which fields of the event are put.

In JSON, `"$.after.id"` is the field `id` of `after`, with its type; a field that is not there is
null. `$$.` writes a text that begins with `$.`. In text, `${after.id}` is the field anywhere in
it, nothing where it is not there; `$${` writes `${`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, cast

from events.json_codec import JsonObject, JsonValue, encode
from router.errors import DefinitionError

_PLACE: Final = re.compile(r"\$?\$\{([^{}]*)\}")


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


def fill_text(
    template: str, event: JsonObject, quote: Callable[[str], str] = lambda text: text
) -> str:
    """The text with the event's fields in place, each quoted; objects and lists as JSON."""

    def fill(place: re.Match[str]) -> str:
        if place[0].startswith("$$"):
            return place[0][1:]
        return quote(_text(_field(place[1], event)))

    return _PLACE.sub(fill, template)


def check_text(template: str) -> None:
    """Raise DefinitionError for a place in a text that means nothing."""
    for place in _PLACE.finditer(template):
        if not place[0].startswith("$$") and not all(place[1].split(".")):
            raise DefinitionError(f"found {place[0]!r}, expected ${{field}} or ${{field.field}}")


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


def _text(value: JsonValue) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else encode(value).decode()
