"""Rows of one table that stand in an answer: how many, and their keys. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import orjson

Telling: TypeAlias = Literal["after", "before", "off"]
"""When reads through the data API are told of: after the answer, before it, or not at all."""


@dataclass(frozen=True, slots=True)
class ReadPlace:
    """Where rows are read: a table, or a collection and its database."""

    connector: Literal["postgresql", "mongodb"]
    source: str
    database: str
    schema: str
    table: str


@dataclass(frozen=True, slots=True)
class TableRead:
    """`keys` is JSON objects joined by commas, None where they are not known."""

    place: ReadPlace
    rows: int
    keys: bytes | None


def distinct_keys(keys: bytes) -> tuple[int, bytes | None]:
    """How many rows these are, each counted once, and their keys.

    A row that several others embed is there for each of them; `null` stands for a row whose key
    is not known.
    """
    found = orjson.loads(b"[" + keys + b"]")
    if None in found:
        return len(found), None
    once = dict.fromkeys(orjson.dumps(key) for key in found)
    return len(once), b",".join(once)
