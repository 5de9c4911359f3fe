"""Loads the examples of an installation: tables before capture begins, the rest once it runs."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import LiteralString, cast

import psycopg
from pymongo import AsyncMongoClient, UpdateOne

from infra.process import ProcessSpec
from rowcast.definition_files import apply_files
from rowcast.errors import ConfigurationError
from rowcast.example_files import EXAMPLES, definition_files
from rowcast.installation import Installation


def check_examples(installation: Installation, wanted: Sequence[str]) -> None:
    """Raise ConfigurationError where an installation was made for other examples."""
    found = installation.configuration.examples
    if wanted and set(wanted) != set(found):
        raise ConfigurationError(
            f"{installation.folder / 'rowcast.toml'} has example = {list(found)}, found --example "
            f"{' '.join(wanted)}; an installation keeps what it was made with, name another "
            "folder with --dir"
        )


async def load_tables(installation: Installation) -> None:
    """Create the examples' tables where they are missing."""
    for name in _names(installation):
        if not _is_loaded(installation, name):
            await _run_sql(installation, EXAMPLES / name / "tables.sql")


async def load_examples(installation: Installation, say: Callable[[str], None]) -> None:
    """Apply the examples' definitions and write their rows, once for an installation."""
    for name in _names(installation):
        if _is_loaded(installation, name):
            continue
        folder = EXAMPLES / name
        copies = installation.folder / "example" / name
        files = definition_files(name, installation.port_base, copies)
        applied = await apply_files(installation, files) if files else []
        await _run_sql(installation, folder / "rows.sql")
        for file in sorted(folder.glob("documents/*.json")):
            await _write_documents(installation, file)
        with _marker(installation).open("a") as marker:
            marker.write(f"{name}\n")
        names = ", ".join(definition.name for definition in applied)
        say(f"the example {name} is loaded, its definitions: {names}")


@dataclass(frozen=True, slots=True)
class ExampleServer:
    """A small server that an example brings."""

    process: ProcessSpec
    port: int

    async def answers(self) -> bool:
        """Whether something listens at its port."""
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True


def example_servers(installation: Installation) -> list[ExampleServer]:
    """The small servers of [example_servers]; raises ConfigurationError for what is none."""
    return [
        _server(installation, name, text)
        for name, text in installation.configuration.example_servers.items()
    ]


def _server(installation: Installation, name: str, text: str) -> ExampleServer:
    file, *arguments = text.split() or [""]
    program, port = EXAMPLES / file, (arguments or [""])[0]
    if not program.is_file() or EXAMPLES not in program.resolve().parents or not port.isdecimal():
        raise ConfigurationError(
            f"found {name} = {text!r} in [example_servers], expected a file below {EXAMPLES} and "
            "a port, as in 'user-onboarding/mail_server.py 8405'"
        )
    log = installation.logs / f"{name}.log"
    environment = {"PYTHONUNBUFFERED": "1", "ROWCAST_HTTP": installation.http_url}
    command = (sys.executable, str(program), *arguments)
    return ExampleServer(ProcessSpec(f"example-{name}", command, log, environment), int(port))


def _names(installation: Installation) -> tuple[str, ...]:
    sources = installation.configuration.sources
    # Never into a database that is somebody's own.
    embedded = {source for source, settings in sources.items() if not settings.dsn}
    return installation.configuration.examples if {"shop", "docs"} <= embedded else ()


def _marker(installation: Installation) -> Path:
    return installation.folder / "example_loaded"


def _is_loaded(installation: Installation, name: str) -> bool:
    marker = _marker(installation)
    return marker.exists() and name in marker.read_text().split()


async def _run_sql(installation: Installation, file: Path) -> None:
    if not file.exists():
        return
    # The project's own files; a literal as far as injection is concerned.
    statements = cast("LiteralString", file.read_text())
    async with await psycopg.AsyncConnection.connect(installation.dsn("shop")) as connection:
        await connection.execute(statements)


async def _write_documents(installation: Installation, file: Path) -> None:
    documents = cast("list[dict[str, object]]", json.loads(file.read_text()))
    async with AsyncMongoClient[dict[str, object]](installation.dsn("docs")) as client:
        await client[installation.database("docs")][file.stem].bulk_write(
            [
                UpdateOne({"_id": document["_id"]}, {"$setOnInsert": document}, upsert=True)
                for document in documents
            ]
        )
