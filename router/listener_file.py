"""A listener file: Python with a TOML block that says for which events it runs.

The file's stem is the listener's name unless the block gives another. Pure: whoever calls reads
the file. Code that this Python cannot parse may still be right for the sandbox's newer one, so
that error carries the definition along.
"""

from __future__ import annotations

import ast
import tomllib
from pathlib import PurePath

from router.definition import Definition, convert_definition
from router.errors import DefinitionError, ListenerSyntaxError
from router.toml_header import find_header

_PARAMETERS = 2


def parse_listener_file(place: str, text: str) -> Definition:
    """The definition that a listener file writes; `place` is its path, for name and errors.

    Raises ListenerSyntaxError for code that does not parse here, DefinitionError for all else,
    each with file, line and mend.
    """
    header = find_header(place, text)
    try:
        table: dict[str, object] = tomllib.loads(header.toml)
    except tomllib.TOMLDecodeError as error:
        raise DefinitionError(
            f"{place}: the block that begins on line {header.first_line} is not TOML "
            f"(counting from there): {error}"
        ) from error
    _refuse_code_key(place, table)
    table.setdefault("name", PurePath(place).stem)
    table["action"] = {"do": "code", "code": text}
    definition = convert_definition(table, place)
    try:
        module = ast.parse(text, place)
    except SyntaxError as error:
        raise ListenerSyntaxError(_describe_syntax_error(place, error), definition) from error
    except ValueError as error:
        raise DefinitionError(f"{place}: {error}") from error
    _check_main(place, module)
    return definition


def _refuse_code_key(place: str, table: dict[str, object]) -> None:
    for key in ("webhook", "emit", "email", "action"):
        if key in table:
            raise DefinitionError(
                f"{place}: found {key!r} in a listener's block, expected none, since the code "
                f"below is its action; for a built-in action write a .toml file"
            )


def _check_main(place: str, module: ast.Module) -> None:
    found = [
        node
        for node in module.body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == "main"
    ]
    if not found:
        raise DefinitionError(
            f"{place}: found no function main, expected `async def main(event, g):` or "
            "`def main(event, g):` at the top level"
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
            "the event and g"
        )


def _describe_syntax_error(place: str, error: SyntaxError) -> str:
    line = (error.text or "").rstrip("\n")
    caret = " " * max((error.offset or 1) - 1, 0) + "^"
    return f"{place}:{error.lineno}: SyntaxError: {error.msg}\n    {line}\n    {caret}"
