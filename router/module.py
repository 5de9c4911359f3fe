"""A module: Python that several listeners share, named in their headers and imported there.

Stands beside the definitions on `rowcast.definitions`, under a key of its own kind, with a version
that grows with each change. Its file has a header as a listener's, with the one key `module`.
"""

from __future__ import annotations

import ast
import keyword
import sys
import tomllib
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from events.json_codec import encode
from router.errors import DefinitionError, ModuleSyntaxError
from router.toml_header import find_header, has_header

MAX_CODE_BYTES: Final = 256 * 1024
MAX_MODULES: Final = 20
"""That one listener may name."""
_MAX_NAME_CHARS: Final = 64
_KEY_START: Final = b'{"module":'
_TAKEN: Final = sys.stdlib_module_names | {"js", "listener", "micropip", "pyodide", "rowcast_guest"}


class Module(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One module; `code` is the whole file."""

    module: str
    code: str
    version: int = 0

    @property
    def name(self) -> str:
        """Its name."""
        return self.module

    def encode(self) -> bytes:
        """The record's value."""
        return encode({"module": self.module, "version": self.version, "code": self.code})


def module_key(name: str) -> bytes:
    """The record's key."""
    return encode({"module": name})


def is_module_key(key: bytes) -> bool:
    """Whether a record of the definitions is a module's."""
    return key.startswith(_KEY_START)


def decode_module(value: bytes) -> Module:
    """From a record's value; raises DefinitionError where it is none."""
    try:
        found = msgspec.json.decode(value, type=Module)
    except msgspec.DecodeError as error:
        raise DefinitionError(f"not a module: {error}") from error
    check_module_name(found.module)
    return found


def next_module_version(module: Module, before: Module | None) -> Module:
    """What is to stand on Kafka after `before`; `before` itself where nothing is changed."""
    if before is not None and before.code == module.code:
        return before
    return msgspec.structs.replace(module, version=before.version + 1 if before else 1)


def is_module_file(place: str, text: str) -> bool:
    """Whether the header of a Python file says that it is a module."""
    if not has_header(text):
        return False
    try:
        return "module" in tomllib.loads(find_header(place, text).toml)
    except tomllib.TOMLDecodeError:
        return False


def parse_module_file(place: str, text: str) -> Module:
    """The module that a file writes; `place` is its path, for errors.

    Raises ModuleSyntaxError for code that does not parse here, DefinitionError for all else.
    """
    table = tomllib.loads(find_header(place, text).toml)
    name = table.pop("module")
    if table:
        raise DefinitionError(
            f"{place}: found the key {next(iter(table))!r} beside `module`, expected no other; a "
            "listener has no key `module` but names those it uses: modules = [...]"
        )
    if not isinstance(name, str):
        raise DefinitionError(f"{place}: found module = {name!r}, expected a name")
    try:
        check_module_name(name)
    except DefinitionError as error:
        raise DefinitionError(f"{place}: {error}") from error
    if (size := len(text.encode())) > MAX_CODE_BYTES:
        raise DefinitionError(
            f"{place}: found {size:,} bytes, expected {MAX_CODE_BYTES:,} at most; split the module"
        )
    module = Module(name, text)
    try:
        ast.parse(text, place)
    except SyntaxError as error:
        message = f"{place}:{error.lineno}: SyntaxError: {error.msg}"
        raise ModuleSyntaxError(message, module) from error
    except ValueError as error:
        raise DefinitionError(f"{place}: {error}") from error
    return module


def check_module_name(name: str) -> None:
    """Raise DefinitionError for a name that no `import` finds, or finds something else."""
    is_name = name.isascii() and name.isidentifier() and not keyword.iskeyword(name)
    if not is_name or name.startswith("_") or len(name) > _MAX_NAME_CHARS:
        raise DefinitionError(
            f"found the module name {name[:80]!r}, expected letters, digits and '_', "
            f"{_MAX_NAME_CHARS} at most, a letter first"
        )
    if name in _TAKEN:
        raise DefinitionError(
            f"found the module name {name!r}, which is a module that there is already; choose "
            "another"
        )


def missing_modules(names: Iterable[str], present: Mapping[str, Module]) -> str | None:
    """What to say where a listener names modules that there are not; None where all are there."""
    missing = [name for name in names if name not in present]
    if not missing:
        return None
    known = ", ".join(sorted(present)) or "none"
    return (
        f"found modules = {missing}, expected modules that are applied: {known}. Apply the file "
        f'whose header says module = "{missing[0]}"'
    )
