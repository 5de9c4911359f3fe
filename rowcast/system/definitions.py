"""Operations on definitions: list, show, apply from files' texts, put one, delete one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, TypeAlias

import msgspec

from api.system_operation import NoArguments, SystemOperation
from events.json_codec import decode_object
from events.kept_definition import KeptDefinition
from rowcast.definition_files import (
    DefinitionText,
    apply_texts,
    delete_definition,
    find_applied,
    read_applied,
)
from rowcast.definition_table import put_definition
from rowcast.installation import Installation

_Name: TypeAlias = Annotated[str, msgspec.Meta(description="name of a definition")]
_FILES_MAX: Final = 1_000


class NameArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One definition by its name."""

    name: _Name


class DefinitionFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file as `rowcast apply` reads it; its name is the path's stem where the text has none."""

    path: Annotated[str, msgspec.Meta(description="listeners/mail.py, triggers/mail.toml")]
    text: str


class ApplyArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Files to apply together: all of them, or none where one is wrong."""

    files: Annotated[list[DefinitionFile], msgspec.Meta(min_length=1, max_length=_FILES_MAX)]


class PutArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A listener or trigger as `get` gives it; version and since_ms are not taken."""

    name: _Name
    definition: dict[str, object]


class DefinitionState(msgspec.Struct, frozen=True):
    """One definition of any kind; `summary` is what it is for, on one line."""

    kind: str
    name: str
    version: int
    enabled: bool
    summary: str
    definition: dict[str, object]


class Deleted(msgspec.Struct, frozen=True):
    """What was deleted."""

    name: str


LIST_DEFINITIONS: Final = SystemOperation(
    "list_definitions",
    "GET",
    "/definitions",
    "All definitions, by name",
    NoArguments,
    list[DefinitionState],
)
GET_DEFINITION: Final = SystemOperation(
    "get_definition", "GET", "/definitions/{name}", "One of them", NameArguments, DefinitionState
)
APPLY: Final = SystemOperation(
    "apply",
    "POST",
    "/definitions",
    "Apply files of definitions: listeners, modules, custom APIs, triggers",
    ApplyArguments,
    list[DefinitionState],
)
PUT_DEFINITION: Final = SystemOperation(
    "put_definition",
    "PUT",
    "/definitions/{name}",
    "Write one listener or trigger, as `get` gives it",
    PutArguments,
    DefinitionState,
)
DELETE_DEFINITION: Final = SystemOperation(
    "delete_definition",
    "DELETE",
    "/definitions/{name}",
    "Delete a definition",
    NameArguments,
    Deleted,
)


async def list_definitions(
    installation: Installation, _arguments: NoArguments
) -> list[DefinitionState]:
    """All, by name."""
    found = await read_applied(installation)
    return [_state(found[name]) for name in sorted(found)]


async def get_definition(installation: Installation, arguments: NameArguments) -> DefinitionState:
    """One; raises NotFoundError."""
    return _state(await find_applied(installation, arguments.name))


async def apply(installation: Installation, arguments: ApplyArguments) -> list[DefinitionState]:
    """Apply files; nothing is applied where one of them is wrong."""
    files = [DefinitionText(Path(file.path), file.text) for file in arguments.files]
    return [_state(one) for one in await apply_texts(installation, files)]


async def put(installation: Installation, arguments: PutArguments) -> DefinitionState:
    """Write one."""
    table = dict(arguments.definition)
    return _state(await put_definition(installation, arguments.name, table))


async def delete(installation: Installation, arguments: NameArguments) -> Deleted:
    """Delete one; raises NotFoundError."""
    await delete_definition(installation, arguments.name)
    return Deleted(arguments.name)


def _state(one: KeptDefinition) -> DefinitionState:
    definition: dict[str, object] = dict(decode_object(one.encode()))
    return DefinitionState(one.kind, one.name, one.version, one.enabled, one.summary, definition)
