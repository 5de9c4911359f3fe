"""Definitions from files to Kafka and back: `apply`, `get`, `delete`.

The topic rowcast.definitions is the only place where definitions live; a version is one more
than the one there, and a file that says what is there already changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from router.definition import Definition, decode_definition, definition_key, next_version
from router.errors import DefinitionError, ListenerSyntaxError
from router.listener_file import parse_listener_file
from router.trigger_file import parse_trigger_file
from rowcast.errors import ConfigurationError
from rowcast.installation import Installation
from rowcast.kafka_access import read_topic, write_record
from rowcast.syntax_check import check_guest_syntax

_SUFFIXES = (".py", ".toml")


async def apply_files(installation: Installation, paths: Sequence[Path]) -> list[Definition]:
    """Apply files, or all there are in folders; nothing is applied where one of them is wrong.

    Raises DefinitionError or ConfigurationError for the first wrong file.
    """
    parsed: list[Definition] = []
    places: dict[str, Path] = {}
    for file in _expand(paths):
        definition = await parse_file(installation, file)
        if definition.name in places:
            raise ConfigurationError(
                f"found the name {definition.name!r} in {places[definition.name]} and {file}, "
                "expected a name of its own for each; set `name` in one of them"
            )
        places[definition.name] = file
        parsed.append(definition)
    present = await read_definitions(installation)
    applied: list[Definition] = []
    for definition in parsed:
        before = present.get(definition.name)
        newer = next_version(definition, before, time.time_ns() // 1_000_000)
        if newer is not before:
            await _write(installation, newer.name, newer.encode())
        applied.append(newer)
    return applied


async def read_definitions(installation: Installation) -> dict[str, Definition]:
    """Every definition that can be read, by name."""
    latest: dict[bytes, bytes | None] = {}
    for record in await read_topic(installation.cluster, installation.cluster.topics.definitions):
        if record.key is not None:
            latest[record.key] = record.value
    found: dict[str, Definition] = {}
    for value in latest.values():
        if value is None:
            continue
        try:
            definition = decode_definition(value)
        except DefinitionError:
            continue  # the doctor names it; the others must still be reachable
        found[definition.name] = definition
    return found


async def delete_definition(installation: Installation, name: str) -> None:
    """Delete one; raises ConfigurationError where there is none of that name."""
    present = await read_definitions(installation)
    if name not in present:
        known = ", ".join(sorted(present)) or "none"
        raise ConfigurationError(
            f"found no definition {name!r}, expected one of those applied: {known}"
        )
    await _write(installation, name, None)


async def _write(installation: Installation, name: str, value: bytes | None) -> None:
    topic = installation.cluster.topics.definitions
    await write_record(installation.cluster, topic, definition_key(name), value)


async def parse_file(installation: Installation, file: Path) -> Definition:
    """The definition of one file; raises DefinitionError or ConfigurationError."""
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file} cannot be read: {error}") from error
    if file.suffix == ".toml":
        return parse_trigger_file(str(file), text)
    try:
        return parse_listener_file(str(file), text)
    except ListenerSyntaxError as error:
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
                f"found {path}, expected a listener (.py), a trigger (.toml) or a folder of them"
            )
        else:
            raise ConfigurationError(f"{path} was not found; name a file or a folder that exists")
    if not files:
        raise ConfigurationError(
            f"found no .py or .toml file in {', '.join(map(str, paths))}; nothing to apply"
        )
    return files
