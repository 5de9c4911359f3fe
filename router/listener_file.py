"""A listener file: Python with a TOML block that says for which events it runs.

The file's stem is the listener's name unless the block gives another. Pure: whoever calls reads
the file. Code that this Python cannot parse may still be right for the sandbox's newer one, so
that error carries the definition along.
"""

from __future__ import annotations

import ast
import tomllib
from pathlib import PurePath
from typing import TypeVar

from events.kept_definition import KeptDefinition
from router.definition import Definition, convert_definition
from router.errors import CodeSyntaxError, DefinitionError
from router.toml_header import find_header

_PARAMETERS = 2

Coded = TypeVar("Coded", bound=KeptDefinition)


def parse_listener_file(place: str, text: str) -> Definition:
    """The definition that a listener file writes; `place` is its path, for name and errors.

    Raises CodeSyntaxError for code that does not parse here, DefinitionError for all else,
    each with file, line and mend.
    """
    table = read_header_table(place, text)
    _refuse_code_key(place, table)
    _read_after(place, table)
    table.setdefault("name", PurePath(place).stem)
    table["action"] = {"do": "code", "code": text}
    return check_code(place, text, convert_definition(table, place))


def read_header_table(place: str, text: str) -> dict[str, object]:
    """The TOML of a file's header; raises DefinitionError with place and mend."""
    header = find_header(place, text)
    try:
        return tomllib.loads(header.toml)
    except tomllib.TOMLDecodeError as error:
        raise DefinitionError(
            f"{place}: the block that begins on line {header.first_line} is not TOML "
            f"(counting from there): {error}"
        ) from error


def check_code(place: str, text: str, definition: Coded, first: str = "event") -> Coded:
    """The definition itself where its code has a `main` of two parameters, `first` and g.

    Raises CodeSyntaxError for code that does not parse here, DefinitionError for all else.
    """
    try:
        module = ast.parse(text, place)
    except SyntaxError as error:
        raise CodeSyntaxError(_describe_syntax_error(place, error), definition) from error
    except ValueError as error:
        raise DefinitionError(f"{place}: {error}") from error
    _check_main(place, module, first)
    return definition


def _read_after(place: str, table: dict[str, object]) -> None:
    """`after` is `on` for the events of calls (docs/custom-apis.md)."""
    if "after" not in table:
        return
    after = table.pop("after")
    if "on" in table:
        raise DefinitionError(f"{place}: found `on` and `after`, expected one of them")
    if not isinstance(after, str) or not after.startswith("api."):
        raise DefinitionError(
            f"{place}: found after = {after!r}, expected the type of calls, such as "
            "api.data.shop.orders.created; `on` is for all events"
        )
    table["on"] = after


def _refuse_code_key(place: str, table: dict[str, object]) -> None:
    for key in ("webhook", "emit", "email", "action"):
        if key in table:
            raise DefinitionError(
                f"{place}: found {key!r} in a listener's block, expected none, since the code "
                f"below is its action; for a built-in action write a .toml file"
            )


def _check_main(place: str, module: ast.Module, first: str) -> None:
    found = [
        node
        for node in module.body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == "main"
    ]
    if not found:
        raise DefinitionError(
            f"{place}: found no function main, expected `async def main({first}, g):` or "
            f"`def main({first}, g):` at the top level"
        )
    main = found[-1]
    arguments = main.args
    positional = len(arguments.posonlyargs) + len(arguments.args)
    required = positional - len(arguments.defaults)
    takes_two = required <= _PARAMETERS and (positional >= _PARAMETERS or arguments.vararg)
    needed = [default for default in arguments.kw_defaults if default is None]
    if not takes_two or needed:
        raise DefinitionError(
            f"{place}:{main.lineno}: main takes {positional} parameters, expected two: "
            f"the {first} and g"
        )


def _describe_syntax_error(place: str, error: SyntaxError) -> str:
    line = (error.text or "").rstrip("\n")
    caret = " " * max((error.offset or 1) - 1, 0) + "^"
    return f"{place}:{error.lineno}: SyntaxError: {error.msg}\n    {line}\n    {caret}"
