"""A guest's statement: what was asked for, whether it may be asked, and the answer's shape."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from psycopg.pq.abc import PGresult

from events.json_codec import JsonObject
from listener_runtime.errors import HostCallError
from listener_runtime.postgres_parameters import Types
from listener_runtime.postgres_rows import ROWS_MAX, RowCollector

_SQL_BYTES_MAX: Final = 1024 * 1024
_PARAMS_MAX: Final = 65_535
_NOTHING: Final = re.compile(r"^[\s;]+|^--[^\n]*\n?")
_FIRST_WORD: Final = re.compile(r"[A-Za-z]+")
_TRANSACTION_WORDS: Final = frozenset(
    (
        *("begin", "start", "commit", "end", "rollback", "abort", "savepoint", "release"),
        "prepare",
    )
)
TRANSACTION_TAGS: Final = frozenset(
    (
        *(b"BEGIN", b"START TRANSACTION", b"COMMIT", b"ROLLBACK", b"PREPARE TRANSACTION"),
        b"COMMIT PREPARED",
    )
)
"""Command tags of statements that begin or end a transaction."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One `db.execute`, `db.fetch` or `db.fetch_one`."""

    kind: Literal["execute", "fetch", "fetch_one"]
    sql: str
    params: tuple[object, ...]
    limit: int | None = None

    def check(self) -> None:
        """Raise HostCallError where it may not be sent at all."""
        try:
            size = len(self.sql.encode())
        except UnicodeEncodeError as error:
            raise HostCallError(f"the statement is not valid text: {error}") from error
        if size > _SQL_BYTES_MAX or "\0" in self.sql:
            raise HostCallError(
                f"found a statement of {size} bytes, expected {_SQL_BYTES_MAX} at most, and no "
                "character \\u0000"
            )
        if len(self.params) > _PARAMS_MAX:
            raise HostCallError(
                f"found {len(self.params)} parameters, expected {_PARAMS_MAX} at most"
            )
        if self.limit is not None and not 0 <= self.limit <= ROWS_MAX:
            raise HostCallError(f"found limit {self.limit}, expected 0 to {ROWS_MAX}")
        word = _first_word(self.sql)
        if word in _TRANSACTION_WORDS:
            raise HostCallError(
                f"found {word!r}, expected a transaction of g.db(...), which carries the chain "
                "that stops loops"
            )
        if word == "copy":
            raise HostCallError("COPY cannot be used by a listener; insert ... select ... can")

    def collector(self, *, may_cut: bool) -> RowCollector:
        """What takes its rows in."""
        if self.kind == "execute":
            return RowCollector(0, may_cut=False)
        limit = 1 if self.kind == "fetch_one" else self.limit
        return RowCollector(limit, may_cut=may_cut)

    def answer(self, result: PGresult | None, rows: RowCollector, types: Types) -> JsonObject:
        """What the guest is given; `result` is None where the rows were cut off."""
        if self.kind == "execute":
            return {"rows": (result.command_tuples or 0) if result is not None else 0}
        found = rows.json_rows(types.catalogue.encoder)
        if self.kind == "fetch_one":
            return {"row": found[0] if found else None}
        return {"rows": [*found]}


def _first_word(sql: str) -> str:
    """The first word of a statement in lower case, behind comments and semicolons."""
    rest = sql
    while True:
        if rest.startswith("/*"):
            rest = _behind_comment(rest)
        elif match := _NOTHING.match(rest):
            rest = rest[match.end() :]
        else:
            word = _FIRST_WORD.match(rest)
            return word[0].lower() if word else ""


def _behind_comment(sql: str) -> str:
    """What follows a comment, in which comments may nest."""
    depth = 0
    for mark in re.finditer(r"/\*|\*/", sql):
        depth += 1 if mark[0] == "/*" else -1
        if depth == 0:
            return sql[mark.end() :]
    return ""
