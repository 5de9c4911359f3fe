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
from events.kept_definition import KeptDefinition
from router.errors import CodeSyntaxError, DefinitionError
from router.toml_header import find_header

MAX_CODE_BYTES: Final = 256 * 1024
MAX_MODULES: Final = 20
"""That one listener may name."""
_MAX_NAME_CHARS: Final = 64
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

    @property
    def kind(self) -> str:
        """What stands in the record's key."""
        return "module"

    @property
    def enabled(self) -> bool:
        """Always: what no listener names is not in force anyway."""
        return True

    @property
    def uses(self) -> tuple[str, ...]:
        """None that would have to be there: a listener names all that are imported."""
        return ()

    @property
    def summary(self) -> str:
        """For a list of definitions."""
        return "module"

    def succeeding(self, before: KeptDefinition | None, now_ms: int) -> Module:
        """What is to stand on Kafka after `before`; `before` itself where nothing is changed."""
        del now_ms
        if not isinstance(before, Module):
            return msgspec.structs.replace(self, version=1)
        if before.code == self.code:
            return before
        return msgspec.structs.replace(self, version=before.version + 1)

    def encode(self) -> bytes:
        """The record's value."""
        return encode({"module": self.module, "version": self.version, "code": self.code})


def decode_module(value: bytes) -> Module:
    """From a record's value; raises DefinitionError where it is none."""
    try:
        found = msgspec.json.decode(value, type=Module)
    except msgspec.DecodeError as error:
        raise DefinitionError(f"not a module: {error}") from error
    check_module_name(found.module)
    return found


def parse_module_file(place: str, text: str) -> Module:
    """The module that a file writes; `place` is its path, for errors.

    Raises CodeSyntaxError for code that does not parse here, DefinitionError for all else.
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
        raise CodeSyntaxError(message, module) from error
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
