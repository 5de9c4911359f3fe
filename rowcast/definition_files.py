"""Definitions from files to Kafka and back: `apply`, `get`, `delete`.

The topic rowcast.definitions is the only place where definitions live; a version is one more
than the one there, and a file that says what is there already changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from router.definition import Definition, decode_definition, definition_key, next_version
from router.errors import DefinitionError, ListenerSyntaxError, ModuleSyntaxError
from router.listener_file import parse_listener_file
from router.module import (
    Module,
    decode_module,
    is_module_file,
    is_module_key,
    missing_modules,
    module_key,
    next_module_version,
    parse_module_file,
)
from router.trigger_file import parse_trigger_file
from rowcast.errors import ConfigurationError
from rowcast.installation import Installation
from rowcast.kafka_access import read_topic, write_record
from rowcast.syntax_check import check_guest_syntax

_SUFFIXES = (".py", ".toml")


Applied: TypeAlias = Definition | Module


async def apply_files(installation: Installation, paths: Sequence[Path]) -> list[Applied]:
    """Apply files, or all there are in folders; nothing is applied where one of them is wrong.

    Raises DefinitionError or ConfigurationError for the first wrong file.
    """
    parsed: list[Applied] = []
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
    present = await read_applied(installation)
    _check_together(parsed, places, present)
    applied: list[Applied] = []
    # Modules first: a listener never runs without those it names.
    for one in sorted(parsed, key=lambda one: not isinstance(one, Module)):
        before = present.get(one.name)
        newer = _newer(one, before)
        if newer is not before:
            await _write(installation, newer, newer.encode())
        applied.append(newer)
    return applied


def _newer(one: Applied, before: Applied | None) -> Applied:
    if isinstance(one, Module):
        return next_module_version(one, before if isinstance(before, Module) else None)
    now_ms = time.time_ns() // 1_000_000
    return next_version(one, before if isinstance(before, Definition) else None, now_ms)


def _check_together(
    parsed: Sequence[Applied], places: Mapping[str, Path], present: Mapping[str, Applied]
) -> None:
    """Raise where files do not go with one another or with what is applied already."""
    together = {**present, **{one.name: one for one in parsed}}
    modules = {name: one for name, one in together.items() if isinstance(one, Module)}
    for one in parsed:
        before = present.get(one.name)
        if before is not None and isinstance(before, Module) != isinstance(one, Module):
            raise ConfigurationError(
                f"{places[one.name]}: found the name {one.name!r}, which a listener and a module "
                "would share; choose another for one of them"
            )
        if isinstance(one, Module):
            continue
        missing = missing_modules(one.modules, modules)
        if missing is not None:
            raise DefinitionError(f"{places[one.name]}: {missing}")


async def read_definitions(installation: Installation) -> dict[str, Definition]:
    """Every definition that can be read, by name."""
    applied = await read_applied(installation)
    return {name: one for name, one in applied.items() if isinstance(one, Definition)}


async def read_modules(installation: Installation) -> dict[str, Module]:
    """Every module that can be read, by name."""
    applied = await read_applied(installation)
    return {name: one for name, one in applied.items() if isinstance(one, Module)}


async def read_applied(installation: Installation) -> dict[str, Applied]:
    """Every definition and module that can be read, by name."""
    latest: dict[bytes, bytes | None] = {}
    for record in await read_topic(installation.cluster, installation.cluster.topics.definitions):
        if record.key is not None:
            latest[record.key] = record.value
    found: dict[str, Applied] = {}
    for key, value in latest.items():
        if value is None:
            continue
        try:
            one = decode_module(value) if is_module_key(key) else decode_definition(value)
        except DefinitionError:
            continue  # the doctor names it; the others must still be reachable
        found[one.name] = one
    return found


async def delete_definition(installation: Installation, name: str) -> None:
    """Delete one; raises ConfigurationError where there is none of that name or it is in use."""
    present = await read_applied(installation)
    if name not in present:
        known = ", ".join(sorted(present)) or "none"
        raise ConfigurationError(
            f"found no definition {name!r}, expected one of those applied: {known}"
        )
    users = [
        one.name for one in present.values() if isinstance(one, Definition) and name in one.modules
    ]
    if isinstance(present[name], Module) and users:
        raise ConfigurationError(
            f"the module {name!r} is used by {', '.join(sorted(users))}; expected none, delete or "
            "change those first"
        )
    await _write(installation, present[name], None)


async def _write(installation: Installation, one: Applied, value: bytes | None) -> None:
    topic = installation.cluster.topics.definitions
    key = module_key(one.name) if isinstance(one, Module) else definition_key(one.name)
    await write_record(installation.cluster, topic, key, value)


async def parse_file(installation: Installation, file: Path) -> Applied:
    """The definition of one file; raises DefinitionError or ConfigurationError."""
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file} cannot be read: {error}") from error
    if file.suffix == ".toml":
        return parse_trigger_file(str(file), text)
    try:
        if is_module_file(str(file), text):
            return parse_module_file(str(file), text)
        return parse_listener_file(str(file), text)
    except ListenerSyntaxError as error:
        # The guest is a newer Python than ours: what we cannot read, it may.
        if await check_guest_syntax(installation, text):
            raise
        return error.definition
    except ModuleSyntaxError as error:
        if await check_guest_syntax(installation, text):
            raise
        return error.module


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
