"""An entry of MongoDB's profiler: was it a read, of which collections, by whom? Pure.

https://www.mongodb.com/docs/v6.0/reference/database-profiler/
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, cast

from bson.datetime_ms import DatetimeMS

Document = Mapping[str, object]

READ_VERBS: Final = frozenset(
    ("find", "aggregate", "count", "distinct", "findAndModify", "mapReduce")
)
"""Commands that give documents or what is made of them; findAndModify gives what it changes."""

GET_MORE: Final = "getMore"
_SPELLINGS: Final = {verb.lower(): verb for verb in (*READ_VERBS, GET_MORE)}
_TRUNCATED_VERB: Final = re.compile(r"\{ (\w+):")


@dataclass(frozen=True, slots=True)
class ProfileEntry:
    """One read.

    `record` is its place in the profiler's collection, `rows` how many documents it gave where
    that is known; `command` is empty and `truncated` its text where it was too large.
    """

    record: int
    at_ms: int
    database: str
    verb: str
    collections: frozenset[str]
    command: Document
    truncated: str | None
    rows: int | None
    user: str | None
    application: str | None
    client: str | None
    session: str | None
    comment: object


def entry_position(document: Document) -> tuple[int, int]:
    """Record and time (ms since 1970) of any entry, be it a read or not."""
    record, at = document.get("$recordId"), document.get("ts")
    at_ms = int(at) if isinstance(at, DatetimeMS) else 0
    # pymongo gives an int of its own for BSON's long.
    return (int(record) if isinstance(record, int) else 0), at_ms


def read_entry(document: Document) -> ProfileEntry | None:
    """The read that an entry tells of, None where it is another operation or one that failed."""
    command = _document(document.get("command"))
    truncated = _text(command.get("$truncated"))
    verb = _verb(command, truncated)
    if verb is None or "errCode" in document or "errMsg" in document:
        return None
    database, _, collection = str(document.get("ns")).partition(".")
    origin = _document(document.get("originatingCommand"))
    # What a getMore goes on with is the statement; its batch alone says nothing.
    said = origin if verb == GET_MORE and origin else command
    if verb == GET_MORE and truncated is None:
        truncated = _text(origin.get("$truncated"))
    record, at_ms = entry_position(document)
    rows = document.get("nreturned")
    session = _document(command.get("lsid")).get("id")
    return ProfileEntry(
        record=record,
        at_ms=at_ms,
        database=database,
        verb=verb,
        collections=frozenset((collection, *_others(said, document.get("resolvedViews")))),
        command={} if truncated is not None else said,
        truncated=truncated,
        rows=int(rows) if isinstance(rows, int) else None,
        user=_text(document.get("user")) or None,
        application=_text(document.get("appName")) or None,
        client=_text(document.get("client")) or None,
        session=session.hex() if isinstance(session, bytes) else None,
        comment=said.get("comment", command.get("comment")),
    )


def _verb(command: Document, truncated: str | None) -> str | None:
    if truncated is not None:
        found = _TRUNCATED_VERB.match(truncated)
        return _SPELLINGS.get(found[1].lower()) if found else None
    first = next(iter(command), "")
    return _SPELLINGS.get(first.lower())


def _others(command: Document, views: object) -> Iterable[str]:
    """Collections that a pipeline reads beside its own, and those under views."""
    yield from joined_collections(command.get("pipeline"))
    for view in _items(views):
        found = _document(view)
        yield from (str(name) for name in _items(found.get("dependencyChain")))
        yield from joined_collections(found.get("resolvedPipeline"))


def joined_collections(value: object) -> Iterable[str]:
    """The collections that a pipeline reads beside its own, in nested ones too."""
    for item in _items(value):
        yield from joined_collections(item)
    for name, inner in _document(value).items():
        joined = _document(inner)
        if name in ("$lookup", "$graphLookup"):
            yield from _name(joined.get("from"))
        elif name == "$unionWith":
            yield from _name(inner if isinstance(inner, str) else joined.get("coll"))
        yield from joined_collections(inner)


def _name(value: object) -> Iterable[str]:
    if isinstance(value, str):
        yield value


def _items(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else []


def _document(value: object) -> Document:
    return cast("Document", value) if isinstance(value, Mapping) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
