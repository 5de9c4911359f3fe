"""A custom API's file: Python with a TOML block that says `api`, and by whom and how it is called.

Pure: whoever calls reads the file.
"""

from __future__ import annotations

from typing import Final

import msgspec

from api.custom_api import CustomApi, check_custom_api
from events.json_codec import decode
from router.errors import DefinitionError
from router.listener_file import check_code, read_header_table
from rowcast.header_keys import check_keys

_LISTED: Final = {"method": "methods", "role": "roles"}
_KEYS: Final = (
    "api",
    "method",
    "role",
    "schema",
    *(
        name
        for name in CustomApi.__struct_fields__
        if name not in ("name", "version", "code", "schema", *_LISTED.values())
    ),
)


def parse_custom_api_file(place: str, text: str) -> CustomApi:
    """The custom API that a file writes; `place` is its path, for errors.

    Raises CodeSyntaxError for code that does not parse here, DefinitionError and
    ApiDefinitionError for all else.
    """
    table = read_header_table(place, text)
    check_keys(place, (key for key in table if key != "input"), _KEYS)
    if "input" in table and "schema" in table:
        raise DefinitionError(f"{place}: found `schema` and `input`, expected one of them")
    name = table.pop("api")
    if not isinstance(name, str):
        raise DefinitionError(f"{place}: found api = {name!r}, expected a name")
    if "input" in table:
        table["schema"] = table.pop("input")
    for key, field in _LISTED.items():
        if key in table:
            found = table.pop(key)
            table[field] = [found] if isinstance(found, str) else found
    if isinstance(schema := table.get("schema"), str):
        table["schema"] = _json(place, schema)
    try:
        api = msgspec.convert({**table, "name": name, "code": text}, CustomApi)
    except msgspec.ValidationError as error:
        raise DefinitionError(f"{place}: {error}") from error
    return check_code(place, text, check_custom_api(api), "request")


def _json(place: str, text: str) -> object:
    try:
        return decode(text)
    except ValueError as error:
        raise DefinitionError(
            f"{place}: found a text as the schema that is no JSON ({error}), expected a TOML table "
            "or JSON text"
        ) from error
