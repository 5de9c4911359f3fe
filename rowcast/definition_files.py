"""Definitions from files to Kafka and back: `apply`, `get`, `delete`.

The topic rowcast.definitions is the only place where definitions live; a version is one more
than the one there, and a file that says what is there already changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from events.kept_definition import KeptDefinition
from router.definition import Definition
from router.errors import CodeSyntaxError, DefinitionError
from router.module import Module, missing_modules
from rowcast.definition_kinds import decode_record, kind_of, parse_definition, record_key
from rowcast.errors import ConfigurationError, NotFoundError
from rowcast.installation import Installation
from rowcast.kafka_access import read_topic, write_record
from rowcast.syntax_check import check_guest_syntax

_SUFFIXES = (".py", ".toml")


@dataclass(frozen=True, slots=True)
class DefinitionText:
    """What a file says; its path is for its name, its kind and for errors."""

    path: Path
    text: str


def read_files(paths: Iterable[Path]) -> list[DefinitionText]:
    """Files, or all there are in folders; raises ConfigurationError for one that cannot be read."""
    return [DefinitionText(file, _read(file)) for file in _expand(paths)]


async def apply_files(installation: Installation, paths: Sequence[Path]) -> list[KeptDefinition]:
    """Apply files, or all there are in folders; nothing is applied where one of them is wrong.

    Raises DefinitionError or ConfigurationError for the first wrong file.
    """
    return await apply_texts(installation, read_files(paths))


async def apply_texts(
    installation: Installation, files: Sequence[DefinitionText]
) -> list[KeptDefinition]:
    """The same for what files say."""
    parsed: list[KeptDefinition] = []
    places: dict[str, Path] = {}
    for file in files:
        definition = await parse_text(installation, file)
        if definition.name in places:
            raise ConfigurationError(
                f"found the name {definition.name!r} in {places[definition.name]} and "
                f"{file.path}, expected a name of its own for each; set `name` in one of them"
            )
        places[definition.name] = file.path
        parsed.append(definition)
    return await apply_parsed(installation, parsed, places)


async def apply_parsed(
    installation: Installation, parsed: Sequence[KeptDefinition], places: Mapping[str, Path]
) -> list[KeptDefinition]:
    """Write what was parsed where it is new, each from its place, modules first.

    Raises DefinitionError or ConfigurationError where they do not go together.
    """
    present = await read_applied(installation)
    _check_together(parsed, places, present)
    applied: list[KeptDefinition] = []
    # Modules first: a listener never runs without those it names.
    for one in sorted(parsed, key=lambda one: not isinstance(one, Module)):
        before = present.get(one.name)
        newer = one.succeeding(before, time.time_ns() // 1_000_000)
        if newer is not before:
            await _write(installation, newer, newer.encode())
        applied.append(newer)
    return applied


def _check_together(
    parsed: Sequence[KeptDefinition],
    places: Mapping[str, Path],
    present: Mapping[str, KeptDefinition],
) -> None:
    """Raise where files do not go with one another or with what is applied already."""
    together = {**present, **{one.name: one for one in parsed}}
    modules = {name: one for name, one in together.items() if isinstance(one, Module)}
    for one in parsed:
        before = present.get(one.name)
        if before is not None and before.kind != one.kind:
            raise ConfigurationError(
                f"{places[one.name]}: found the name {one.name!r}, which a {kind_of(before).title} "
                f"and a {kind_of(one).title} would share; choose another for one of them"
            )
        missing = missing_modules(one.uses, modules)
        if missing is not None:
            raise DefinitionError(f"{places[one.name]}: {missing}")


async def read_applied(installation: Installation) -> dict[str, KeptDefinition]:
    """Every definition of each kind that can be read, by name."""
    latest: dict[bytes, bytes | None] = {}
    for record in await read_topic(installation.cluster, installation.cluster.topics.definitions):
        if record.key is not None:
            latest[record.key] = record.value
    found: dict[str, KeptDefinition] = {}
    for key, value in latest.items():
        if value is None:
            continue
        try:
            one = decode_record(key, value)
        except DefinitionError:
            continue  # the doctor names it; the others must still be reachable
        if one is not None:
            found[one.name] = one
    return found


async def read_listeners(installation: Installation) -> dict[str, Definition]:
    """Every listener and trigger that can be read, by name."""
    applied = await read_applied(installation)
    return {name: one for name, one in applied.items() if isinstance(one, Definition)}


async def find_applied(installation: Installation, name: str) -> KeptDefinition:
    """The definition of a name; raises NotFoundError."""
    return _find(await read_applied(installation), name)


def _find(present: Mapping[str, KeptDefinition], name: str) -> KeptDefinition:
    if name not in present:
        known = ", ".join(sorted(present)) or "none"
        raise NotFoundError(f"found no definition {name!r}, expected one of those applied: {known}")
    return present[name]


async def delete_definition(installation: Installation, name: str) -> None:
    """Delete one; raises NotFoundError where there is none, ConfigurationError if it is in use."""
    present = await read_applied(installation)
    one = _find(present, name)
    users = [one.name for one in present.values() if name in one.uses]
    if isinstance(one, Module) and users:
        raise ConfigurationError(
            f"the module {name!r} is used by {', '.join(sorted(users))}; expected none, delete or "
            "change those first"
        )
    await _write(installation, one, None)


async def _write(installation: Installation, one: KeptDefinition, value: bytes | None) -> None:
    topic = installation.cluster.topics.definitions
    await write_record(installation.cluster, topic, record_key(one), value)


async def parse_file(installation: Installation, file: Path) -> KeptDefinition:
    """The definition of one file; raises DefinitionError or ConfigurationError."""
    return await parse_text(installation, DefinitionText(file, _read(file)))


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file} cannot be read: {error}") from error


async def parse_text(installation: Installation, given: DefinitionText) -> KeptDefinition:
    """The definition that a file's text is; raises DefinitionError or ConfigurationError."""
    file, text = given.path, given.text
    if file.suffix not in _SUFFIXES:
        raise ConfigurationError(
            f"found {file}, expected a definition (.py or .toml) or a folder of them"
        )
    try:
        return parse_definition(str(file), text)
    except CodeSyntaxError as error:
        # The guest is a newer Python than ours: what we cannot read, it may.
        if await check_guest_syntax(installation, text):
            raise
        return error.definition


def _expand(paths: Iterable[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += sorted(file for file in path.rglob("*") if file.suffix in _SUFFIXES)
        elif path.suffix in _SUFFIXES and path.exists():
            files.append(path)
        elif path.exists():
            raise ConfigurationError(
                f"found {path}, expected a definition (.py or .toml) or a folder of them"
            )
        else:
            raise ConfigurationError(f"{path} was not found; name a file or a folder that exists")
    if not files:
        raise ConfigurationError(
            f"found no .py or .toml file in {', '.join(map(str, paths))}; nothing to apply"
        )
    return files
