"""The examples that come with Rowcast, as files: which there are, and what each brings.

examples/NAME/
    README.md      what it shows
    tables.sql     tables, made before capture begins
    rows.sql       rows, written once capture runs
    documents/     COLLECTION.json: documents of MongoDB, written then too
    listeners/, triggers/, apis/    what `rowcast apply` takes
    settings.toml  what it needs in rowcast.toml; ports 84xx, in definitions too, move with the
                   installation's
    web/           a page, served at / (and at /NAME/)
    try.txt        what `rowcast up` prints, with $http, $token, ${token_ada} and so on
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Final, cast

import tomli_w

EXAMPLES: Final = Path(__file__).resolve().parent.parent / "examples"
_DEFAULT_PORT = re.compile(r"\b84(?P<offset>\d\d)\b")
_OUR_ADDRESS = re.compile(r"127\.0\.0\.1:84\d\d\b")
_DEFAULT_BASE: Final = 8400
_DEFINITIONS: Final = ("listeners/*.py", "triggers/*.toml", "apis/*")


def example_names() -> tuple[str, ...]:
    """The examples there are."""
    return tuple(sorted(file.parent.name for file in EXAMPLES.glob("*/tables.sql")))


def settings_text(names: Sequence[str], port_base: int) -> str:
    """What some examples need in rowcast.toml, as TOML; empty where that is nothing."""
    merged: dict[str, object] = {}
    for name in names:
        file = EXAMPLES / name / "settings.toml"
        if file.exists():
            _merge(merged, tomllib.loads(_moved(file.read_text(), port_base)))
    if not merged:
        return ""
    return f"\n# What the example needs: {', '.join(names)}.\n{tomli_w.dumps(merged)}"


def definition_files(name: str, port_base: int, folder: Path) -> list[Path]:
    """The files that an example applies; where ports are moved, copies in a folder."""
    files = [file for kind in _DEFINITIONS for file in sorted((EXAMPLES / name).glob(kind))]
    return [_definition_file(file, port_base, folder) for file in files]


def _definition_file(file: Path, port_base: int, folder: Path) -> Path:
    text = file.read_text()
    moved = _OUR_ADDRESS.sub(lambda found: _moved(found[0], port_base), text)
    if moved == text:
        return file
    copy = folder / file.name
    folder.mkdir(parents=True, exist_ok=True)
    copy.write_text(moved)
    return copy


def try_text(name: str, values: Mapping[str, str]) -> str:
    """What an example says to try, the values in place; empty where it says nothing."""
    file = EXAMPLES / name / "try.txt"
    return Template(file.read_text()).substitute(values) if file.exists() else ""


def _moved(text: str, port_base: int) -> str:
    return _DEFAULT_PORT.sub(lambda port: str(int(port[0]) - _DEFAULT_BASE + port_base), text)


def _merge(into: dict[str, object], table: Mapping[str, object]) -> None:
    for key, value in table.items():
        present = into.get(key)
        if isinstance(present, dict) and isinstance(value, dict):
            _merge(cast("dict[str, object]", present), cast("dict[str, object]", value))
        elif isinstance(present, list) and isinstance(value, list):
            into[key] = [*cast("list[object]", present), *cast("list[object]", value)]
        else:
            into[key] = value
