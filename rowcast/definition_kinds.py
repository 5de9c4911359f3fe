"""The kinds of definitions there are: which file is of which, how it is read, what its record is.

A kind is one entry of KINDS. Its value keeps `events.kept_definition.KeptDefinition`; a kind that
needs no more than a version is a struct over `VersionedDefinition`. Whoever serves a kind finds
its definitions, as they change, in `api.definition_table` (kinds with `served`) or in the router.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final

from api.call_hook import decode_call_hook
from api.custom_api import decode_custom_api
from api.errors import ApiDefinitionError
from api.third_party_definition import decode_third_party, parse_third_party_file
from events.kept_definition import KeptDefinition, definition_record_key, kind_of_key
from router.definition import decode_definition
from router.errors import DefinitionError
from router.listener_file import parse_listener_file
from router.module import decode_module, parse_module_file
from router.toml_header import find_header, has_header
from router.trigger_file import parse_trigger_file
from rowcast.call_hook_file import parse_call_hook_file
from rowcast.custom_api_file import parse_custom_api_file


@dataclass(frozen=True, slots=True)
class DefinitionKind:
    """One kind.

    `name` stands in the record's key; `title` in messages. A file is of this kind where it ends in
    `suffix` and its TOML (of a .py file its header's) has the key `mark`; a kind without a mark
    takes what no other does. `parse` is given the file's path and text and raises DefinitionError
    or ApiDefinitionError, or CodeSyntaxError for code that only this Python cannot read; `decode`
    is given a record's value and raises one of the former. `served` is set where the HTTP service
    needs it.
    """

    name: str
    title: str
    suffix: str
    mark: str
    parse: Callable[[str, str], KeptDefinition]
    decode: Callable[[bytes], KeptDefinition]
    served: bool = False


def _parse_listener(place: str, text: str) -> KeptDefinition:
    if PurePath(place).suffix == ".toml":
        return parse_trigger_file(place, text)
    return parse_listener_file(place, text)


KINDS: Final = (
    DefinitionKind("module", "module", ".py", "module", parse_module_file, decode_module, True),
    DefinitionKind(
        "api", "custom API", ".py", "api", parse_custom_api_file, decode_custom_api, True
    ),
    DefinitionKind(
        "hook", "hook", ".py", "before", parse_call_hook_file, decode_call_hook, served=True
    ),
    DefinitionKind(
        *("third_party", "third-party API", ".toml", "third_party"),
        *(parse_third_party_file, decode_third_party, True),
    ),
    DefinitionKind("listener", "listener", "", "", _parse_listener, decode_definition),
)
"""In the order in which a file is tried; the kind without a mark is last."""

_BY_NAME: Final = {kind.name: kind for kind in KINDS}


def kind_of(definition: KeptDefinition) -> DefinitionKind:
    """The kind of a definition."""
    return _BY_NAME[definition.kind]


def record_key(definition: KeptDefinition) -> bytes:
    """The key of a definition's record."""
    return definition_record_key(definition.kind, definition.name)


def decode_record(key: bytes, value: bytes) -> KeptDefinition | None:
    """The definition of a record, None where its kind is not known here.

    Raises DefinitionError where it is none of its kind.
    """
    kind = _BY_NAME.get(kind_of_key(key) or "")
    try:
        return kind.decode(value) if kind is not None else None
    except ApiDefinitionError as error:
        raise DefinitionError(str(error)) from error


def parse_definition(place: str, text: str) -> KeptDefinition:
    """The definition that a file writes; `place` is its path, for name and errors.

    Raises CodeSyntaxError for code that does not parse here, DefinitionError for all else.
    """
    suffix = PurePath(place).suffix
    keys = _keys(place, text)
    for kind in KINDS:
        if not kind.mark or (kind.suffix == suffix and kind.mark in keys):
            try:
                return kind.parse(place, text)
            except ApiDefinitionError as error:
                raise DefinitionError(f"{place}: {error}") from error
    raise AssertionError("a kind without a mark takes whatever there is")


def _keys(place: str, text: str) -> frozenset[str]:
    """The keys of a file's TOML; none where it is not readable, which its kind then says."""
    try:
        if PurePath(place).suffix == ".py":
            text = find_header(place, text).toml if has_header(text) else ""
        return frozenset(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, DefinitionError):
        return frozenset()
