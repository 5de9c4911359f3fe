"""A trigger file: TOML that asks for a built-in action, so that a trigger needs no code."""

from __future__ import annotations

import tomllib
from pathlib import PurePath
from typing import cast

from router.definition import Definition, convert_definition
from router.errors import DefinitionError

ACTIONS = ("webhook", "emit", "email")


def parse_trigger_file(place: str, text: str) -> Definition:
    """The definition that a trigger file writes; `place` is its path, for name and errors.

    Raises DefinitionError with the place and the mend.
    """
    try:
        table: dict[str, object] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DefinitionError(f"{place} is not TOML: {error}") from error
    named = [name for name in ACTIONS if name in table]
    if len(named) != 1:
        found = " and ".join(f"[{name}]" for name in named) or "no action"
        expected = ", ".join(f"[{name}]" for name in ACTIONS)
        raise DefinitionError(f"{place}: found {found}, expected one of {expected}")
    action = table.pop(named[0])
    if not isinstance(action, dict):
        raise DefinitionError(f"{place}: found {action!r} as {named[0]}, expected a table")
    table.setdefault("name", PurePath(place).stem)
    table["action"] = {**cast("dict[str, object]", action), "do": named[0]}
    return convert_definition(table, place)
