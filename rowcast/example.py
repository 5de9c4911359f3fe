"""The example shop: its tables before capture begins, its rows and listeners once it runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import LiteralString, cast

import psycopg
from pymongo import AsyncMongoClient, UpdateOne

from rowcast.definition_files import apply_files
from rowcast.http_app import EXAMPLES
from rowcast.installation import Installation


async def load_tables(installation: Installation) -> None:
    """Create the example's tables where they are missing."""
    folder = _folder(installation)
    if folder is not None and not _is_loaded(installation):
        await _run_sql(installation, folder / "tables.sql")


async def load_example(installation: Installation, say: Callable[[str], None]) -> None:
    """Apply the example's listeners and write its rows, once for an installation."""
    folder = _folder(installation)
    if folder is None or _is_loaded(installation):
        return
    files = sorted(folder.glob("listeners/*.py")) + sorted(folder.glob("triggers/*.toml"))
    applied = await apply_files(installation, files)
    await _run_sql(installation, folder / "rows.sql")
    await _write_documents(installation, folder / "reviews.json")
    _marker(installation).touch()
    names = ", ".join(definition.name for definition in applied)
    say(f"the example shop is loaded, its listeners: {names}")


def _folder(installation: Installation) -> Path | None:
    name = installation.configuration.example
    sources = installation.configuration.sources
    # Never into a database that is somebody's own.
    embedded = {source for source, settings in sources.items() if not settings.dsn}
    return EXAMPLES / name if name and {"shop", "docs"} <= embedded else None


def _marker(installation: Installation) -> Path:
    return installation.folder / "example_loaded"


def _is_loaded(installation: Installation) -> bool:
    return _marker(installation).exists()


async def _run_sql(installation: Installation, file: Path) -> None:
    # The project's own files; a literal as far as injection is concerned.
    statements = cast("LiteralString", file.read_text())
    async with await psycopg.AsyncConnection.connect(installation.dsn("shop")) as connection:
        await connection.execute(statements)


async def _write_documents(installation: Installation, file: Path) -> None:
    documents = cast("list[dict[str, object]]", json.loads(file.read_text()))
    async with AsyncMongoClient[dict[str, object]](installation.dsn("docs")) as client:
        await client[installation.database("docs")]["reviews"].bulk_write(
            [
                UpdateOne({"_id": document["_id"]}, {"$setOnInsert": document}, upsert=True)
                for document in documents
            ]
        )
