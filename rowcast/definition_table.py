"""One listener or trigger from its JSON, as `get` gives it and PUT /admin/v1/definitions takes it.

Definitions of other kinds are written by their files alone.
"""

from __future__ import annotations

from pathlib import Path

from events.event_type import schedule_type
from events.kept_definition import KeptDefinition
from router.definition import KEPT_FIELDS, ListenerCode, convert_definition
from router.errors import CodeSyntaxError
from router.listener_file import check_code
from rowcast.definition_files import apply_parsed
from rowcast.errors import ConfigurationError
from rowcast.installation import Installation
from rowcast.syntax_check import check_guest_syntax


async def put_definition(
    installation: Installation, name: str, table: dict[str, object]
) -> KeptDefinition:
    """Apply it; what Rowcast keeps itself (version, since_ms) is not taken.

    Raises DefinitionError or ConfigurationError for what means nothing.
    """
    # A field that is null is one that is not set.
    given = {
        key: value for key, value in table.items() if value is not None and key not in KEPT_FIELDS
    }
    if given.setdefault("name", name) != name:
        raise ConfigurationError(
            f"found name = {given['name']!r} in what is to be {name!r}, expected the same"
        )
    by_the_clock = "schedule" in given or "every" in given
    if by_the_clock and name and given.get("on") == schedule_type(name):
        del given["on"]
    definition = convert_definition(given, name)
    if isinstance(definition.action, ListenerCode):
        code = definition.action.code
        try:
            check_code(name, code, definition)
        except CodeSyntaxError:
            # The guest is a newer Python than ours: what we cannot read, it may.
            if await check_guest_syntax(installation, code):
                raise
    return (await apply_parsed(installation, [definition], {name: Path(name)}))[0]
