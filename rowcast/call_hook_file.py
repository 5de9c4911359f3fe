"""A hook's file: Python with a TOML block that says `before` which calls it is asked.

The file's stem is the hook's name unless the block gives another. Pure.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import Final

import msgspec

from api.call_hook import CallHook, check_call_hook
from router.errors import DefinitionError
from router.listener_file import check_code, read_header_table
from rowcast.header_keys import check_keys

_KEYS: Final = tuple(name for name in CallHook.__struct_fields__ if name not in ("version", "code"))


def parse_call_hook_file(place: str, text: str) -> CallHook:
    """The hook that a file writes; `place` is its path, for name and errors.

    Raises CodeSyntaxError for code that does not parse here, DefinitionError and
    ApiDefinitionError for all else.
    """
    table = read_header_table(place, text)
    check_keys(place, table, _KEYS)
    table.setdefault("name", PurePath(place).stem)
    try:
        hook = msgspec.convert({**table, "code": text}, CallHook)
    except msgspec.ValidationError as error:
        raise DefinitionError(f"{place}: {error}") from error
    return check_code(place, text, check_call_hook(hook), "call")
