"""Rows of a result as JSON, no more of them than a guest may have.

Values are written as in change events (events/values), so that what is read here equals what a
listener was given. A collector is fed one result of one row at a time and says when to stop:
libpq holds at most one row more than what was asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import orjson
from psycopg.pq.abc import PGresult

from events.json_codec import JsonObject, decode_object
from events.values.text import Encoder
from listener_runtime.errors import HostCallError

ROWS_MAX: Final = 10_000
RESULT_BYTES_MAX: Final = 8 * 1024 * 1024
_SURPLUS_READ: Final = 1_000
"""Rows past the limit that are read and dropped before it is cheaper to end the statement."""

Row = list[bytes | None]


class TooLargeError(HostCallError):
    """The result is larger than a guest may have; the rest of it is still on its way."""


class RowCollector:
    """The rows of one statement, kept as PostgreSQL's text.

    `limit` is how many are kept; without one, more than ROWS_MAX are an error. `may_cut` says
    whether the statement may be ended once the limit is well passed.
    """

    def __init__(self, limit: int | None, *, may_cut: bool) -> None:
        self.columns: list[str] = []
        self.type_oids: list[int] = []
        self.rows: list[Row] = []
        self._limit = limit
        self._may_cut = may_cut
        self._surplus = 0
        self._bytes_left = RESULT_BYTES_MAX

    def take(self, result: PGresult) -> bool:
        """Take in a result's rows; False says that no more are wanted.

        Raises TooLargeError.
        """
        if not self.columns:
            self._describe(result)
        for number in range(result.ntuples):
            if self._limit is not None and len(self.rows) >= self._limit:
                self._surplus += 1
                if self._may_cut and self._surplus > _SURPLUS_READ:
                    return False
                continue
            if len(self.rows) >= ROWS_MAX:
                raise TooLargeError(
                    f"found more than {ROWS_MAX} rows, expected fewer: add limit to the statement "
                    "or read in portions by key"
                )
            row = [result.get_value(number, column) for column in range(len(self.columns))]
            self._bytes_left -= sum(len(value) for value in row if value is not None)
            if self._bytes_left < 0:
                raise TooLargeError(
                    f"found more than {RESULT_BYTES_MAX} bytes of rows, expected fewer: select "
                    "fewer columns, or fewer rows with limit"
                )
            self.rows.append(row)
        return True

    def json_rows(self, encoder: Callable[[int], Encoder]) -> list[JsonObject]:
        """The rows as JSON objects; raises HostCallError where a value is not text at all."""
        names = [orjson.dumps(name) + b":" for name in self.columns]
        encoders = [encoder(oid) for oid in self.type_oids]
        found: list[JsonObject] = []
        for row in self.rows:
            fields = [
                name + (b"null" if value is None else encode(value))
                for name, encode, value in zip(names, encoders, row, strict=True)
            ]
            try:
                found.append(decode_object(b"{" + b",".join(fields) + b"}"))
            except ValueError as error:
                raise HostCallError(f"a value of the result cannot be read: {error}") from error
        return found

    def _describe(self, result: PGresult) -> None:
        columns = range(result.nfields)
        self.columns = [(result.fname(column) or b"").decode() for column in columns]
        self.type_oids = [result.ftype(column) for column in columns]
        repeated = {name for name in self.columns if self.columns.count(name) > 1}
        if repeated:
            raise TooLargeError(
                f"found more than one column named {', '.join(sorted(repeated))}, expected "
                "different names: write select ... as ..."
            )
